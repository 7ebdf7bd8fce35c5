"""Many lanes' numbers over a common axis -> mean, std, min, max, count, who was min and max, at each point.

The summation is fixed: lane after lane in the order given, in float64, as `numpy.add.reduce(matrix, axis=0)`
does on a matrix with one lane a row; two passes for std. The bits do not depend on arrival, paging, chunking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.column import Floats, Ints, Places


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics over lanes, all of shape (n,); NaN in any lane makes all but `count` NaN.

    Attributes:
        std: Sample standard deviation (n - 1); NaN where only one lane has a value.
        count: Lanes that have a value here, NaN included; at least 1.
        argmin: Index of the first lane that holds the minimum, or of the first lane that holds NaN.
        argmax: The same for the maximum.
    """

    mean: Floats
    std: Floats
    min: Floats
    max: Floats
    count: Ints
    argmin: Ints
    argmax: Ints


def describe(values: Sequence[Floats], places: Sequence[Places], n: int) -> Stats:
    """Return the statistics of lanes whose points stand at `places` of an axis of n points."""
    with np.errstate(all="ignore"):
        total, count = add_up(values, places, n)
        mean = total / count
        low, argmin = extreme(values, places, n, smallest=True)
        high, argmax = extreme(values, places, n, smallest=False)
        return Stats(mean, _deviation(values, places, mean, count), low, high, count, argmin, argmax)


def add_up(values: Sequence[Floats], places: Sequence[Places], n: int) -> tuple[Floats, Ints]:
    """Return the sum and the count at each point, added in lane order."""
    total = np.full(n, -0.0)  # the only start that leaves every first addend as it is, -0.0 too
    if values and all(_is_whole(place, n) for place in places):
        for value in values:
            total += value
        return total, np.full(n, len(values), np.int64)
    count = np.zeros(n, np.int64)
    for value, place in zip(values, places, strict=True):
        total[place] += value
        count[place] += 1
    return total, count


def extreme(
    values: Sequence[Floats], places: Sequence[Places], n: int, *, smallest: bool
) -> tuple[Floats, Ints]:
    """Return the smallest (or largest) value at each point and the first lane that holds it; NaN wins."""
    best = np.full(n, np.nan)
    holder = np.full(n, -1, np.int64)
    all_held = False
    for lane, (value, place) in enumerate(zip(values, places, strict=True)):
        if lane == 0:
            best[place] = value
            holder[place] = 0
            all_held = _is_whole(place, n)
            continue
        held = best[place]
        # not (a >= b) is true for a < b and where either is NaN; a NaN once held is never let go
        better: NDArray[np.bool_] = ~(value >= held) if smallest else ~(value <= held)
        better &= held == held  # noqa: PLR0124 - false for NaN only
        if not all_held:
            better |= holder[place] < 0
        if better.any():
            best[place] = np.where(better, value, held)
            holder[place] = np.where(better, lane, holder[place])
        all_held = all_held or _is_whole(place, n)
    return best, holder


def _deviation(values: Sequence[Floats], places: Sequence[Places], mean: Floats, count: Ints) -> Floats:
    squares = np.full(len(mean), -0.0)
    for value, place in zip(values, places, strict=True):
        difference = value - mean[place]
        difference *= difference
        squares[place] += difference
    result: Floats = np.sqrt(squares / (count - 1))
    return result


def _is_whole(place: Places, n: int) -> bool:
    return isinstance(place, slice) and place.start == 0 and place.stop == n
