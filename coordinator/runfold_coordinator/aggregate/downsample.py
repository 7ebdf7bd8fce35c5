"""Many points -> at most n of them: first, last, lowest and highest of each bucket, so that no spike is lost.

Only real points are returned, never averages. Buckets are of equal width on the x axis, as a chart draws
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.column import Axis, Floats, Ints

#: Points kept of a bucket: first, lowest, highest, last.
POINTS_PER_BUCKET = 4


def downsample(x: Axis, y: Floats, samples: int) -> Ints:
    """Return the ascending places of at most `samples` points that keep every extreme.

    Args:
        x: Strictly increasing.
        y: May hold NaN: a bucket with one keeps the first NaN in place of its first point.
        samples: At least 1; below 4 only the overall extremes are kept, in the order last, highest, lowest,
            first.
    """
    if len(x) <= samples:
        return np.arange(len(x))
    buckets = samples // POINTS_PER_BUCKET
    if buckets == 0:
        first, low, high, last = (int(kept[0]) for kept in _extremes(y, np.zeros(1, np.int64)))
        return np.unique([last, high, low, first][:samples])
    starts = bucket_starts(x, buckets)
    first_points, lowest, highest, last_points = _extremes(y, starts)
    return np.unique(np.concatenate([first_points, lowest, highest, last_points]))


def choose_rows(x: Axis, columns: Sequence[tuple[Ints, Floats]], samples: int) -> Ints:
    """Return the ascending places of at most `samples` rows: half spread evenly, half for extremes.

    Args:
        x: Strictly increasing, one per row.
        columns: For each numeric key the ascending places of the rows that have it, and its values there.
            With so many keys that no bucket is left for each, only the even spread remains.
    """
    if len(x) <= samples:
        return np.arange(len(x))
    filled = [(places, y) for places, y in columns if len(places)]
    per_bucket = 3 if any(np.isnan(y).any() for _, y in filled) else 2
    buckets = samples // 2 // (per_bucket * len(filled)) if filled else 0
    even = samples - samples // 2 if buckets else samples
    kept = [_evenly(x, even)]
    for places, y in filled if buckets else ():
        at = x[places]
        starts = bucket_starts(at, buckets)
        first, lowest, highest, last = _extremes(y, starts)
        kept += [places[lowest], places[highest]]
        if per_bucket == 3:
            for end in (first, last):
                kept.append(places[end[np.isnan(y[end])]])
    return np.unique(np.concatenate(kept))


def _evenly(x: Axis, count: int) -> Ints:
    """Return the first and the last place and those next to equal distances between; at most `count`."""
    if count == 1:
        return np.array([len(x) - 1])
    low, high = float(x[0]), float(x[-1])
    inner = low + (high - low) * (np.arange(1, count - 1) / (count - 1))
    return np.unique(np.concatenate([[0], np.searchsorted(x, inner), [len(x) - 1]]))


def bucket_starts(x: Axis, buckets: int) -> Ints:
    """Return the place at which each non-empty bucket of equal width begins."""
    low, high = float(x[0]), float(x[-1])
    edges = low + (high - low) * (np.arange(1, buckets) / buckets)
    starts = np.concatenate([[0], np.searchsorted(x, edges)])
    return np.unique(starts[starts < len(x)])


def _extremes(y: Floats, starts: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    ends = np.append(starts[1:], len(y))
    is_nan = np.isnan(y)
    lowest = _first_equal(y, np.minimum.reduceat(np.where(is_nan, np.inf, y), starts), starts)
    highest = _first_equal(y, np.maximum.reduceat(np.where(is_nan, -np.inf, y), starts), starts)
    first, last = starts.copy(), ends - 1
    if is_nan.any():
        has_nan = np.logical_or.reduceat(is_nan, starts)
        nan_place = _first_equal(is_nan, has_nan, starts)
        # the very first point stays: its bucket gives up its last point instead, unless it is the only bucket
        first[1:] = np.where(has_nan[1:], nan_place[1:], first[1:])
        if has_nan[0] and len(starts) > 1:
            last[0] = nan_place[0]
    return first, lowest, highest, last


def _first_equal(y: NDArray[np.generic], wanted: NDArray[np.generic], starts: Ints) -> Ints:
    """Return in each bucket the first place whose value is the wanted one; the bucket's start where none
    is.
    """
    bucket = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(y))))
    places = np.flatnonzero(y == wanted[bucket])
    owners, firsts = np.unique(bucket[places], return_index=True)
    found = starts.copy()
    found[owners] = places[firsts]
    return found
