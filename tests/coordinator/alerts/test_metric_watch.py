"""How long a metric has been so: the same whatever the pieces it comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.alerts.config import When
from runfold_coordinator.alerts.metric_watch import Hit, MetricWatch


def feed(watch: MetricWatch, values: list[float], *, first: int = 0, lane: Any = None) -> Hit | None:
    steps = np.arange(first, first + len(values))
    return watch.feed(lane, steps, steps.astype(float), np.array(values, float))


def test_a_value_that_is_so_is_told_with_its_step() -> None:
    watch = MetricWatch(When(metric="loss", op=">", value=5.0))
    assert feed(watch, [1, 2]) is None and not watch.is_true
    assert feed(watch, [3, 6, 7], first=2) == Hit(None, 3, 6.0)
    assert watch.is_true
    feed(watch, [1], first=5)
    assert not watch.is_true


def test_a_spike_between_two_looks_is_told_though_it_is_over() -> None:
    watch = MetricWatch(When(metric="loss", not_finite=True))
    hit = feed(watch, [1, float("nan"), 2], lane=3)
    assert hit is not None and (hit.lane, hit.step) == (3, 1)
    assert not watch.is_true
    assert feed(watch, [float("-inf")], first=3) is not None


def test_for_steps_counts_values_in_a_row_over_looks_and_by_lane() -> None:
    watch = MetricWatch(When(metric="loss", op=">=", value=5, for_steps=3))
    assert feed(watch, [5, 5]) is None
    assert feed(watch, [5, 5], lane=1) is None
    assert feed(watch, [5], first=2) == Hit(None, 2, 5.0)
    assert feed(watch, [1, 5, 5], first=2, lane=1) is None
    assert watch.is_true


def test_for_s_counts_the_time_between_them() -> None:
    watch = MetricWatch(When(metric="loss", op=">", value=0, for_s=2.5))
    assert feed(watch, [1, 1, 1]) is None
    assert feed(watch, [1], first=3) == Hit(None, 3, 1.0)


@given(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), max_size=40), st.data())
def test_pieces_make_no_difference(values: list[float], data: st.DataObject) -> None:
    when = When(metric="loss", op=">", value=0.5, for_steps=3, for_s=2.0)
    whole, pieces = MetricWatch(when), MetricWatch(when)
    hits, at = [], 0
    while at < len(values):
        size = data.draw(st.integers(1, 7))
        hits.append(feed(pieces, values[at : at + size], first=at))
        at += size
    assert feed(whole, values) == next((hit for hit in hits if hit is not None), None)
    assert whole.is_true == pieces.is_true
    # and as said in words
    run = 0
    for value in values:
        run = run + 1 if value > 0.5 else 0
    assert whole.is_true == (run >= 3)
