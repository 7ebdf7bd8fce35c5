"""What Slurm says after a death, with `scontrol` and `sacct` as programs on PATH that answer as Slurm's do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runfold.node.notices.slurm import (
    ASK_AFTER_S,
    JobState,
    SlurmJobs,
    has_ended_well,
    has_slurm,
    parse_sacct,
    parse_scontrol,
)
from runfold.node.tail import WriterTail
from runfold.protocol.identity import Identity
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.spool import SpoolWriter
from support.processes import until
from support.spooler import open_writer

LINE = (
    "JobId=17 JobName=train.sh UserId=eve(1000) GroupId=eve(1000) MCS_label=N/A Priority=1 Nice=0 Account=a QOS=low "
    "JobState={state} Reason={reason} Dependency=(null) Requeue=1 Restarts={restarts} BatchFlag=1 Reboot=0 "
    "ExitCode=0:0 RunTime=00:10:00 PreemptEligibleTime=2026-01-02T03:04:05 PreemptTime={preempt} "
    "Comment=JobState=COMPLETED WorkDir=/home/eve\n"
)


def scontrol(state: str, reason: str = "None", restarts: int = 0, preempt: str = "None") -> str:
    return LINE.format(state=state, reason=reason, restarts=restarts, preempt=preempt)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (scontrol("RUNNING"), JobState("RUNNING")),
        (scontrol("TIMEOUT", "TimeLimit"), JobState("TIMEOUT", "TimeLimit")),
        (scontrol("PREEMPTED+COMPLETING"), JobState("PREEMPTED")),
        (scontrol("RUNNING", preempt="2026-01-02T03:04:05"), JobState("RUNNING", is_preempted=True)),
        (scontrol("PENDING", "BeginTime", 2), JobState("PENDING", "BeginTime", 2)),
    ],
)
def test_the_state_is_read_from_the_line_of_scontrol(text: str, found: JobState):
    assert parse_scontrol(text) == found
    assert found.goes_on == (found.state == "RUNNING")


@pytest.mark.parametrize(
    "text", ["", "slurm_load_jobs error: Invalid job id specified", "JobState=", "\0" * 100]
)
def test_no_state_is_no_state(text: str):
    with pytest.raises(ValueError):
        parse_scontrol(text)


def test_of_several_starts_sacct_tells_the_last_that_ended():
    assert parse_sacct("NODE_FAIL\nPREEMPTED\nPENDING\n") == JobState("PREEMPTED")
    assert parse_sacct("CANCELLED by 1000\n") == JobState("CANCELLED", "by 1000")
    assert parse_sacct("RUNNING\n").goes_on
    with pytest.raises(ValueError):
        parse_sacct("\n")


class Told:
    def __init__(self) -> None:
        self.alive: dict[bytes, bool] = {}
        self.said: list[tuple[bytes, str, Mapping[str, Any]]] = []

    def processes(self) -> list[tuple[bytes, Identity, bool]]:
        return [(writer, Identity(), alive) for writer, alive in self.alive.items()]

    def testify(self, writer: bytes, source: str, facts: Mapping[str, Any]) -> None:
        self.said.append((writer, source, facts))


class Node:
    """Processes of Slurm jobs, the duty, and programs that stand for Slurm's."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.now_s = 0.0
        self.told = Told()
        self.spools: list[SpoolWriter] = []
        self.tails: list[WriterTail] = []
        self.bin = base / "bin"
        self.bin.mkdir()
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        self.duty = SlurmJobs(self.told, clock=lambda: self.now_s, jitter=lambda: 0.0)  # type: ignore[arg-type]

    def program(self, name: str, output: str, status: int = 0) -> None:
        (self.bin / f"{name}.out").write_text(output)
        path = self.bin / name
        path.write_text(
            f'#!/bin/sh\necho "$0 $*" >> {self.bin}/calls\ncat {self.bin}/{name}.out\nexit {status}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self) -> list[str]:
        path = self.bin / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(f"{self.bin}/") for line in lines]

    def rank(
        self, job: str | None = "17", *, code: int | None = None, restarts: int | None = None
    ) -> WriterTail:
        spool = open_writer(self.base, "local", launcher={"scheduler_job": job, "restart_hint": restarts})
        if code is not None:
            spool.append_record(RecordKind.EXIT, ExitRecord(code=code).pack())
        self.spools.append(spool)
        tail = WriterTail(self.base / "local" / spool.writer_id.hex())
        tail.is_alive = True
        self.tails.append(tail)
        self.told.alive[tail.writer] = True
        self.duty.writer_found(tail)
        return tail

    def dies(self, tail: WriterTail) -> None:
        tail.is_alive = False
        self.told.alive[tail.writer] = False
        self.duty.writer_ended(tail)

    def ask(self, after_s: float) -> None:
        """Let time pass; return when what was asked is answered."""
        self.now_s += after_s
        self.duty.step(self.now_s)
        if self.duty._thread is not None:
            self.duty._thread.join(20)
        self.duty.step(self.now_s)

    def close(self) -> None:
        for tail in self.tails:
            tail.close()
        for spool in self.spools:
            spool.close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(tmp_path, monkeypatch)
    yield made
    made.close()


