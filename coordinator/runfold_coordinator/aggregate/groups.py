"""Runs of a group -> their metrics on one x axis (the step or a step metric), with statistics over the
runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.column import Axis, Column, Floats, numbers
from runfold_coordinator.aggregate.merge import merge_axis
from runfold_coordinator.aggregate.reduce import MEAN, Reduced, reduce_numbers


def on_axis(values: Column, axis: Column | None) -> tuple[Axis, Floats]:
    """Return a run's numbers over an x axis, strictly increasing.

    Args:
        axis: The run's own column of the x metric; None for the step itself. Points where the run has no x
            are left out; where an x comes again (an epoch spans many steps) the value at the last step
            stands.
    """
    step, y = numbers(values)
    if axis is None:
        return step, y
    at, x = numbers(axis)
    place, is_there = find(at, step)
    return merge_axis(x[place[is_there]], y[is_there]) if len(at) else (x, y[:0])


def over_runs(runs: Sequence[tuple[Axis, Floats]]) -> Reduced:
    """Return the statistics over runs, in the order given; `value` is the mean, argmin and argmax number
    the runs.
    """
    return reduce_numbers(runs, MEAN)
