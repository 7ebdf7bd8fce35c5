"""A rule on a metric's values: how long it has been so, value by value, for each lane apart. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.alerts.config import When

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Hit:
    """The value at which the rule became true; `lane` is a rank or a label, None for the reduced value."""

    lane: int | str | None
    step: int
    value: float


@dataclass(slots=True)
class _Streak:
    count: int = 0
    since_s: float = 0.0
    is_long: bool = False


class MetricWatch:
    """One rule on one run. Values of a lane are fed in order of step, each once."""

    def __init__(self, when: When) -> None:
        self._when = when
        self._streaks: dict[int | str | None, _Streak] = {}

    @property
    def is_true(self) -> bool:
        """Whether the newest values of any lane are such, for long enough."""
        return any(streak.is_long for streak in self._streaks.values())

    def feed(self, lane: int | str | None, step: Ints, t_unix_s: Floats, value: Floats) -> Hit | None:
        """Take new values of a lane; return the first at which it is so for long enough.

        Args:
            step, t_unix_s, value: (n,), ascending in step.
        """
        n = len(value)
        if n == 0:
            return None
        streak = self._streaks.setdefault(lane, _Streak())
        matching = self._matching(value)
        at = np.arange(n)
        last_miss = np.maximum.accumulate(np.where(matching, -1, at))
        goes_on = last_miss < 0  # still the streak that was there before
        carried_since = streak.since_s if streak.count else float(t_unix_s[0])
        count = np.where(goes_on, at + 1 + streak.count, at - last_miss)
        since = np.where(goes_on, carried_since, t_unix_s[np.minimum(last_miss + 1, n - 1)])
        is_long = matching & (count >= self._when.for_steps) & (t_unix_s - since >= self._when.for_s)
        streak.count = int(count[-1]) if matching[-1] else 0
        streak.since_s = float(since[-1])
        streak.is_long = bool(is_long[-1])
        if not is_long.any():
            return None
        first = int(np.argmax(is_long))
        return Hit(lane, int(step[first]), float(value[first]))

    def _matching(self, value: Floats) -> NDArray[np.bool_]:
        if self._when.not_finite:
            return ~np.isfinite(value)
        assert self._when.op is not None, "a metric has a comparison or not_finite, else it is no_data_s"
        found: NDArray[np.bool_] = _OPERATORS[self._when.op](value, self._when.value)
        return found
