"""`_runtime` stands still while nobody writes the run."""

from __future__ import annotations

import numpy as np

from runfold_coordinator.aggregate.run_clock import RunClock

S = 1_000_000_000


def both(clock: RunClock, *seconds: float) -> list[float]:
    times = [int(s * S) for s in seconds]
    found = clock.seconds(np.array(times, np.uint64)).tolist()
    assert found == [clock.runtime_s(t) for t in times]
    return found


def test_a_run_without_a_pause_counts_from_its_start():
    assert both(RunClock.of(10 * S), 10, 12.5, 9) == [0.0, 2.5, -1.0]


def test_a_resumed_run_goes_on_where_it_stood():
    clock = RunClock.of(10 * S, [(200 * S, 30.0), (100 * S, 20.0)])
    assert both(clock, 15, 100, 105, 200, 201) == [5.0, 20.0, 25.0, 30.0, 31.0]


def test_what_is_no_time_is_passed_over():
    for nonsense in (float("nan"), float("inf"), -1.0, 1e300, None):
        assert both(RunClock.of(0, [(5 * S, nonsense)]), 6) == [6.0]


def test_a_fork_has_its_bases_clock_for_its_bases_rows():
    base = RunClock.of(0, [(50 * S, 10.0), (500 * S, 60.0)])
    fork = RunClock.of(100 * S, [(300 * S, 20.0)]).after(base, 100 * S)
    assert both(fork, 5, 55, 100, 110, 301) == [5.0, 15.0, 0.0, 10.0, 21.0]
