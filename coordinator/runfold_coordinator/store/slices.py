"""Long lists of values in questions to a database, which takes so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

#: Values in one `IN (...)`: below what every database takes, and short enough to be planned fast.
AT_ONCE = 500

Value = TypeVar("Value")


def in_slices(values: Iterable[Value], most: int = AT_ONCE) -> Iterator[list[Value]]:
    """Yield the values in lists of at most `most`; none when there are none."""
    chosen = list(values)
    for start in range(0, len(chosen), most):
        yield chosen[start : start + most]
