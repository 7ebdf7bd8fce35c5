"""Goodput from the times of attempts: the parts add up, whatever the clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.aggregate.goodput import PARTS, AttemptTimes, measure_goodput


def test_one_attempt_is_startup_then_steps_then_what_comes_after_the_last():
    [attempt] = [AttemptTimes(1, 100.0, 200.0, first_row_unix_s=110.0, kept_until_unix_s=190.0)]
    found = measure_goodput([attempt])
    assert (found["wall_s"], found["startup_s"], found["productive_s"], found["other_s"]) == (100, 10, 80, 10)
    assert found["ratio"] == 0.8
    assert (found["failures"], found["mean_time_between_failures_s"]) == (0, None)


def test_superseded_steps_and_the_way_to_the_next_attempt_are_lost():
    first = AttemptTimes(
        1,
        0.0,
        100.0,
        first_row_unix_s=10.0,
        kept_until_unix_s=70.0,
        is_cut=True,
        lost_steps=3,
        has_failed=True,
    )
    second = AttemptTimes(2, 120.0, 200.0, first_row_unix_s=130.0, kept_until_unix_s=200.0)
    found = measure_goodput([first, second])
    assert (found["lost_s"], found["restart_s"], found["startup_s"]) == (30, 20, 20)
    assert (found["productive_s"], found["wall_s"], found["ratio"]) == (130, 200, 0.65)
    assert (found["lost_steps"], found["failures"], found["mean_time_between_failures_s"]) == (3, 1, 180)
    assert [each["restart_s"] for each in found["per_attempt"]] == [0, 20]


def test_an_attempt_of_which_nothing_counts_was_lost_from_its_first_row():
    cut = AttemptTimes(1, 0.0, 50.0, first_row_unix_s=5.0, is_cut=True)
    found = measure_goodput([cut])
    assert (found["startup_s"], found["productive_s"], found["lost_s"]) == (5, 0, 45)


def test_an_attempt_without_rows_did_nothing_but_start():
    found = measure_goodput([AttemptTimes(1, 0.0, 50.0)])
    assert (found["startup_s"], found["ratio"]) == (50, 0.0)


def test_a_stall_is_taken_from_the_part_that_it_lies_in():
    stalled = AttemptTimes(
        1, 0.0, 100.0, first_row_unix_s=10.0, kept_until_unix_s=60.0, stalls=((50.0, 80.0), (70.0, 100.0))
    )
    found = measure_goodput([stalled])
    assert (found["productive_s"], found["stalled_s"], found["other_s"]) == (40, 50, 0)


def test_nothing_at_all():
    found = measure_goodput([])
    assert (found["wall_s"], found["ratio"], found["per_attempt"]) == (0, None, [])


moments = st.floats(-1e9, 1e10, allow_nan=False)
attempts = st.builds(
    AttemptTimes,
    attempt=st.just(1),
    started_unix_s=moments,
    ended_unix_s=moments,
    first_row_unix_s=st.none() | moments,
    kept_until_unix_s=st.none() | moments,
    is_cut=st.booleans(),
    stalls=st.lists(st.tuples(moments, moments), max_size=3).map(tuple),
    has_failed=st.booleans(),
)


@given(st.lists(attempts, max_size=6))
def test_the_parts_add_up_and_none_is_negative_whatever_the_clocks_say(times):
    found = measure_goodput(times)
    assert all(found[name] >= 0 for name in PARTS)
    assert sum(found[name] for name in PARTS) == pytest.approx(found["wall_s"], abs=1e-3)
    assert found["ratio"] is None or 0 <= found["ratio"] <= 1
    for each in found["per_attempt"]:
        assert all(each[name] >= 0 for name in PARTS)
        parts = sum(each[name] for name in PARTS) - each["restart_s"]
        assert parts == pytest.approx(each["wall_s"], abs=1e-3)
