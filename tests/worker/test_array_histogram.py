"""Large arrays: the counts and edges are those of numpy.histogram, bit for bit."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold.array_histogram import SMALL, histogram

MANY = SMALL + 4711
KINDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def outcome(call: Any, array: Any, bins: int) -> Any:
    """Return what a call returns, or the words with which it refuses."""
    try:
        return call(array, bins)
    except ValueError as error:
        return str(error)


def same_as_numpy(array: Any, bins: int = 32) -> None:
    """Compare with NumPy: both raise, or both give the same."""
    with np.errstate(all="ignore"):
        expected, found = outcome(np.histogram, array, bins), outcome(histogram, array, bins)
    if isinstance(expected, str):
        assert found == expected
        return
    (counts, edges), (ours, our_edges) = expected, found
    assert ours.dtype == counts.dtype
    assert our_edges.dtype == edges.dtype
    assert ours.tolist() == counts.tolist()
    assert our_edges.tolist() == edges.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bins", [1, 7, 32, 64])
def test_normal_numbers(kind: str, bins: int) -> None:
    numbers = np.random.default_rng(bins).standard_normal(MANY) * 9
    same_as_numpy((numbers + (60 if kind[0] == "u" else 0)).astype(kind), bins)


@given(
    st.sampled_from(KINDS[:3]),
    st.floats(-1e4, 1e4),
    st.integers(-40, 36),
    st.integers(1, 40),
    st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_numbers_that_lie_on_edges(kind: str, low: float, magnitude: int, bins: int, seed: int) -> None:
    """Most numbers are edges of bins, or beside one: there rounding decides."""
    width = 10.0**magnitude
    with np.errstate(over="ignore"):
        edges = np.linspace(low, low + width, bins + 1).astype(kind)
        beside = np.nextafter(edges, np.array(np.inf, kind)), np.nextafter(edges, np.array(-np.inf, kind))
        same_as_numpy(np.random.default_rng(seed).choice(np.concatenate([edges, *beside]), MANY), bins)


@given(st.sampled_from(KINDS[3:]), st.data(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_ints_of_any_range(kind: str, data: st.DataObject, seed: int) -> None:
    limits = np.iinfo(kind)
    low = data.draw(st.integers(int(limits.min), int(limits.max)))
    high = data.draw(st.integers(low, int(limits.max)))
    same_as_numpy(np.random.default_rng(seed).integers(low, high, MANY, kind, endpoint=True))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_what_is_not_finite_is_refused_as_numpy_does(kind: str, odd: float) -> None:
    numbers = np.ones(MANY, kind)
    numbers[-3] = odd
    same_as_numpy(numbers)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(MANY),
        np.full(MANY, 1e8, np.float32),
        (np.linspace(-3, 3, MANY) * 1e38).astype(np.float32),
        np.linspace(-1.7, 1.7, MANY) * 1e308,
        np.arange(MANY) * 5e-324,
        np.arange(MANY, dtype=">f4"),
        np.arange(MANY, dtype=np.longdouble),
        np.random.default_rng(0).standard_normal((400, 300))[::2, ::-1],
        np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32).T,
        np.random.default_rng(0).integers(0, 200, (400, 301)).astype(np.uint8)[:, 1::2],
        np.array([1e16, 1e16 + 64]).repeat(MANY),
    ],
)
def test_odd_ranges_and_layouts(array: Any) -> None:
    same_as_numpy(array)


def test_bools_are_counted_without_a_warning() -> None:
    values = np.random.default_rng(0).integers(0, 2, MANY).astype(bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts, edges = histogram(values, 4)
    assert counts.tolist() == [MANY - values.sum(), 0, 0, values.sum()]
    assert edges.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", ["f2", "f4", "i8", "u1"])
def test_memory_does_not_grow_with_the_array(kind: str) -> None:
    array = np.zeros((4, 2_000_000), kind)[::2, ::2]
    array[0, :1000] = np.arange(1000) % 100
    tracemalloc.start()
    try:
        histogram(array, 32)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
