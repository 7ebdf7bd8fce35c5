"""Goodput is measured now and then, and known in between."""

from __future__ import annotations

from coordinator.api.runs import run_row
from coordinator.readers.test_live_reader import HandClock
from runfold_coordinator.readers.kept_goodput import EVERY_S, SHARE, KeptGoodput


class Measure:
    def __init__(self, clock: HandClock, took_s: float = 0.0) -> None:
        self.clock, self.took_s, self.calls = clock, took_s, 0

    def __call__(self, _run):
        self.calls += 1
        self.clock.now_s += self.took_s
        return {"ratio": self.calls / 10}


def test_a_run_that_goes_on_is_measured_every_few_seconds():
    clock = HandClock()
    measure = Measure(clock)
    kept, run = KeptGoodput(measure, clock), run_row(ended_unix_ns=None)
    assert kept.known(run) is None
    assert [kept.ratio(run), kept.ratio(run), kept.known(run)] == [0.1, 0.1, 0.1]
    clock.now_s += EVERY_S
    assert (kept.known(run), kept.ratio(run)) == (0.1, 0.2)


def test_what_takes_long_is_measured_less_often():
    clock = HandClock()
    measure = Measure(clock, took_s=2.0)
    kept, run = KeptGoodput(measure, clock), run_row(ended_unix_ns=None)
    kept.ratio(run)
    clock.now_s += 2.0 / SHARE - 3.0
    assert kept.ratio(run) == 0.1
    clock.now_s += 3.0
    assert kept.ratio(run) == 0.2


def test_a_run_that_ended_is_measured_when_it_changes():
    clock = HandClock()
    kept = KeptGoodput(Measure(clock), clock)
    kept.ratio(run_row(version=1))
    clock.now_s += 100 * EVERY_S
    assert kept.ratio(run_row(version=1)) == 0.1
    assert kept.ratio(run_row(version=2)) == 0.2
