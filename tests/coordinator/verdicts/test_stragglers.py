"""Who is slow: scripted ranks with a known culprit, and none where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runfold_coordinator.verdicts.progress import Pace
from runfold_coordinator.verdicts.stragglers import find_behind, find_slow
from runfold_coordinator.verdicts.timings import KEPT_STEPS, Piece, Timed, Timings, side_by_side

RANDOM = np.random.default_rng(5)


def job(ranks: int, steps: int = 50, *, noise_s: float = 0.002, **own: float) -> dict[str, np.ndarray]:
    """Ranks that wait for each other in an all-reduce: each spends its own time, then all are as slow."""
    seconds = {name: mean + noise_s * RANDOM.standard_normal((ranks, steps)) for name, mean in own.items()}
    return {name: np.abs(values) for name, values in seconds.items()}


def with_collective(own: dict[str, np.ndarray]) -> Timed:
    busy = np.sum(list(own.values()), axis=0)
    step = np.broadcast_to(busy.max(axis=0) + 0.002, busy.shape)
    return Timed(np.arange(busy.shape[1]), {**own, "step": step, "collective": step - busy})


def test_a_slow_backward_is_seen_though_all_steps_take_as_long() -> None:
    own = job(4, data=0.01, forward=0.05, backward=0.08)
    own["backward"][1] += 0.2
    timed = with_collective(own)
    assert np.ptp(timed.seconds["step"], axis=0).max() == 0
    (slow,) = find_slow(timed)
    assert (slow.at, slow.timer, slow.share) == (1, "backward", 1.0)
    assert slow.excess_s == pytest.approx(0.2, abs=0.01)
    assert slow.why.startswith("backward: +0.2 s a step; slow in 100% of 50 steps")


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
def test_none_is_slow_among_equals(ranks: int) -> None:
    assert find_slow(with_collective(job(ranks, data=0.01, backward=0.08, noise_s=0.01))) == []


@pytest.mark.parametrize("ranks", [2, 3, 40])
def test_the_culprit_is_found_among_few_and_many(ranks: int) -> None:
    own = job(ranks, data=0.05)
    own["data"][ranks - 1] += 0.03
    (slow,) = find_slow(with_collective(own))
    assert (slow.at, slow.timer) == (ranks - 1, "data")


def test_time_outside_of_timers_is_said_so() -> None:
    timed = with_collective(job(4, data=0.05))
    timed.seconds["collective"][2] -= 0.04
    timed.seconds["collective"][[0, 1, 3]] += 0.04
    (slow,) = find_slow(timed)
    assert (slow.at, slow.timer) == (2, "")
    assert "outside of timers" in slow.why


def test_now_and_then_is_not_always() -> None:
    own = job(4, data=0.05)
    own["data"][1, ::2] += 0.5
    assert find_slow(with_collective(own)) == []


def test_a_little_is_not_slow() -> None:
    own = job(4, data=0.5, noise_s=0.0001)
    own["data"][1] += 0.03  # 6 %
    assert find_slow(with_collective(own)) == []
    tiny = job(4, data=0.001, noise_s=0.0)
    tiny["data"][1] += 0.003
    assert find_slow(with_collective(tiny)) == []


def test_without_collectives_a_timer_that_stands_out_tells() -> None:
    own = job(4, data=0.02, backward=0.3)
    own["data"][3] += 0.2
    own["backward"][:3] += 0.2  # they wait in there
    (slow,) = find_slow(Timed(np.arange(50), {**own, "step": np.full((4, 50), 0.52)}))
    assert (slow.at, slow.timer) == (3, "data")
    two = {name: values[2:] for name, values in own.items()}
    assert find_slow(Timed(np.arange(50), two)) == []  # of two, nobody knows which


def told_rates(extra: float, windows: int, *, ranks: int = 64) -> tuple[float, float]:
    """Return the shares of windows in which rank 1, and in which another rank, was called slow.

    Busy times are lognormal around 0.2 s with a deviation of 10 %; those of rank 1 are longer by `extra`.
    """
    random = np.random.default_rng(11)
    hits = wrong = 0
    for _ in range(windows):
        busy = 0.2 * random.lognormal(0.0, 0.1, (ranks, 50))
        busy[1] *= 1 + extra
        found = {slow.at for slow in find_slow(Timed(np.arange(50), {"busy": busy}))}
        hits += 1 in found
        wrong += bool(found - {1})
    return hits / windows, wrong / windows


def test_noise_alone_makes_nobody_slow() -> None:
    assert max(told_rates(0.0, 300)) <= 0.01


@pytest.mark.parametrize(("extra", "least", "most"), [(0.1, 0.0, 0.2), (0.2, 0.9, 1.0), (0.5, 0.99, 1.0)])
def test_in_noise_the_culprit_is_found_and_nobody_else(extra: float, least: float, most: float) -> None:
    hits, wrong = told_rates(extra, 100)
    assert least <= hits <= most
    assert wrong <= 0.01


def test_stages_of_a_pipeline_are_not_slow() -> None:
    random = np.random.default_rng(3)
    busy = np.repeat([[0.1], [0.2], [0.3], [0.25]], 2, axis=0) + 0.001 * random.standard_normal((8, 50))
    assert find_slow(Timed(np.arange(50), {"busy": np.abs(busy)})) == []


def test_one_that_logs_something_else_keeps_none_from_being_found() -> None:
    timings = [Timings() for _ in range(4)]
    for rank in range(3):
        busy = np.full(100, 0.3 if rank == 2 else 0.1)
        timings[rank].add(piece(np.arange(100), step=np.full(100, 0.3), busy=busy))
    timings[3].add(piece([0, 50], step=[15.0, 15.0], busy=[14.0, 14.0]))
    timed = side_by_side(timings, 50)
    assert timed.members == [0, 1, 2]
    (slow,) = find_slow(timed)
    assert slow.at == 2


def test_too_few_steps_tell_nothing() -> None:
    own = job(4, steps=9, data=0.05)
    own["data"][1] += 1.0
    assert find_slow(with_collective(own)) == []
    assert find_slow(Timed(np.arange(0), {})) == []


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (5, 30), elements=st.floats(0, 1e3)), st.permutations(range(5)))
def test_the_order_of_ranks_does_not_matter(busy: np.ndarray, order: list[int]) -> None:
    slow = {found.at for found in find_slow(Timed(np.arange(30), {"busy": busy}))}
    moved = {order[found.at] for found in find_slow(Timed(np.arange(30), {"busy": busy[order]}))}
    assert slow == moved


def test_independent_workers_are_compared_by_pace() -> None:
    paces = [(Pace(1.0, 0.01, 0.0), 100), (Pace(1.01, 0.01, 0.0), 99), (Pace(1.6, 0.02, 0.0), 62)]
    (slow,) = find_behind(paces)
    assert (slow.at, slow.excess_s) == (2, pytest.approx(0.595))
    assert find_behind(paces[:2]) == []
    assert find_behind([(Pace(1.0, 0.0, 0.0), 100), (Pace(2.0, 0.0, 0.0), 99)]) == []  # in step: they wait


def piece(steps: Sequence[int], **columns: Sequence[float]) -> Piece:
    return Piece.from_arrays(np.array(steps), {name: np.array(column) for name, column in columns.items()})


def test_writers_are_laid_side_by_side_over_common_steps() -> None:
    first, second = Timings(), Timings()
    first.add(piece(np.arange(5), step=np.arange(5.0), data=np.ones(5)))
    first.add(piece([5, 6], step=[5.0, 6.0]))
    first.add(piece([3], step=[30.0]))  # said again: the later counts
    second.add(piece([6, 3, 2, 9], step=[60.0, 33.0, 22.0, 9.0]))
    for _ in range(2):
        timed = side_by_side([first, second], 50)
        np.testing.assert_array_equal(timed.steps, [2, 3, 6])
        np.testing.assert_array_equal(timed.seconds["step"], [[2, 30, 6], [22, 33, 60]])
        np.testing.assert_array_equal(timed.seconds["data"], [[1, 0, 0], [0, 0, 0]])


def test_what_is_kept_is_bounded() -> None:
    timings = Timings()
    for at in range(0, 5000, 7):
        timings.add(piece(np.arange(at, at + 7), step=np.ones(7)))
        assert sum(kept.rows for kept in timings._pieces) <= 2 * KEPT_STEPS
    timings.add(piece(np.arange(10**6), step=np.ones(10**6)))
    assert sum(kept.rows for kept in timings._pieces) <= 2 * KEPT_STEPS
    assert timings.table().steps[-1] == 10**6 - 1
