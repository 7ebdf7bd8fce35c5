"""Runs of a group on one axis."""

from __future__ import annotations

import numpy as np

from runfold_coordinator.aggregate.column import column_of
from runfold_coordinator.aggregate.groups import on_axis, over_runs


def test_runs_align_on_a_step_metric_and_the_last_value_of_an_epoch_stands():
    loss = column_of(np.arange(6), [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    epoch = column_of(np.array([0, 1, 2, 3, 5]), [0, 0, 1, 1, 2])
    x, y = on_axis(loss, epoch)
    assert x.tolist() == [0, 1, 2]
    assert y.tolist() == [5.0, 3.0, 1.0]
    other = on_axis(column_of(np.arange(3), [1.0, "lost", 3.0]), column_of(np.arange(3), [0.0, 1.0, 2.0]))
    reduced = over_runs([(x, y), other])
    assert reduced.x.tolist() == [0, 1, 2]
    assert reduced.value.tolist() == [3.0, 3.0, 2.0]
    assert reduced.stats.count.tolist() == [2, 1, 2]
    assert reduced.stats.argmin.tolist() == [1, 0, 0]


def test_without_a_step_metric_the_step_is_the_axis_and_a_run_without_it_is_empty():
    loss = column_of(np.array([3, 9]), [1.0, 2.0])
    assert on_axis(loss, None)[0].tolist() == [3, 9]
    assert len(on_axis(loss, column_of(np.empty(0, np.int64), []))[0]) == 0
