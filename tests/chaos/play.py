"""Plays one schedule and judges it: `play(schedule, folder)` gives a verdict or raises AssertionError."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import runfold
from chaos.faults import Undo, inject
from chaos.schedule import Schedule
from chaos.stage import Stage, Trainer
from chaos.uploads import Uploaded, check_uploads
from support.checks import check_accounting, check_rows, rows_by_writer
from support.known import value
from support.processes import until

#: Everything acknowledged must be readable this soon after the last fault was undone.
HEAL_LIMIT_S = 45.0
#: ... and all that was uploaded: an agent that was refused asks again within half a minute.
UPLOAD_LIMIT_S = 90.0
MAX_AGENT_BYTES = 150 * 1024 * 1024
MAX_COORDINATOR_BYTES = 500 * 1024 * 1024
TERMINAL = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


@dataclass(slots=True)
class Verdict:
    """Figures of a schedule that held."""

    seed: int
    rows: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    declared_lost: int = 0
    heal_s: float = 0.0
    agent_bytes: int = 0
    coordinator_bytes: int = 0
    reads: int = 0
    uploaded: Uploaded | None = None

    def __str__(self) -> str:
        faults = " ".join(f"{kind}*{count}" for kind, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed}: {self.rows} rows, lost 0, doubled 0, declared {self.declared_lost}, "
            f"healed in {self.heal_s:.1f} s, agent {self.agent_bytes >> 20} MB, "
            f"coordinator {self.coordinator_bytes >> 20} MB, {self.reads} reads{f', {self.uploaded}' if self.uploaded else ''} | {faults}"
        )


class Watch:
    """Reads all the while, and measures memory: nothing that was shown may vanish, no live run may look dead."""

    def __init__(self, stage: Stage) -> None:
        self.faults_seen: list[str] = []
        self.agent_bytes = 0
        self.coordinator_bytes = 0
        self.reads = 0
        self._stage = stage
        self._highest: dict[str, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._done.wait(0.25):
            for trainer in list(self._stage.trainers):
                self._read(trainer)
            for part in ("agent", "coordinator"):
                for pid in self._stage.server.pids(part):  # type: ignore[arg-type]
                    self._measure(part, pid)

    def _read(self, trainer: Trainer) -> None:
        alive_before = trainer.process.poll() is None
        try:
            api = runfold.Api(url=self._stage.server.url, timeout=2)
            run = api.run(f"chaos/{trainer.run_id}")
            stored, state = run.accounting()["stored"], run.state
        except (
            Exception
        ):  # the coordinator is away, or the run is not known yet; both are part of the schedule
            return
        self.reads += 1
        if stored < self._highest.get(trainer.run_id, 0):
            self.faults_seen.append(
                f"{trainer.run_id}: {self._highest[trainer.run_id]} records were stored, now {stored}"
            )
        self._highest[trainer.run_id] = stored
        if (
            alive_before
            and trainer.process.poll() is None
            and not trainer.oracle.finished
            and state in TERMINAL
        ):
            self.faults_seen.append(f"{trainer.run_id} reads {state} ({run.reason}) while its process lives")

    def _measure(self, part: str, pid: int) -> None:
        try:
            size = psutil.Process(pid).memory_info().rss
        except psutil.Error:
            return
        if part == "agent":
            self.agent_bytes = max(self.agent_bytes, size)
        else:
            self.coordinator_bytes = max(self.coordinator_bytes, size)


def play(schedule: Schedule, folder: Path, *, db: str | None = None) -> Verdict:
    """Run the schedule to its end and check every promise.

    Raises:
        AssertionError: A row was lost, doubled or reordered, or another promise broken.
    """
    verdict = Verdict(schedule.seed)
    with Stage(schedule, folder, db=db) as stage:
        with Watch(stage) as watch:
            _inject_all(stage, schedule, verdict)
            stage.heal()
            _end_trainers(stage)
            if not stage.server.pids(
                "agent"
            ):  # the last was killed after the last trainer: as the next run would do
                stage.server.restart("agent")
            healed = time.monotonic()
            lost = until(lambda: _delivered(stage, schedule), HEAL_LIMIT_S, 0.2)
            if schedule.uploads:
                verdict.uploaded = until(lambda: check_uploads(stage), UPLOAD_LIMIT_S, 0.5)
            verdict.heal_s = time.monotonic() - healed
        verdict.declared_lost = lost[0]
        assert watch.faults_seen == [], watch.faults_seen
        verdict.rows = sum(trainer.oracle.acked for trainer in stage.trainers)
        verdict.agent_bytes, verdict.coordinator_bytes = watch.agent_bytes, watch.coordinator_bytes
        verdict.reads = watch.reads
        assert watch.agent_bytes < MAX_AGENT_BYTES, f"the agent took {watch.agent_bytes >> 20} MB"
        assert watch.coordinator_bytes < MAX_COORDINATOR_BYTES, (
            f"the coordinator took {watch.coordinator_bytes >> 20} MB"
        )
        _check_reduced(stage, schedule)
    return verdict


def _inject_all(stage: Stage, schedule: Schedule, verdict: Verdict) -> None:
    began = time.monotonic()
    pending: list[tuple[float, Undo]] = []
    events = sorted(schedule.faults, key=lambda fault: fault.at_s)

    def run_due() -> None:
        now = time.monotonic() - began
        for due in [one for one in pending if one[0] <= now]:
            pending.remove(due)
            due[1]()

    for fault in events:
        while (now := time.monotonic() - began) < fault.at_s:
            run_due()
            time.sleep(min(0.05, max(0.0, fault.at_s - now)))
        undo = inject(stage, fault)
        verdict.faults[fault.kind] = verdict.faults.get(fault.kind, 0) + 1
        if undo is not None:
            pending.append((time.monotonic() - began + fault.lasts_s, undo))
    while pending:
        run_due()
        time.sleep(0.05)


def _end_trainers(stage: Stage) -> None:
    """Wait for the trainers; what they return must be what they would return without us."""
    for trainer in stage.trainers:
        output, _ = trainer.process.communicate(timeout=stage.schedule.seconds + 40)
        if not trainer.killed:
            assert trainer.process.returncode == trainer.exit_code, (
                f"status {trainer.process.returncode}:\n{output}"
            )
            assert trainer.oracle.finished, output


def _delivered(stage: Stage, schedule: Schedule) -> tuple[int]:
    """Check that all is delivered; return how many rows are declared lost, in a tuple so that 0 is true."""
    api = runfold.Api(url=stage.server.url, timeout=10)
    declared = missing = 0
    for run_id in sorted({trainer.run_id for trainer in stage.trainers if trainer.oracle.acked}):
        run = _run(api, run_id)
        counts = check_accounting(run, complete=False)
        assert counts["pending"] == 0, f"{run_id}: {counts}"
        assert counts["dead_letters"] == 0, f"{run_id}: {counts}"
        declared += counts["declared_gaps"]
        rows = rows_by_writer(run)
        for trainer in stage.trainers:
            if trainer.run_id == run_id:
                oracle = trainer.oracle
                lost = check_rows(
                    rows.pop(trainer.writer, []),
                    trainer.writer,
                    acked=oracle.acked,
                    attempted=oracle.attempted,
                )
                missing += len(lost)
                assert not lost or schedule.needs_disks, (
                    f"writer {trainer.writer} lost {len(lost)} rows from {lost[0]}"
                )
        assert not rows, f"rows of writers that do not exist: {sorted(rows)}"
    assert missing <= declared, f"{missing} rows are missing, {declared} are declared"
    return (declared,)


def _run(api: Any, run_id: str) -> Any:
    try:
        return api.run(f"chaos/{run_id}")
    except Exception as error:  # no answer yet counts as "not delivered yet"
        raise AssertionError(f"{run_id}: {error!r}") from error


def _check_reduced(stage: Stage, schedule: Schedule) -> None:
    """The reduced series of a shared run equals numpy's over the rows that are there."""
    if not schedule.shared:
        return
    run = runfold.Api(url=stage.server.url, timeout=30).run(f"chaos/seed{schedule.seed}")
    by_step: dict[int, list[float]] = {}
    for writer, rows in sorted(rows_by_writer(run).items()):
        for row in rows:
            by_step.setdefault(int(row["n"]), []).append(value(writer, int(row["n"])))
    reduced = {int(row["_step"]): row["v"] for row in run.scan_history(keys=["_step", "v"], page_size=10_000)}
    assert sorted(reduced) == sorted(by_step)
    steps = sorted(by_step)
    np.testing.assert_allclose(
        [reduced[step] for step in steps], [np.mean(by_step[step]) for step in steps], rtol=1e-12
    )
