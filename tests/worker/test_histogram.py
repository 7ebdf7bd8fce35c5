"""Histogram: counted with or without NumPy, logged as W&B stores it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runfold
from runfold.log_values import flatten


def test_is_logged_as_a_subtree() -> None:
    cells = flatten({"h": runfold.Histogram([1, 2, 3, 4, 5], num_bins=4)})
    assert dict(cells) == {
        ("h", "_type"): "histogram",
        ("h", "values"): [1, 1, 1, 2],
        ("h", "bins"): [1.0, 2.0, 3.0, 4.0, 5.0],
    }


def test_takes_what_numpy_counted() -> None:
    shown = runfold.Histogram(np_histogram=(np.array([1, 2]), [0, 1, 2])).to_json()
    assert shown == {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"np_histogram": ([1],)},
        {"np_histogram": ([1, 2], [0, 1])},
        {"np_histogram": ([0] * 513, [0] * 514)},
        {"sequence": [1.0, math.nan]},
    ],
)
@pytest.mark.parametrize("has_numpy", [True, False])
def test_refuses_what_is_no_histogram(
    wrong: dict[str, Any], has_numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_numpy:
        monkeypatch.delitem(sys.modules, "numpy")
    with pytest.raises(ValueError, match=r"histogram|finite|bins"):
        runfold.Histogram(**wrong)


def test_needs_something_to_count() -> None:
    with pytest.raises(TypeError, match="sequence to be specified"):
        runfold.Histogram()


@given(st.lists(st.integers(-1000, 1000), max_size=40), st.integers(1, 20))
def test_counts_as_numpy_does(numbers: list[int], bins: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delitem(sys.modules, "numpy")
        ours = runfold.Histogram(numbers, num_bins=bins)
    counts, edges = np.histogram(numbers, bins=bins)
    assert sum(ours.histogram) == len(numbers)
    assert ours.bins == pytest.approx(edges.tolist(), abs=1e-9)
    if not any(np.isclose(number, edges).any() for number in numbers):  # on an edge rounding decides
        assert ours.histogram == counts.tolist()
