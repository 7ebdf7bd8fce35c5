"""Writers of one run, delivered in any interleaving, with evidence at any moment: the same run."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from runfold.protocol.frames import Frame
from runfold.protocol.records import (
    ConfigRecord,
    ExitRecord,
    MetricRecord,
    RecordKind,
    RunRecord,
    SummaryRecord,
)
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.run_lanes import load_lanes
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.store import Store
from support.frames import START_NS, Bench, Speaker, only_run

Line = list[Frame | bytes]
JOB = {"source": "slurm", "job_id": "7"}


def lines() -> list[Line]:
    """What each writer says; bytes stand for the agent's word that the writer of this id is gone."""
    made: list[Line] = []
    for number, (rank, attempt) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (None, 1)]):
        speaker = Speaker(bytes([65 + number]) * 16)
        line: Line = [
            speaker.hello(
                mode="shared",
                rank=rank,
                label="side" if rank is None else None,
                name=f"name {rank} {attempt}",
                tags=(f"tag{rank}",) if rank else (),
                notes=f"notes {number}" if number > 1 else None,
                group=f"group {number % 2}",
                config={"lr": 0.1 * (number % 3), "same": 1, f"own{number}": {"a": number}},
                started_unix_ns=START_NS + attempt * 10**9 + number,
                launcher=JOB | {"restart_hint": attempt},
            ),
            speaker.others(
                (RecordKind.METRIC, MetricRecord("loss", step_metric="epoch", step_sync=True).pack()),
                (
                    RecordKind.METRIC,
                    MetricRecord("loss", summary=("min", "mean") if number % 2 else ("max",)).pack(),
                ),
            ),
        ]
        low = 40 * attempt // 2
        for step in range(low, low + 40, 10):
            line.append(
                speaker.rows(
                    {"loss": [number + s / 7 for s in range(step, step + 10)], "acc": [0.1 * number] * 10},
                    steps=range(step, step + 10),
                    flags=1,
                )
            )
            line.append(speaker.maps((step + 9, {"epoch": step, "text": f"{number}"})))
            if step == low + 10:
                line.append(
                    speaker.others(
                        (
                            RecordKind.CONFIG,
                            ConfigRecord({"late": number}, ("lr",) if number == 3 else ()).pack(),
                        ),
                        (RecordKind.SUMMARY, SummaryRecord((("set", ("hand",), number),)).pack()),
                        (RecordKind.RUN, RunRecord(name=f"new {number}" if number % 2 else None).pack()),
                    )
                )
        line.append(speaker.rows({"loss": [float(number)]}, steps=[low + 2], flags=1))
        if number in (1, 4):
            line.append(speaker.writer)
        else:
            line.append(speaker.others((RecordKind.EXIT, ExitRecord(0, "finish").pack())))
        made.append(line)
    return made


def deliver(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench(store)
    left = lines()
    heads = {frame.writer: frame.hi for line in left for frame in line if isinstance(frame, Frame)}
    summaries = SummaryReader(store)
    while any(left):
        batch: list[Frame] = []
        for _ in range(rng.randint(1, 6)):
            full = [line for line in left if line]
            if not full:
                break
            said = rng.choice(full)
            # The agent's word overtakes the data: control is read first.
            at = len(said) - 1 if isinstance(said[-1], bytes) and rng.random() < 0.2 else 0
            what = said.pop(at)
            if isinstance(what, bytes):
                beat = WriterBeat(what, heads[what], False)
                bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, (beat,)))
                bench.board.tick()
            else:
                batch.append(what)
        if batch:
            bench.feed(*batch)
        if rng.random() < 0.3:
            summaries._fold(only_run(store), save_after=0)
        if rng.random() < 0.2:
            bench.clock.now_s += rng.choice([1.0, 20.0, 400.0])
            bench.board.tick()
        if rng.random() < 0.1:
            Compactor(store).settle_some(float("inf"))
        if rng.random() < 0.1:
            bench = Bench(store)
    # An agent says it of each writer until everything of it is stored.
    dead = tuple(WriterBeat(line[-1], 0, False) for line in lines() if isinstance(line[-1], bytes))
    bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, dead))
    bench.board.tick()


def seen(store: Store) -> dict[str, Any]:
    """What readers see, by writer id; what depends on the moment of arrival left out."""
    run = only_run(store)
    lanes = load_lanes(store, run)
    ids = {seat.writer.writer_pk: seat.writer.writer_id for seat in lanes.seats}
    failure = {k: v for k, v in (run.first_failure or {}).items() if k != "ended_unix_ns"}
    history, rows = HistoryReader(store), []
    for per_writer in (False, True):
        page = history.scan(run, limit=10_000, per_writer=per_writer)
        rows.append(repr(page.rows))
    return {
        "run": (run.name, run.notes, run.tags, run.group, run.mode, run.state, run.reason, run.last_step),
        "started": (run.started_unix_ns, run.row_count, ids.get(run.primary_writer_pk or 0), failure),
        "config": (repr(run.config), repr(run.config_conflicts), repr(run.definitions)),
        "lanes": [
            [(s.writer.writer_id, s.placement, s.writer.state, s.writer.reason) for s in lane.seats]
            for lane in lanes.lanes
        ],
        "keys": lanes.keys,
        "summary": repr(SummaryReader(store).summary(run)),
        "accounting": store.accounting(run.run_pk),
        "rows": rows,
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('plain') / 'a.db'}")
    bench = Bench(store)
    for line in lines():
        bench.feed(*(frame for frame in line if isinstance(frame, Frame)))
        for word in line:
            if isinstance(word, bytes):
                bench.liveness.hear(Heartbeat("n", "h", "b", 0.0, 5.0, (WriterBeat(word, 0, False),)))
    bench.board.tick()
    found = seen(store)
    store.close()
    return found


@pytest.mark.parametrize("seed", range(12))
def test_any_interleaving_of_writers_and_evidence_gives_the_same_run(
    seed: int, plain: dict[str, Any], tmp_path: Path
) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'rough.db'}", cold_url=str(tmp_path / "cold"))
    deliver(store, seed)
    found = seen(store)
    for name, value in plain.items():
        assert found[name] == value, name
    store.close()
