"""How many lines may be kept."""

from __future__ import annotations

from runfold.console.budget import FULL_RATIO, Budget


def kept(budget: Budget, count: int, size: int = 10) -> int:
    done = 0
    while done < count and budget.allows():
        budget.spend(size)
        done += 1
    return done


def test_a_burst_and_then_the_rate() -> None:
    budget = Budget(lines_per_s=10, burst_lines=100)
    budget.refill(0.0)
    assert kept(budget, 1000) == 100
    budget.refill(1.0)
    assert kept(budget, 1000) == 10
    budget.refill(1.0)
    assert kept(budget, 1000) == 0
    budget.refill(1e6)
    assert kept(budget, 1000) == 100


def test_bytes_count_as_well() -> None:
    budget = Budget(bytes_per_s=1000, burst_bytes=5000)
    budget.refill(0.0)
    assert kept(budget, 100, size=1000) == 5
    budget.refill(0.5)
    assert kept(budget, 100, size=1000) == 1, "one may overdraw"
    budget.refill(0.6)
    assert kept(budget, 100) == 0


def test_a_long_run_goes_on_at_a_trickle() -> None:
    budget = Budget(lines_per_s=1000, burst_lines=1000, full_bytes=10_000)
    budget.refill(0.0)
    assert kept(budget, 1000) == 1000
    budget.refill(1.0)
    assert kept(budget, 10_000) == 1000 * FULL_RATIO


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(lines_per_s=10, burst_lines=10)
    budget.refill(100.0)
    kept(budget, 10)
    budget.refill(50.0)
    assert not budget.allows()
