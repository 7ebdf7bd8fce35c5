"""What looks like a hang and is none, and hangs that are easily missed: scripted, through the whole board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold.protocol.evidence import WAIT, Evidence
from runfold.protocol.records import ExitRecord, RecordKind
from runfold_coordinator.store.store import Store
from support.frames import only_run
from support.stores import new_database
from support.verdict_job import Job, Rank


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    store = Store.open(new_database(tmp_path / "runfold.db"))
    yield Job(store, 3)
    store.close()


def none_was_told(job: Job) -> bool:
    verdicts = job.verdicts
    return job.stalled() == [] and verdicts.get("stall") is None and not verdicts.get("stall_count")


def test_an_evaluation_in_timers_is_none_though_it_is_the_first(job: Job) -> None:
    job.steps(50)
    for batch in range(60):
        phase = {"alive": True, "phase": "eval", "phase_s": 0.4} if batch % 2 else {"alive": True}
        job.beats = [dict(phase) for _ in job.ranks]
        job.pass_(5)
    assert none_was_told(job)
    job.steps(5)
    job.beats = [{"alive": True}] * 3
    job.pass_(75)
    assert job.stalled() == [0, 1, 2], "what was no pause has taught no patience"


def test_a_compiler_that_runs_again_is_none(job: Job) -> None:
    job.steps(1)
    for _ in range(4):
        job.pass_(150)
        job.steps(2)
    assert none_was_told(job)


def test_a_recompilation_after_some_steps_is_none(job: Job) -> None:
    job.steps(1)
    job.pass_(150)
    job.steps(8)
    job.pass_(170)
    job.steps(2)
    assert none_was_told(job)


def test_a_row_every_ten_minutes_is_none(job: Job) -> None:
    job.steps(8, every_s=600.0)
    job.pass_(1200)
    assert none_was_told(job)


def test_rows_of_a_whole_epoch_at_once_are_no_pace(job: Job) -> None:
    for _ in range(3):
        for rank in job.ranks:
            job.bench.feed(rank.timed(job.unix_s, {"loss": [1.0] * 100}))
        job.pass_(400)
    assert none_was_told(job)


def test_a_rank_that_has_finished_is_none(job: Job) -> None:
    job.steps(20)
    job.bench.feed(job.ranks[2].others((RecordKind.EXIT, ExitRecord(0).pack())))
    job.beats[2] = {}
    job.steps(40, 0, 1, every_s=5.0)
    assert none_was_told(job)


def test_a_rank_that_logs_once_an_epoch_is_none_nor_after_a_restart(job: Job) -> None:
    for _ in range(7):
        job.steps(25, 1, 2, every_s=4.0)
        job.step(0)
    job.board = job.make_board()
    job.bench.liveness.renew()
    job.steps(50, 1, 2, every_s=4.0)
    assert none_was_told(job)


def test_a_validating_rank_is_what_the_others_wait_for(job: Job) -> None:
    job.steps(20)
    waits = {"alive": True, "phase": "barrier", "phase_s": 65.0, "is_collective": True}
    job.beats = [{"alive": True, "phase": "validate", "phase_s": 65.0}, waits, waits]
    job.pass_(70)
    assert job.waiting_for() == [(0, "phase")]


def test_a_new_attempt_that_compiles_is_none_and_ends_the_hang_of_the_last(job: Job) -> None:
    job.steps(90)
    job.pass_(70)
    assert job.stalled() == [0, 1, 2]
    old = job.ranks
    job.ranks = [Rank((rank + 11).to_bytes(16, "big")) for rank in range(3)]
    started_ns = int(job.unix_s * 1e9)
    job.bench.feed(*(job.hello(rank, started_unix_ns=started_ns) for rank in range(3)))
    job.beats = [{"alive": True}] * 3
    job.pass_(3)  # the old ones are not known to be gone
    assert job.stalled() == []
    job.steps(1)
    job.pass_(150)
    job.steps(3)
    assert job.stalled() == [] and job.verdicts["stall"] is None
    assert old[0].writer_id != job.ranks[0].writer_id


@pytest.mark.parametrize("away_s", [300.0, 1000.0])
def test_a_suspended_machine_is_none_and_teaches_no_patience(job: Job, away_s: float) -> None:
    job.steps(20)
    job.beats = [{}] * 3
    job.pass_(away_s)
    job.beats = [{"alive": True}] * 3
    job.pass_(10)
    assert none_was_told(job)
    job.steps(5)
    job.pass_(50)
    assert none_was_told(job)
    job.pass_(20)
    assert job.stalled() == [0, 1, 2]


def test_an_agent_that_was_killed_and_began_anew_is_none(job: Job) -> None:
    job.steps(20)
    job.beats = [{}] * 3
    job.pass_(70)
    job.beats = [{"alive": True, "head_seq": 500}] * 3  # the spool has more than is stored
    job.pass_(100)
    assert none_was_told(job)


def test_a_coordinator_that_was_stopped_in_the_middle_of_a_turn_calls_nobody_stalled(job: Job) -> None:
    job.steps(20)
    job.hear()
    asked_s = job.bench.clock.now_s
    job.bench.clock.now_s += 300  # SIGSTOP between the read and the judgement
    job.bench.liveness.listened(asked_s)
    job.step()
    job.board.judge()
    assert none_was_told(job)
    job.bench.liveness.renew()
    job.bench.liveness.listened(job.bench.clock.now_s)
    for _ in range(13):
        job.bench.liveness.listened(job.bench.clock.now_s + 5)
        job.pass_(5)
    assert job.stalled() == [0, 1, 2], "that was no pause to learn from"


def test_while_redis_is_away_nobody_hangs(job: Job) -> None:
    job.steps(20)
    for _ in range(60):
        job.bench.clock.now_s += 5
        job.bench.liveness.renew()
    job.pass_(30)
    assert none_was_told(job)


# --- hangs that are easily missed ------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [None, "backward", "all_reduce"])
def test_a_killed_rank_is_named_whatever_the_others_are_in(job: Job, phase: str | None) -> None:
    job.steps(20)
    killed = Evidence(job.ranks[2].writer, WAIT, int(job.unix_s * 1e9), {"status": 9})
    job.bench.board.tick([killed])
    inside: dict[str, Any] = {"alive": True}
    if phase is not None:
        inside |= {"phase": phase, "phase_s": 66.0, "is_collective": phase == "all_reduce"}
    job.beats = [inside, inside, {"alive": False}]
    job.pass_(75)
    assert job.stalled() == [0, 1]
    (found,) = job.verdicts["stall"]["waiting_for"]
    assert (found["rank"], found["kind"]) == (2, "gone")
    assert found["why"].startswith("killed after step 19: ") and "SIGKILL" in found["why"]


def test_a_rank_that_died_long_ago_is_not_to_blame(job: Job) -> None:
    job.steps(20)
    job.beats[2] = {"alive": False}
    job.pass_(20)
    job.steps(40, 0, 1, every_s=2.0)
    job.beats[0] = job.beats[1] = {"alive": True, "phase": "solve", "phase_s": 70.0}
    job.pass_(75)
    assert job.stalled() == [0, 1]
    assert all(found["kind"] != "gone" for found in job.verdicts["stall"]["waiting_for"])


def test_a_hang_before_the_first_step_is_told_by_timers(job: Job) -> None:
    entered_s = job.bench.clock.now_s
    for _ in range(125):
        for_s = job.bench.clock.now_s + 5 - entered_s
        waits = {"alive": True, "phase": "broadcast", "phase_s": for_s, "is_collective": True}
        job.beats = [waits, {"alive": True}, waits]
        job.pass_(5)
    assert job.stalled() == [0, 2]
    assert job.waiting_for() == [(1, "phase")]


def test_a_slow_start_in_timers_that_change_is_none(job: Job) -> None:
    for part in range(400):
        job.beats = [{"alive": True, "phase": "load", "phase_s": 1.0 + part % 2}] * 3
        job.pass_(5)
    assert none_was_told(job)
    assert only_run(job.store).state == "running"
