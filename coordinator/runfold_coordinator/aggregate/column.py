"""One key over steps: a step array, strictly increasing, and the value at each step as it was logged.

Kinds as in the store: "d" float64, "q" int64, "?" bool, "o" a list of Python objects (text, mixed numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["d", "q", "?", "o"]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
#: Positions of a lane's points in a union of steps; a slice where they lie side by side (no copy then).
Places: TypeAlias = "slice | Ints"
#: Where a value stands: int64 steps, or float64 values of a step metric.
Axis: TypeAlias = "NDArray[Any]"

DTYPES: dict[str, type[Any]] = {"d": np.float64, "q": np.int64, "?": np.bool_}


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one key: `step` (n,) strictly increasing; `values` (n,), an array or, for "o", a list."""

    step: Axis
    kind: Kind
    values: NDArray[Any] | list[Any]

    def __len__(self) -> int:
        return len(self.step)

    def objects(self) -> list[Any]:
        """Return the values as Python objects, ints as int and bools as bool."""
        if isinstance(self.values, list):
            return self.values
        listed: list[Any] = self.values.tolist()
        return listed

    def take(self, places: Places) -> Column:
        """Return the points at `places` (a slice, or an ascending index array)."""
        if not isinstance(self.values, list):
            return Column(self.step[places], self.kind, self.values[places])
        if isinstance(places, slice):
            return Column(self.step[places], self.kind, self.values[places])
        return Column(self.step[places], self.kind, [self.values[i] for i in places.tolist()])

    def between(self, low: float | None, high: float | None) -> Column:
        """Return the points with low <= step < high; None means open."""
        first = 0 if low is None else int(np.searchsorted(self.step, low, "left"))
        last = len(self.step) if high is None else int(np.searchsorted(self.step, high, "left"))
        if first == 0 and last == len(self.step):
            return self
        return self.take(slice(first, last))


EMPTY = Column(np.empty(0, np.int64), "d", np.empty(0, np.float64))


def is_number(value: object) -> bool:
    """True for floats and for ints of 64 bits; a bool is not a number here, as in W&B."""
    return type(value) is float or is_int64(value)


def is_int64(value: object) -> bool:
    """True for an int (not a bool) that an int64 holds; larger ones are carried, never computed with."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def column_of(step: Axis, values: Sequence[Any]) -> Column:
    """Return the tightest column for Python values: an array where all are of one plain type."""
    types = set(map(type, values))
    if types == {float}:
        return Column(step, "d", np.array(values, np.float64))
    if types == {bool}:
        return Column(step, "?", np.array(values, np.bool_))
    if types == {int} and all(map(is_int64, values)):
        return Column(step, "q", np.array(values, np.int64))
    return Column(step, "o", list(values))


def numbers(column: Column) -> tuple[Axis, Floats]:
    """Return the points that are numbers, as float64: (step, value). Bools, strings, None are left out."""
    if column.kind == "d":
        assert not isinstance(column.values, list), "a float column holds an array"
        return column.step, column.values
    if column.kind == "q":
        assert not isinstance(column.values, list), "an int column holds an array"
        return column.step, column.values.astype(np.float64)
    if column.kind == "?":
        return column.step[:0], np.empty(0, np.float64)
    kept = [i for i, value in enumerate(column.values) if is_number(value)]
    return column.step[kept], np.array([float(column.values[i]) for i in kept], np.float64)
