"""A job as it stands now: rows in rank order, lags behind the foremost, ages by the coordinator's clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold_coordinator.readers.live_reader import FRESH_S, LiveReader, NothingHeard


@dataclass
class HandClock:
    now_s: float = 1000.0

    def mono_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return START_NS / 1e9 + self.now_s - 1000.0


@dataclass(frozen=True)
class Heard:
    is_stopped: bool = False
    phase: str | None = None
    phase_s: float | None = None
    silent_s: float = 0.0
    logged_s: float | None = None


class HeardOf:
    def __init__(self, **by_writer: Heard) -> None:
        self.by_writer = by_writer

    def of(self, writer_id: str) -> Heard | None:
        return self.by_writer.get(writer_id)


def job(store, *steps: int) -> tuple[StoredRun, list[Said]]:
    """Store a run whose ranks have come so far, the last rank first."""
    run, ranks = StoredRun(store), []
    for rank, count in reversed(list(enumerate(steps))):
        said = Said(rank, label=f"rank-{rank}")
        for step in range(count):
            said.log({"loss": 1.0}, step=step, commit=True)
        run.deliver(said)
        ranks.insert(0, said)
    return run, ranks


def test_ranks_are_in_order_with_their_lag_and_pace(store):
    run, _ = job(store, 10, 4, 10)
    view = LiveReader(store, HandClock(), NothingHeard()).look(run.row)
    assert [(w.writer.rank, w.step, w.step_lag, w.step_s) for w in view.writers] == [
        (0, 9, 0, 1.0),
        (1, 3, 6, 1.0),
        (2, 9, 0, 1.0),
    ]
    assert (view.attempt, view.states, view.steps_per_s) == (1, {"running": 3}, 1.0)


def test_the_newest_attempt_is_shown_and_the_others_when_asked(store):
    run = StoredRun(store)
    for attempt in range(2):
        for rank in range(2):
            said = Said(rank, started_s=100 * attempt, restart_hint=attempt)
            said.log({"loss": 1.0}, step=attempt * 5 + rank, commit=True)
            run.deliver(said)
    reader = LiveReader(store, HandClock(), NothingHeard())
    newest = reader.look(run.row)
    assert [(w.attempt, w.writer.rank, w.step, w.step_lag) for w in newest.writers] == [
        (2, 0, 5, 1),
        (2, 1, 6, 0),
    ]
    assert newest.states == {"running": 4}
    every = reader.look(run.row, every_attempt=True)
    assert [(w.attempt, w.writer.rank, w.step_lag) for w in every.writers] == [
        (2, 0, 1),
        (2, 1, 0),
        (1, 0, None),
        (1, 1, None),
    ]


def test_log_age_is_by_the_coordinators_clock_where_it_heard_the_record(store):
    run, (said, _) = job(store, 3, 3)
    clock = HandClock()
    reader = LiveReader(store, clock, HeardOf(**{said.writer_id: Heard(logged_s=7.0, phase="data")}))
    clock.now_s += 60.0
    zero, one = reader.look(run.row).writers
    assert (zero.log_age_s, zero.live.phase) == (7.0, "data")
    assert one.log_age_s == pytest.approx(60.0 - 4.0) and one.live is None


def test_a_clock_ahead_of_ours_gives_no_negative_age(store):
    run, _ = job(store, 50)
    (only,) = LiveReader(store, HandClock(), NothingHeard()).look(run.row).writers
    assert only.log_age_s == 0.0


def test_an_answer_is_given_again_for_a_moment_and_no_longer(store):
    run, (said,) = job(store, 3)
    clock = HandClock()
    reader = LiveReader(store, clock, NothingHeard())
    first = reader.look(run.row)
    assert reader.look(run.row) is first
    clock.now_s += FRESH_S
    second = reader.look(run.row)
    assert second is not first
    said.log({"loss": 1.0}, step=9, commit=True)
    run.deliver(said)
    assert [w.step for w in reader.look(run.row).writers] == [9]


def test_a_run_without_writers(store):
    view = LiveReader(store, HandClock(), NothingHeard()).look(StoredRun(store).row)
    assert (view.writers, view.attempt, view.steps_per_s, view.states) == ((), 1, None, {})


def test_ended_writers_have_no_pace_and_writers_without_rank_come_last(store):
    run, (_said,) = job(store, 5)
    loose = Said(label="worker-x")
    loose.log({"loss": 1.0}, step=2, commit=True)
    loose.exit()
    run.deliver(loose)
    zero, last = LiveReader(store, HandClock(), NothingHeard()).look(run.row).writers
    assert (zero.writer.rank, zero.step_s) == (0, 1.0)
    assert (last.writer.label, last.step_s, last.writer.state) == ("worker-x", None, "finished")


def test_many_runs_at_once_are_each_as_alone(store):
    runs = []
    for run_id in ("a", "b"):
        run, said = StoredRun(store, run_id), Said(0, run_id=run_id, started_s=len(runs))
        for step in range(3 + len(runs)):
            said.log({"loss": 1.0}, step=step, commit=True)
        run.deliver(said)
        runs.append(run.row)
    reader = LiveReader(store, HandClock(), NothingHeard())
    assert reader.look_at_all(runs) == [reader.look(run) for run in runs]
