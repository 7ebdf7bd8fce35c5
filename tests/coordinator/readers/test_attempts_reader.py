"""Attempts of a job as users see them."""

from __future__ import annotations

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold_coordinator.readers.attempts_reader import AttemptsReader


def test_lost_steps_and_restart_times(store):
    first = [Said(rank, restart_hint=0) for rank in range(2)]
    second = [Said(rank, started_s=100, restart_hint=1) for rank in range(2)]
    for said in first:
        for step in range(10):
            said.log({"loss": 1.0}, step=step, commit=True)
    for said in second:
        for step in range(6, 9):
            said.log({"loss": 1.0}, step=step, commit=True)
        said.exit()
    run = StoredRun(store)
    for said in (*first, *second):
        run.deliver(said)
    run.end_writer(first[0])
    run.end_writer(first[1])
    reader = AttemptsReader(store)
    assert sorted(reader.attempt_of_writers(run.row).values()) == [1, 1, 2, 2]
    one, two = reader.attempts(run.row)
    failure = one.pop("first_failure")
    assert (failure["rank"], failure["state"], failure["reason"]) == (0, "crashed", "gone")
    assert one == {
        "attempt": 1,
        "started_unix_s": START_NS / 1e9,
        "ended_unix_s": START_NS / 1e9 + 11,
        "writers": 2,
        "states": {"crashed": 2},
        "state": "crashed",
        "reason": "rank 0: gone",
        "failures": 2,
        "first_step": 0,
        "last_step": 5,
        "cut_step": 6,
        "lost_steps": 4,
        "restart_s": None,
        "branch": None,
    }
    assert (two["first_step"], two["last_step"], two["cut_step"], two["lost_steps"]) == (6, 8, None, 0)
    assert two["restart_s"] == 89.0 and two["states"] == {"finished": 2}
    assert (two["state"], two["first_failure"], two["failures"]) == ("finished", None, 0)


def test_a_run_without_rows_or_writers(store):
    run = StoredRun(store)
    assert AttemptsReader(store).attempts(run.row) == []
    run.deliver(Said(mode="grouped"))
    (only,) = AttemptsReader(store).attempts(run.row)
    assert (only["first_step"], only["last_step"], only["lost_steps"]) == (None, None, 0)
