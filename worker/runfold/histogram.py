"""Histogram: a value for log() that says how many numbers lie in each bin."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from runfold import array_histogram
from runfold.wb_value import WBValue


class Histogram(WBValue):
    """Counts per bin, from numbers or from what `numpy.histogram` returned. Logged as W&B stores it."""

    #: Bins at most.
    MAX_LENGTH = 512

    def __init__(
        self,
        sequence: Sequence[float] | Any | None = None,
        np_histogram: tuple[Any, Any] | None = None,
        num_bins: int = 64,
    ) -> None:
        """Count `sequence`, whatever its size, in `num_bins` equal bins, or take (counts, edges) as they are.

        Raises:
            ValueError: A number is not finite, there are too many bins, or `np_histogram` is no such pair.
            TypeError: Neither is given.
        """
        if np_histogram is not None:
            if len(np_histogram) != 2:
                raise ValueError(
                    "Expected np_histogram to be a tuple of (values, bin_edges) or sequence to be specified"
                )
            counts, edges = np_histogram
        elif sequence is None:
            raise TypeError(
                "Expected np_histogram to be a tuple of (values, bin_edges) or sequence to be specified"
            )
        else:
            counts, edges = _count(sequence, num_bins)
        self.histogram: list[Any] = counts.tolist() if hasattr(counts, "tolist") else list(counts)
        self.bins: list[Any] = edges.tolist() if hasattr(edges, "tolist") else list(edges)
        if len(self.histogram) > self.MAX_LENGTH:
            raise ValueError(f"The maximum length of a histogram is {self.MAX_LENGTH}")
        if len(self.histogram) + 1 != len(self.bins):
            raise ValueError("len(bins) must be len(histogram) + 1")

    def to_json(self, run: object = None) -> dict[str, Any]:
        """Return the stored form. `run` is accepted for W&B's signature."""
        del run
        return {"_type": "histogram", "values": self.histogram, "bins": self.bins}


def _count(sequence: Any, num_bins: int) -> tuple[Any, Any]:
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        return array_histogram.histogram(sequence, num_bins)
    numbers = [float(number) for number in sequence]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a histogram needs finite numbers")
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = [low + (high - low) / num_bins * index for index in range(num_bins)] + [high]
    filled = [0] * num_bins
    for number in numbers:
        filled[min(bisect_right(bins, number) - 1, num_bins - 1)] += 1
    return filled, bins
