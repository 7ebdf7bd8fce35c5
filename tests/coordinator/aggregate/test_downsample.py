"""Downsampling keeps real points, the ends, and every bucket's extremes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.aggregate.downsample import bucket_starts, choose_rows, downsample

POINTS = st.dictionaries(st.integers(-1000, 100_000), st.floats(width=64), min_size=1, max_size=200)


@given(POINTS, st.integers(4, 60))
def test_ends_and_extremes_of_every_bucket_are_kept(points, samples):
    x = np.array(sorted(points), np.int64)
    y = np.array([points[s] for s in x.tolist()])
    kept = downsample(x, y, samples)
    assert len(kept) <= samples
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0 and kept[-1] == len(x) - 1
    if len(x) <= samples:
        assert len(kept) == len(x)
        return
    starts = bucket_starts(x, samples // 4)
    for low, high in zip(starts, [*starts[1:], len(x)]):
        inside, mine = y[low:high], y[kept[(kept >= low) & (kept < high)]]
        known = inside[~np.isnan(inside)]
        if len(known):
            assert known.min() == np.nanmin(mine) and known.max() == np.nanmax(mine)
        if len(starts) > 1:
            assert np.isnan(mine).any() == np.isnan(inside).any()


def test_buckets_are_of_equal_width():
    x = np.array([0, 1, 2, 50, 99, 100])
    assert bucket_starts(x, 4).tolist() == [0, 3, 4]


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_very_few_samples_are_the_last_and_the_extremes(samples):
    y = np.array([1.0, -5.0, 9.0, 2.0])
    kept = downsample(np.arange(4), y, samples)
    assert kept.tolist() == [[3], [2, 3], [1, 2, 3]][samples - 1]


def test_a_single_spike_among_millions_is_kept():
    y = np.zeros(3_000_000)
    y[1_234_567] = 1.0
    y[2_000_001] = np.nan
    kept = downsample(np.arange(len(y)), y, 500)
    assert {1_234_567, 2_000_001} <= set(kept.tolist())


@given(POINTS, POINTS, st.integers(8, 60))
def test_chosen_rows_hold_the_extremes_of_every_key(a, b, samples):
    x = np.array(sorted({*a, *b}), np.int64)
    columns = []
    for points in (a, b):
        steps = sorted(points)
        columns.append((np.searchsorted(x, steps), np.array([points[s] for s in steps])))
    kept = choose_rows(x, columns, samples)
    assert len(kept) <= samples
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0 and kept[-1] == len(x) - 1
    if samples // 2 // 6 == 0:
        return
    for places, y in columns:
        known = y[~np.isnan(y)]
        mine = y[np.isin(places, kept)]
        if len(known):
            assert np.nanmin(mine) == known.min() and np.nanmax(mine) == known.max()
        if samples >= 24:  # two buckets a key: each can show its NaN
            assert np.isnan(mine).any() == np.isnan(y).any()
