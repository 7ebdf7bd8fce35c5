"""The time of a step from a writer's newest rows, read as they come."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.readers.step_pace import STEPS, StepPace, _Tail, add_rows, step_time_s

SECOND_NS = 1_000_000_000


def tail_of(*pieces: list[tuple[int, int, float]]) -> _Tail:
    """Return a tail that was given (seq, step, t_s) rows, a chunk a piece."""
    tail = _Tail()
    for rows in pieces:
        seq, step, t_s = zip(*rows, strict=True)
        add_rows(
            tail,
            np.array(seq, np.uint64),
            np.array(step, np.int64),
            np.array([int(t * SECOND_NS) for t in t_s], np.uint64),
        )
        tail.seq = max(seq)
    return tail


def test_one_slow_step_does_not_move_the_median():
    times = [0, 1, 2, 3, 63, 64, 65]
    assert step_time_s(tail_of([(i, i, t) for i, t in enumerate(times)]).points) == 1.0


def test_many_rows_a_step_count_once():
    rows = [(i, i // 10, i * 0.1) for i in range(100)]
    assert step_time_s(tail_of(rows).points) == pytest.approx(1.0)


def test_every_tenth_step_logged_gives_the_time_of_one():
    assert step_time_s(tail_of([(i, i * 10, i * 5.0) for i in range(20)]).points) == 0.5


def test_a_step_in_two_chunks_begins_once():
    tail = tail_of([(1, 0, 0.0), (2, 1, 1.0)], [(3, 1, 1.5), (4, 2, 2.0), (5, 0, 2.5), (6, 3, 3.0)])
    assert list(tail.points) == [(0, 0), (1, SECOND_NS), (2, 2 * SECOND_NS), (3, 3 * SECOND_NS)]


def test_rows_read_again_add_nothing():
    rows = [(1, 0, 0.0), (2, 1, 1.0)]
    assert list(tail_of(rows, rows).points) == list(tail_of(rows).points)


def test_a_clock_that_goes_back_is_left_out():
    assert step_time_s(tail_of([(1, 0, 10.0), (2, 1, 11.0), (3, 2, 5.0), (4, 3, 6.0)]).points) == 1.0


def test_one_step_tells_no_time():
    assert step_time_s(()) is None
    assert step_time_s([(0, 5)]) is None


def test_only_the_newest_steps_count():
    rows = [(i, i, float(i) if i < 100 else 100 + (i - 100) * 3.0) for i in range(100 + STEPS + 1)]
    assert step_time_s(tail_of(rows).points) == 3.0


@pytest.mark.parametrize("per_chunk", [1, 7, 200])
def test_reads_what_is_new_each_time(store, per_chunk):
    run, said = StoredRun(store), Said(0)
    for step in range(50):
        said.log({"loss": 1.0}, step=step, commit=True)
    run.deliver(said, 21, per_chunk=per_chunk)
    pace = StepPace(store)

    def read() -> list[float]:
        return list(pace.step_times(store.writers(run.run_pk)).values())

    assert read() == [1.0]
    assert read() == [1.0]
    said.records[30:] = []
    for step in range(29, 70):  # from here on three times as slow
        said._add(*_row(step))
        record = said.records[-1]
        object.__setattr__(record, "t_ns", said.started_ns + (30 + (step - 28) * 3) * SECOND_NS)
    run.deliver(said, per_chunk=per_chunk)
    assert read() == [3.0]


def test_a_writer_without_rows_has_no_pace(store):
    run = StoredRun(store)
    run.deliver(Said(0))
    assert StepPace(store).step_times(store.writers(run.run_pk)) == {}


def _row(step: int):
    from runfold.protocol.records import RecordKind, RowMap
    from runfold.protocol.rows import COMMIT_TRUE, STEP_GIVEN

    return RecordKind.ROW_MAP, RowMap(step, ((("loss",), 1.0),)).pack(), STEP_GIVEN | COMMIT_TRUE
