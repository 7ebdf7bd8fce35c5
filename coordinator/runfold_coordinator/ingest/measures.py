"""What a partition's thread counts and times: it alone writes, others read without a lock."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

#: Upper bounds of the buckets, seconds; the last one is +Inf.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """Counts durations by bucket."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def note(self, seconds: float) -> None:
        """Count one; from one thread only."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> tuple[list[tuple[str, int]], float]:
        """Return cumulative (upper bound, count) pairs, as Prometheus has them, and the sum in seconds."""
        buckets, total = [], 0
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self._counts.copy(), strict=True):
            total += count
            buckets.append((bound, total))
        return buckets, self._sum_s


@dataclass(slots=True)
class ControlCounts:
    """Control messages by kind; `bad` ones do not decode."""

    heartbeats: int = 0
    evidence: int = 0
    bad: int = 0
