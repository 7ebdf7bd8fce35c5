"""Many x arrays -> their sorted union, and where each array's points stand in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.column import Axis, Ints, Places

#: A bitmap over the steps beats sorting while the span of steps is at most this many times the points.
DENSE_RATIO = 4


def align(axes: Sequence[Axis]) -> tuple[Axis, list[Places]]:
    """Return the sorted union of strictly increasing axes, and each one's places in it.

    The union of no points is an empty int64 array. Equal axes cost one comparison each.
    """
    filled = [x for x in axes if len(x)]
    if not filled:
        return np.empty(0, np.int64), [slice(0, 0)] * len(axes)
    first = filled[0]
    distinct = [x for x in filled if not same(x, first)]
    if not distinct:
        whole = slice(0, len(first))
        return first, [whole if len(x) else slice(0, 0) for x in axes]
    if all(x.dtype == np.int64 for x in filled):
        low = min(int(x[0]) for x in filled)
        span = max(int(x[-1]) for x in filled) - low + 1
        if span <= DENSE_RATIO * sum(map(len, filled)):
            return _align_dense(axes, low, span)
    union: NDArray[Any] = np.unique(np.concatenate([first, *distinct]))
    return union, [_as_slice(np.searchsorted(union, x)) for x in axes]


def same(a: Axis, b: Axis) -> bool:
    """True when two axes hold the same points; ends are compared first, as they nearly always differ."""
    if a is b:
        return True
    if len(a) != len(b) or (len(a) and (a[0] != b[0] or a[-1] != b[-1])):
        return False
    return bool(np.array_equal(a, b))


def find(axis: Axis, wanted: Axis) -> tuple[Ints, NDArray[np.bool_]]:
    """Return for each wanted point its place in `axis`, and whether it is there at all."""
    if same(axis, wanted):
        return np.arange(len(axis)), np.ones(len(axis), np.bool_)
    if not len(axis):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(axis, wanted), len(axis) - 1)
    return place, axis[place] == wanted


def _align_dense(axes: Sequence[Axis], low: int, span: int) -> tuple[Axis, list[Places]]:
    seen = np.zeros(span, np.bool_)
    for x in axes:
        seen[x - low] = True
    place = np.cumsum(seen) - 1
    return np.flatnonzero(seen) + low, [_as_slice(place[x - low]) for x in axes]


def _as_slice(places: Ints) -> Places:
    if not len(places):
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places
