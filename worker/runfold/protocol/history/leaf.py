"""SummaryLeaf: the running statistics of one key.

In: values by step, singly or in batches. Out: what is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from runfold.protocol.history.definitions import SUMMARY_KINDS, Goal, MetricDefinition
from runfold.protocol.history.saved_values import load_value, save_value


class Absent:
    """The type of ABSENT: a key that has no summary, told apart from None."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """Values of one key in step order, digested: feeding it equals feeding them one by one, bit for bit."""

    #: All values count for first and last, numbers only for the rest.
    first: Any
    last: Any
    first_step: int
    last_step: int
    #: Smallest and largest number, NaN left out; None when there is no other.
    low: float | None = None
    high: float | None = None
    count: int = 0
    nan_count: int = 0
    #: The leaf's running total carried in, then added to from left to right; None when there are no numbers.
    total: float | None = None
    #: Whether a float was among the numbers.
    has_float: bool = False


class SummaryLeaf:
    """Running statistics of one key; always kept in full, whatever is shown."""

    __slots__ = (
        "count",
        "first",
        "first_step",
        "goal",
        "has_data",
        "has_float",
        "high",
        "kinds",
        "last_step",
        "latest",
        "low",
        "nan_count",
        "none",
        "total",
    )

    def __init__(self) -> None:
        self.latest: Any = None
        self.first: Any = None
        self.first_step = 0
        self.last_step = 0
        self.low: float | None = None
        self.high: float | None = None
        self.nan_count = 0
        #: How many numbers; bools and everything else don't count.
        self.count = 0
        self.total = 0.0
        self.has_float = False
        self.has_data = False
        #: True hides the key altogether.
        self.none = False
        self.kinds: frozenset[str] = frozenset()
        self.goal: Goal | None = None

    def configure(self, definition: MetricDefinition) -> None:
        """Show what this definition asks for from now on, over all the data seen so far."""
        self.none, self.kinds, self.goal = definition.none, definition.summary, definition.goal

    def clear(self) -> None:
        """Show nothing until the next value; min, max and mean then go on from the old data."""
        self.latest = None
        self.has_data = False

    def observe(self, value: Any, step: int) -> None:
        """Take the value of one row. `last` and `first` go by step, whatever the order of arrival."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._observe_number(value)
        self._place(value, step, value, step)

    def observe_batch(self, batch: LeafBatch) -> None:
        """Take many values at once; see LeafBatch."""
        if batch.low is not None and batch.high is not None:
            self.low = batch.low if self.low is None else min(self.low, batch.low)
            self.high = batch.high if self.high is None else max(self.high, batch.high)
        if batch.total is not None:
            self.total = batch.total
        self.count += batch.count
        self.nan_count += batch.nan_count
        self.has_float = self.has_float or batch.has_float
        self._place(batch.first, batch.first_step, batch.last, batch.last_step)

    def _observe_number(self, value: float) -> None:
        number = as_float(value)
        self.count += 1
        self.total += number
        self.has_float = self.has_float or isinstance(value, float)
        if number != number:  # noqa: PLR0124  # NaN; math.isnan costs a call on the hottest line
            self.nan_count += 1
            return
        number += 0.0  # -0.0 becomes 0.0, so that which of the two came first can't be told from the result
        if self.low is None or number < self.low:
            self.low = number
        if self.high is None or number > self.high:
            self.high = number

    def _place(self, first: Any, first_step: int, last: Any, last_step: int) -> None:
        if not self.has_data:
            self.first, self.first_step = first, first_step
            self.latest, self.last_step = last, last_step
            self.has_data = True
            return
        if first_step < self.first_step:
            self.first, self.first_step = first, first_step
        if last_step >= self.last_step:
            self.latest, self.last_step = last, last_step

    def shown(self) -> Any:
        """Return the summary value of the key, ABSENT when there is none."""
        if self.none or not self.has_data:
            return ABSENT
        if not self.kinds:
            return ABSENT if self.latest is None else self.latest
        values = ((kind, self._statistic(kind)) for kind in SUMMARY_KINDS if kind in self.kinds)
        return {kind: value for kind, value in values if value is not ABSENT} or ABSENT

    def _statistic(self, kind: str) -> Any:
        if kind == "last":
            return self.latest
        if kind == "first":
            return self.first
        if not self.count:
            return ABSENT
        if kind == "mean":
            return self.total / self.count
        if kind == "best":  # NaN is never the best
            best = self.high if self.goal == "maximize" else self.low
            return ABSENT if best is None else self._as_logged(best)
        if self.nan_count:
            return math.nan
        extreme = self.low if kind == "min" else self.high
        assert extreme is not None, "a number that is not NaN has been counted"
        return self._as_logged(extreme)

    def _as_logged(self, number: float) -> int | float:
        return number if self.has_float or math.isinf(number) else int(number)

    def to_state(self) -> list[Any]:
        """Return all of it as a msgpack-able value."""
        return [
            save_value(self.latest),
            save_value(self.first),
            self.first_step,
            self.last_step,
            self.low,
            self.high,
            self.nan_count,
            self.count,
            self.total,
            self.has_float,
            self.has_data,
            self.none,
            sorted(self.kinds),
            self.goal,
        ]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """Rebuild what to_state() returned."""
        leaf = cls()
        latest, first, leaf.first_step, leaf.last_step, *rest = state
        leaf.latest, leaf.first = load_value(latest), load_value(first)
        leaf.low, leaf.high, leaf.nan_count, leaf.count, leaf.total, *rest = rest
        leaf.has_float, leaf.has_data, leaf.none, kinds, leaf.goal = rest
        leaf.kinds = frozenset(kinds)
        return leaf


def as_float(value: float) -> float:
    """Return a number as the statistics see it; an int too large for a float counts as infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def digest_numbers(
    values: Sequence[float], kind: str, first_step: int, last_step: int, total: float
) -> LeafBatch:
    """Digest one column of numbers in step order, without numpy.

    Args:
        values: At least one, all floats (kind "d") or all ints (kind "q").
        total: The leaf's running total so far.
    """
    floats = values if kind == "d" else list(map(as_float, values))
    for number in floats:
        total += number
    low: float | None
    high: float | None
    if total - total == 0.0:  # finite, so there is no NaN, and min and max can be trusted
        low, high, nan_count = min(floats), max(floats), 0
    else:
        kept = [number for number in floats if not math.isnan(number)]
        low, high = min(kept, default=None), max(kept, default=None)
        nan_count = len(floats) - len(kept)
    return LeafBatch(
        first=values[0],
        last=values[-1],
        first_step=first_step,
        last_step=last_step,
        low=None if low is None else low + 0.0,  # no -0.0, as in single feeding
        high=None if high is None else high + 0.0,
        count=len(values),
        nan_count=nan_count,
        total=total,
        has_float=kind == "d",
    )
