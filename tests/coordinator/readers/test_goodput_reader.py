"""Goodput of stored runs: which rows' times count, by whose clock, and how much is read for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.goodput import PARTS
from runfold_coordinator.readers.goodput_reader import GoodputReader
from runfold_coordinator.store import tables as t
from support.frames import FakeClock

START_S = START_NS / 1e9


class At(FakeClock):
    def __init__(self, seconds_after_start: float) -> None:
        super().__init__()
        self.now_s = seconds_after_start


def read(run: StoredRun, at_s: float = 10_000.0) -> dict[str, Any]:
    found = GoodputReader(run.store, At(at_s)).goodput(run.row)
    assert sum(found[name] for name in PARTS) == pytest.approx(found["wall_s"])
    return found


def two_attempts(store: Any, **second: Any) -> tuple[StoredRun, list[Said], list[Said]]:
    """Ten steps a second each, then a restart at 100 s that goes back to step 6."""
    first = [Said(rank, restart_hint=0) for rank in range(2)]
    later = [Said(rank, started_s=100, restart_hint=1, **second) for rank in range(2)]
    for said in first:
        for step in range(10):
            said.log({"loss": 1.0}, step=step)
    for said in later:
        for step in range(6, 9):
            said.log({"loss": 1.0}, step=step)
        said.exit()
    run = StoredRun(store)
    for said in (*first, *later):
        run.deliver(said)
    return run, first, later


def test_two_attempts_of_two_ranks(store):
    run, first, _ = two_attempts(store)
    for said in first:
        run.end_writer(said)
    found = read(run)
    # The WRITER record is at 1 s, the rows of steps 0..9 at 2..11 s: 6..9 are superseded.
    one, two = found["per_attempt"]
    assert (one["startup_s"], one["productive_s"], one["lost_s"], one["lost_steps"]) == (2, 5, 4, 4)
    assert (two["restart_s"], two["startup_s"], two["productive_s"], two["other_s"]) == (89, 2, 2, 1)
    assert found["wall_s"] == 105
    assert found["ratio"] == pytest.approx(7 / 105)
    assert (found["failures"], found["mean_time_between_failures_s"]) == (1, 16)


def test_steps_that_the_first_rank_never_reached_are_lost_all_the_same(store):
    slow, fast = (Said(rank, restart_hint=0) for rank in range(2))
    for step in range(3):
        slow.log({"loss": 1.0}, step=step)
    for step in range(10):
        fast.log({"loss": 1.0}, step=step)
    later = Said(1, started_s=100, restart_hint=1)
    for step in range(6, 9):
        later.log({"loss": 1.0}, step=step)
    later.exit()
    run = StoredRun(store)
    for said in (slow, fast, later):
        run.deliver(said)
    for said in (slow, fast):
        run.end_writer(said)
    one = read(run)["per_attempt"][0]
    # Rows of rank 0 that count are at 2..4 s; its attempt goes on to rank 1's step 9, at 11 s.
    assert (one["productive_s"], one["lost_s"], one["lost_steps"], one["other_s"]) == (2, 7, 4, 0)


def test_a_run_that_goes_on_is_measured_up_to_now(store):
    run = StoredRun(store)
    said = Said(0)
    said.log({"loss": 1.0}, step=0)
    said.log({"loss": 1.0}, step=1)
    run.deliver(said)
    found = read(run, at_s=63.0)
    assert (found["wall_s"], found["startup_s"], found["productive_s"], found["other_s"]) == (63, 2, 1, 60)
    assert found["as_of_unix_s"] == START_S + 63


def test_a_server_whose_clock_is_behind_takes_nothing_away(store):
    run = StoredRun(store)
    said = Said(0)
    said.log({"loss": 1.0}, step=0)
    run.deliver(said)
    assert read(run, at_s=-3600.0)["wall_s"] == 2


def test_a_run_without_writers_or_rows(store):
    run = StoredRun(store)
    assert read(run)["ratio"] is None
    said = Said(mode="grouped")
    said.exit()
    run.deliver(said)
    assert read(run)["startup_s"] == 2


def test_another_machines_clock_is_not_asked(store):
    run = StoredRun(store)
    here, there = Said(0, boot_id="a"), Said(1, boot_id="b", started_s=-5000)
    for said in (here, there):
        said.log({"loss": 1.0}, step=0)
        said.exit()
        run.deliver(said)
    found = read(run)
    assert found["started_unix_s"] == START_S
    assert found["wall_s"] == 3


def judge(store: Any, **verdicts: Any) -> None:
    with store.transaction() as tx:
        tx.connection.execute(sa.update(t.runs).values(verdicts=pack_value(verdicts)))


def test_a_stall_that_goes_on_is_told_apart(store):
    run = StoredRun(store)
    said = Said(0)
    said.log({"loss": 1.0}, step=0)
    run.deliver(said)
    judge(store, stall={"since_unix_s": START_S + 10, "step": 0, "waiting_for": []})
    found = read(run, at_s=100.0)
    assert (found["stalled_s"], found["other_s"]) == (90, 8)


def test_stalls_that_are_over_are_taken_from_what_they_lie_in(store):
    run, *ranks = two_attempts(store)
    for said in ranks[0]:
        run.end_writer(said)
    judge(
        store,
        stalls=[{"since_unix_s": START_S + 3, "until_unix_s": START_S + 5, "step": 1}],
        stall={"since_unix_s": START_S + 104, "until_unix_s": START_S + 500},
    )
    one, two = read(run)["per_attempt"]
    assert (one["stalled_s"], one["productive_s"]) == (2, 3)
    assert (two["stalled_s"], two["productive_s"], two["other_s"]) == (1, 2, 0)


def test_a_long_attempt_is_not_read_whole(store, monkeypatch):
    run = StoredRun(store)
    first, second = Said(0, restart_hint=0), Said(0, started_s=10, restart_hint=1)
    for said in (first, second):
        run.deliver(said)
    steps = np.arange(1_000_000)
    run.insert_bulk(first, steps, {"loss": np.ones(len(steps))})
    second.log({"loss": 1.0}, step=700_000)
    run.deliver(second)
    run.end_writer(first)
    rows: list[int] = []
    read_row_times = type(store).read_row_times

    def counted(self, *args, **bounds):
        for piece in read_row_times(self, *args, **bounds):
            rows.append(len(piece.seq))
            yield piece

    monkeypatch.setattr(type(store), "read_row_times", counted)
    found = read(run)
    assert found["lost_steps"] == 300_000
    # rows are a microsecond apart in bulk: step 699,999 has seq 700,001
    assert found["per_attempt"][0]["productive_s"] == pytest.approx(699_999e-6, abs=1e-6)
    assert sum(rows) <= 65_536 + 3
