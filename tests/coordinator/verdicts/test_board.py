"""The verdicts of stored runs: fed through ingest, judged on a clock that moves when told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold.protocol.evidence import STACK, Evidence
from runfold.protocol.identity import Identity
from runfold.protocol.records import ExitRecord, MetricRecord, RecordKind
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store
from runfold_coordinator.verdicts.catalogue import Known
from support.frames import only_run
from support.stores import new_database
from support.verdict_job import Job

IDENTITY = Identity(entity="local", project="demo", run_id="run1", mode="shared")
STACK_TEXT = 'Current thread 0x1 (most recent call first):\n  File "/me/data.py", line 7 in load\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()


@pytest.fixture
def job(store: Store) -> Job:
    return Job(store, 4)


def test_a_hang_is_told_and_taken_back_when_it_ends(job: Job) -> None:
    job.steps(20)
    stuck_s = job.unix_s
    job.pass_(55)
    assert job.stalled() == [] and job.verdicts.get("stall") is None
    job.beats = [{"alive": True, "phase": "reduce", "phase_s": 61.0, "is_collective": True}] * 4
    job.beats[2] = {"alive": True, "phase": "data", "phase_s": 61.0}
    job.pass_(10)
    assert job.stalled() == [0, 1, 2, 3]
    assert job.waiting_for() == [(2, "phase")]
    stall = job.verdicts["stall"]
    assert (stall["step"], stall["others"]) == (19, 3)
    assert stall["since_unix_s"] == pytest.approx(stuck_s)
    assert stall["waiting_for"][0]["why"] == "in data for 61 s"
    version = only_run(job.store).version
    job.pass_(30)
    assert only_run(job.store).version - version < 8, "a stall that goes on writes no verdict"
    job.steps(1)
    assert job.verdicts["stall"] is not None
    job.pass_(1)
    assert job.stalled() == [] and job.verdicts["stall"] is None
    assert job.verdicts["stall_count"] == 1
    assert job.verdicts["stalled_s"] == pytest.approx(97, abs=3)
    assert job.verdicts["stalls"] == [
        {"since_unix_s": pytest.approx(stuck_s), "until_unix_s": pytest.approx(job.unix_s), "step": 19}
    ]


def test_pauses_for_checkpoints_and_evaluation_are_learnt(job: Job) -> None:
    for _ in range(3):
        job.steps(20)
        job.pass_(45)
        job.step()
    job.pass_(120)
    assert job.stalled() == []
    job.pass_(20)
    assert job.stalled() == [0, 1, 2, 3]


def test_a_slow_start_is_no_hang(job: Job) -> None:
    job.steps(1)
    job.pass_(1800)
    job.steps(3)
    job.pass_(300)
    assert job.stalled() == [] and job.verdicts.get("stall") is None


def test_what_is_on_its_way_is_no_hang(job: Job) -> None:
    job.steps(20)
    job.beats = [{"alive": True, "head_seq": 1000}] * 4
    job.pass_(300)
    assert job.stalled() == []


def test_the_unreachable_are_not_called_stalled(job: Job) -> None:
    job.steps(20)
    job.beats = [{}] * 4
    job.pass_(200)
    assert job.stalled() == []
    assert only_run(job.store).unreachable


def test_while_the_coordinator_was_away_nobody_hung(job: Job) -> None:
    job.steps(20)
    job.bench.clock.now_s += 3600
    job.bench.liveness.renew()
    job.pass_(50)
    assert job.stalled() == []
    job.pass_(20)
    assert job.stalled() == [0, 1, 2, 3]


def test_a_stopped_rank_is_named(job: Job) -> None:
    job.steps(20)
    job.beats[1] = {"alive": True, "is_stopped": True}
    job.pass_(70)
    assert job.waiting_for() == [(1, "stopped")]


def test_a_dead_rank_is_what_the_living_wait_for(job: Job) -> None:
    job.steps(20)
    job.beats[3] = {"alive": False}
    job.pass_(70)
    assert job.waiting_for() == [(3, "gone")]
    assert job.stalled() == [0, 1, 2]


def test_a_stall_that_lasts_to_the_end_stays_told(job: Job) -> None:
    job.steps(20)
    job.pass_(70)
    assert job.stalled() == [0, 1, 2, 3]
    job.beats = [{"alive": False}] * 4
    job.pass_(20)
    assert only_run(job.store).state == "crashed"
    assert job.stalled() == []
    assert job.verdicts["stall"]["step"] == 19
    assert job.verdicts["stall"]["until_unix_s"] <= job.unix_s


def test_a_new_coordinator_goes_on_with_what_was_told(job: Job) -> None:
    job.steps(70)
    job.pass_(70)
    assert job.stalled() == [0, 1, 2, 3]
    job.board = job.make_board()
    job.bench.liveness.renew()
    job.pass_(5)
    assert job.stalled() == [0, 1, 2, 3]
    job.steps(2)
    assert job.stalled() == [] and job.verdicts["stall_count"] == 1
    job.board = job.make_board()  # this one has seen no row of theirs: the pace is in the catalogue
    job.bench.liveness.renew()
    job.pass_(120)
    assert job.stalled() == [0, 1, 2, 3]


def test_ranks_that_wait_for_each_other_are_judged_together(job: Job) -> None:
    job.steps(20)
    for rank in range(4):  # the last rows come seconds apart
        job.pass_(2)
        job.step(rank)
    job.pass_(58)
    assert job.stalled() == [0, 1, 2, 3] and job.waiting_for() == []


def test_who_ended_while_no_coordinator_was_there_is_not_stalled_for_ever(job: Job) -> None:
    job.steps(70)
    job.pass_(70)
    assert job.stalled() == [0, 1, 2, 3]
    job.beats = [{"alive": False}] * 4
    job.hear()
    job.bench.board.tick()
    assert only_run(job.store).state == "crashed" and only_run(job.store).stalled
    job.board = job.make_board()
    job.pass_(2)
    assert job.stalled() == []


def test_stacks_are_asked_for_once_and_tell(job: Job) -> None:
    job.steps(20)
    job.pass_(62)
    assert len(job.asked) == 1 and sorted(job.asked[0][0]) == [rank.writer_id for rank in job.ranks]
    assert job.asked[0][1] == "no progress at step 19"
    assert job.waiting_for() == []
    in_backward = STACK_TEXT.replace("/me/data.py", "/x/torch/autograd/graph.py")
    for rank, text in enumerate([in_backward, in_backward, STACK_TEXT, in_backward]):
        found = Evidence(job.ranks[rank].writer, STACK, int(job.unix_s * 1e9), {"tool": "t", "text": text})
        job.bench.board.tick([found])
    job.pass_(2)
    assert job.waiting_for() == [(2, "stack")]
    stall = job.verdicts["stall"]
    assert stall["waiting_for"][0]["why"] == "at load (me/data.py:7)"
    assert [(one["rank"], one["tool"]) for one in stall["stacks"]] == [(2, "t"), (0, "t"), (1, "t"), (3, "t")]
    assert stall["stacks"][0]["text"] == STACK_TEXT
    job.pass_(100)
    assert len(job.asked) == 1


def test_a_straggler_is_named_though_all_steps_take_as_long(job: Job) -> None:
    for _ in range(30):
        job.pass_(1)
        for rank in range(4):
            busy = 0.3 if rank == 1 else 0.1
            job.step(rank, timing__step=0.4, timing__collective=0.4 - busy, timing__backward=busy)
    job.pass_(6)
    (slow,) = job.verdicts["stragglers"]
    assert (slow["rank"], slow["label"], slow["host"], slow["timer"]) == (1, "rank1", "n1", "backward")
    assert slow["excess_s"] == pytest.approx(0.2)
    for _ in range(60):
        job.steps(1, timing__step=0.4, timing__collective=0.3)
    assert job.verdicts["stragglers"] == []


def test_independent_workers_are_compared_by_their_pace(job: Job) -> None:
    for _ in range(60):
        job.steps(1, 0, 1, 2)
        if int(job.bench.clock.now_s) % 2:
            job.step(3)
    assert [slow["rank"] for slow in job.verdicts["stragglers"]] == [3]
    assert "steps behind" in job.verdicts["stragglers"][0]["why"]


def test_a_rank_that_drifts_apart_is_told_with_its_first_step(job: Job) -> None:
    say = (RecordKind.METRIC, MetricRecord(name="norm", expect="equal", rtol=0.01).pack())
    job.bench.feed(*(rank.others(say) for rank in job.ranks))
    for step in range(20):
        job.pass_(1)
        for rank in range(4):
            job.step(
                rank, norm=1.0 + 0.001 * rank + (0.5 if rank == 2 and step >= 12 else 0.0)
            )  # the definition took a number
    job.pass_(1)
    assert job.verdicts["desync"] == [
        {"metric": "norm", "step": 13, "ranks": [2], "labels": ["rank2"], "values": [1.502], "expected": 1.0}
    ]
    job.board = job.make_board()
    for rank in range(4):
        job.step(rank, norm=float(rank))
    job.steps(2)
    assert len(job.verdicts["desync"]) == 1, "one a metric, the first, for ever"


def expect_equal(job: Job) -> None:
    say = (RecordKind.METRIC, MetricRecord(name="norm", expect="equal").pack())
    job.bench.feed(*(rank.others(say) for rank in job.ranks))


@pytest.mark.parametrize("learnt", [True, False])
def test_what_was_not_settled_at_a_restart_is_compared_all_the_same(job: Job, learnt: bool) -> None:
    expect_equal(job)
    for _ in range(70 if learnt else 5):  # what was compared is kept once a minute
        job.steps(1, norm=1.0)
    last = only_run(job.store).last_step
    assert (job.verdicts["checked"]["step"] > 50) is learnt
    for rank in (0, 1, 2):  # rank 3 lags behind, and the step is not settled
        job.step(rank, norm=2.0 if rank == 1 else 1.0)
    job.board = job.make_board()
    job.pass_(3)
    assert not job.verdicts.get("desync")
    job.step(3, norm=1.0)
    job.steps(3, norm=1.0)
    (found,) = job.verdicts["desync"]
    assert (found["step"], found["ranks"], found["values"]) == (last + 1, [1], [2.0])


def test_a_difference_of_which_nobody_was_told_is_found_after_a_restart(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold_coordinator.verdicts.board.READ_VALUES", 8)
    expect_equal(job)
    job.board.note = lambda _works: None  # type: ignore[method-assign]  # it dies right after each commit
    job.bench.ingest.on_stored = job.board.note
    for step in range(9):
        job.bench.clock.now_s += 1
        for rank in range(4):
            job.step(rank, norm=7.0 if (step, rank) == (6, 2) else 1.0)
    job.board = job.make_board()
    job.pass_(40)
    (found,) = job.verdicts["desync"]
    assert (found["ranks"], found["values"], found["expected"]) == ([2], [7.0], 1.0)


def test_texts_are_compared_and_the_end_settles_all(job: Job) -> None:
    say = (RecordKind.METRIC, MetricRecord(name="hash", expect="equal").pack())
    job.bench.feed(*(rank.others(say) for rank in job.ranks))
    job.bench.feed(*(rank.maps((0, {"hash": "a" if at else "b"})) for at, rank in enumerate(job.ranks)))
    job.pass_(1)
    assert not job.verdicts.get("desync")
    job.bench.feed(*(rank.others((RecordKind.EXIT, ExitRecord(0).pack())) for rank in job.ranks))
    job.pass_(2)
    job.pass_(2)
    assert job.verdicts["desync"][0]["ranks"] == [0]
    assert job.verdicts["desync"][0]["expected"] == "a"


def test_a_database_that_is_away_loses_no_verdict(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.steps(20)
    fails = True

    def check(_: object) -> None:
        if fails:
            raise StoreError("away")

    job.board.check_owner = check
    for _ in range(14):
        with contextlib.suppress(StoreError):
            job.pass_(5)
    assert job.stalled() == []
    fails = False
    job.pass_(2)
    assert job.stalled() == [0, 1, 2, 3]


def test_a_fault_of_verdicts_is_no_fault_of_ingest(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runfold_coordinator.verdicts.run_watch.newest_rows", lambda *_: 1 / 0)
    job.steps(2)
    assert only_run(job.store).row_count == 8


def test_identities_are_taken_as_they_come_and_else_in_portions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[str] = []
    plain = Known.from_identity

    def count(writer_pk: int, writer_id: str, said: Any) -> Known:
        unpacked.append(writer_id)
        return plain(writer_pk, writer_id, said)

    monkeypatch.setattr(Known, "from_identity", count)
    monkeypatch.setattr("runfold_coordinator.verdicts.catalogue.UNPACKED_AT_ONCE", 4)
    job = Job(store, 10)
    job.board.judge()
    assert unpacked == []
    job.board = job.make_board()
    portions = []
    for _ in range(4):
        before = len(unpacked)
        job.steps(1)
        portions.append(len(unpacked) - before)
    assert portions == [4, 4, 2, 0]
    job.steps(20)
    job.pass_(70)
    assert job.stalled() == list(range(10))


def test_a_thousand_writers_cost_little_time(store: Store) -> None:
    job = Job(store, 1000)
    for _ in range(8):
        job.step(timing__step=0.4, timing__collective=0.1)
        job.bench.clock.now_s += 1
        job.hear()
    job.board.judge()
    times = []
    for _ in range(5):
        job.bench.clock.now_s += 1
        began = time.process_time()
        job.board.judge()
        times.append(time.process_time() - began)
    assert min(times) < 0.05
