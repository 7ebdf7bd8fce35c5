"""How often is sampled: as asked, rarer under load, never rarer than promised."""

from __future__ import annotations

import random

import pytest

from runfold.node.sampling.pace import LONGEST_S, MAX_STRETCH, Pace


def run(
    pace: Pace, wanted_s: float, count: int, *, cost_s: float = 0.0, idle: float | None = 0.5
) -> list[float]:
    return [pace.next_s(wanted_s, cost_s=cost_s, idle_ratio=idle) for _ in range(count)]


def test_it_is_what_was_asked_for_while_the_machine_has_time():
    assert run(Pace(), 10, 3) == [10, 10, 10]
    assert run(Pace(), 10, 3, idle=None) == [10, 10, 10]
    assert run(Pace(), 0, 1) == [0.1]


def test_it_grows_to_a_minute_without_idle_time_and_comes_back():
    pace = Pace()
    assert run(pace, 10, 6, idle=0.0) == [15, 22.5, 33.75, 50.625, 60, 60]
    assert run(pace, 10, 6) == pytest.approx([40, 60 / 1.5**2, 60 / 1.5**3, 60 / 1.5**4, 10, 10])
    assert run(Pace(), 1, 9, idle=0.0)[-1] == 6
    assert run(Pace(), 120, 3, idle=0.0) == [120, 120, 120]


def test_a_dear_sample_is_rare_and_one_dear_sample_is_forgiven():
    pace = Pace()
    assert run(pace, 1, 2, cost_s=0.2) == [1, 20]
    assert run(pace, 1, 1, cost_s=0.001)[0] < 20
    assert run(Pace(), 10, 2, cost_s=100)[-1] == LONGEST_S


def test_it_stays_within_its_bounds_whatever_comes():
    rng = random.Random(1)
    for _ in range(300):
        pace, wanted_s = Pace(), rng.choice([0.5, 1, 10, 15, 60, 300])
        for _ in range(20):
            found = pace.next_s(
                wanted_s, cost_s=rng.expovariate(10), idle_ratio=rng.choice([None, 0, 0.02, 0.5])
            )
            assert (
                wanted_s <= found <= max(wanted_s, LONGEST_S, wanted_s * MAX_STRETCH if wanted_s < 10 else 0)
            )