def test_a_job_that_ran_out_of_time_is_told_for_those_that_were_killed(node: Node):
    node.program("scontrol", scontrol("TIMEOUT", "TimeLimit"))
    assert has_slurm()
    killed, alive, well = node.rank(), node.rank(), node.rank(code=0)
    assert has_ended_well(well) and not has_ended_well(killed)
    node.dies(killed)
    node.dies(well)
    node.ask(0.1)
    assert node.calls() == [], "all nodes of a job would ask at once"
    node.ask(1.0)
    facts = {"system": "slurm", "state": "TIMEOUT", "text": "Slurm job 17: TIMEOUT (TimeLimit)"}
    assert node.told.said == [(killed.writer, "scheduler", facts)]
    assert alive.writer not in {writer for writer, _, _ in node.told.said}
    node.ask(1000.0)
    assert node.calls() == ["scontrol show job -o 17"]


def test_a_preemption_is_a_cause_for_the_dead_and_a_notice_for_the_living(node: Node):
    node.program("scontrol", scontrol("RUNNING", preempt="2026-01-02T03:04:05"))
    killed, alive, elsewhere = node.rank(), node.rank(), node.rank("18")
    node.dies(killed)
    node.ask(1.0)
    assert [(writer, source) for writer, source, _ in node.told.said] == [(alive.writer, "notice")]
    node.program("scontrol", scontrol("PREEMPTED"))
    node.ask(ASK_AFTER_S[1])
    assert [(writer, source) for writer, source, _ in node.told.said] == [
        (alive.writer, "notice"), (killed.writer, "scheduler"),
    ]  # fmt: skip
    assert elsewhere.writer not in {writer for writer, _, _ in node.told.said}


def test_a_job_that_is_not_over_is_asked_about_a_few_times_only(node: Node):
    node.program("scontrol", scontrol("COMPLETING"))
    node.dies(node.rank())
    for _ in range(50):
        node.ask(1000.0)
    assert len(node.calls()) == len(ASK_AFTER_S)
    assert node.told.said == []


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_a_job_that_ended_by_itself_tells_nothing(node: Node, state: str):
    node.program("scontrol", scontrol(state))
    node.dies(node.rank())
    for _ in range(3):
        node.ask(1000.0)
    assert (node.told.said, len(node.calls())) == ([], 1)


def test_what_the_controller_forgot_the_accounting_knows(node: Node):
    node.program("scontrol", "slurm_load_jobs error: Invalid job id specified\n", status=1)
    node.program("sacct", "OUT_OF_MEMORY\n")
    node.dies(node.rank("17_4"))
    node.ask(1.0)
    assert [facts["state"] for _, _, facts in node.told.said] == ["OUT_OF_MEMORY"]
    assert node.calls()[1] == "sacct -D -X -n -P -o State -j 17_4"


@pytest.mark.parametrize(("accounting", "state"), [("PREEMPTED\nPENDING\n", "PREEMPTED"), ("", "REQUEUED")])
def test_a_requeued_job_waits_and_the_accounting_tells_why(node: Node, accounting: str, state: str):
    node.program("scontrol", scontrol("PENDING", "BeginTime", restarts=1))
    node.program("sacct", accounting)
    node.dies(node.rank(restarts=0))
    node.ask(1.0)
    assert [facts["state"] for _, _, facts in node.told.said] == [state]


def test_a_job_that_runs_again_already_was_requeued(node: Node):
    node.program("scontrol", scontrol("RUNNING", restarts=3))
    node.program("sacct", "", status=1)
    node.dies(node.rank(restarts=2))
    node.ask(1.0)
    assert [facts["state"] for _, _, facts in node.told.said] == ["REQUEUED"]


@pytest.mark.parametrize("job", [None, "", "17; rm -rf /", "--help", "17 18", "x", "-17", "17_", "1e3"])
def test_what_is_no_job_id_is_never_given_to_a_program(node: Node, job: str | None):
    node.program("scontrol", scontrol("TIMEOUT"))
    node.dies(node.rank(job))
    node.ask(10.0)
    assert node.calls() == []


def test_without_slurm_or_an_answer_nothing_is_said_and_nothing_breaks(node: Node):
    node.dies(node.rank())
    node.ask(1.0)
    node.program("scontrol", "\xff\xfe" * 1000, status=3)
    node.ask(1000.0)
    assert node.told.said == []
    until(lambda: node.duty._thread is None or not node.duty._thread.is_alive())
