"""How several writers' values of one key at one step become one: rule names, defaults, and a plain reference.

In: (rank, value) pairs of one step and key. Out: the reduced value. The coordinator has the vectorised form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

ReduceRule = Literal["mean", "sum", "min", "max", "first", "last", "primary", "none"]
REDUCE_RULES: tuple[str, ...] = get_args(ReduceRule)

#: Rules that compute with numbers; where a value is no number, "primary" is used instead.
NUMERIC_RULES = frozenset({"mean", "sum", "min", "max"})


@dataclass(frozen=True, slots=True)
class RankedValue:
    """What one writer logged under one key at one step."""

    rank: int | None
    value: Any
    #: Value of the weight metric in the same row; None when not logged.
    weight: float | None = None
    is_primary: bool = False


def is_number(value: Any) -> bool:
    """Tell whether a value takes part in statistics: int or float, not bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def default_rule(values: Sequence[Any]) -> ReduceRule:
    """Return the rule of a key that has none: mean for numbers, else the primary's value."""
    return "mean" if values and all(map(is_number, values)) else "primary"


def reduce_values(said: Sequence[RankedValue], rule: str | None = None) -> Any:
    """Reduce the values of one key at one step. Slow and plain: the reference for the vectorised form.

    Args:
        said: One entry a writer, at least one, in rank order (unranked writers last).
        rule: None means the default for the kind of the values.

    Returns:
        The reduced value. NaN propagates. For "none" there is no reduced value: None.
    """
    values = [entry.value for entry in said]
    rule = rule or default_rule(values)
    if rule == "none":
        return None
    if rule in NUMERIC_RULES and not all(map(is_number, values)):
        rule = "primary"
    if rule in NUMERIC_RULES:
        return _reduce_numbers(said, rule)
    if rule == "first":
        return values[0]
    if rule == "last":
        return values[-1]
    return next((entry.value for entry in said if entry.is_primary), values[0])


def _reduce_numbers(said: Sequence[RankedValue], rule: str) -> int | float:
    values = [entry.value for entry in said]
    nan = next((value for value in values if math.isnan(value)), None)
    if nan is not None:
        return math.nan
    if rule == "min":
        return min(values)  # type: ignore[no-any-return]  # values of any number type
    if rule == "max":
        return max(values)  # type: ignore[no-any-return]  # same
    if rule == "sum":
        return sum_in_order(values)
    weights = [entry.weight for entry in said]
    if all(weight is not None for weight in weights) and sum(weights) > 0:  # type: ignore[arg-type]  # no None
        total = sum_in_order([value * weight for value, weight in zip(values, weights, strict=True)])
        return total / sum_in_order(weights)
    return sum_in_order(values) / len(values)


def sum_in_order(values: Sequence[Any]) -> int | float:
    """Add from left to right, as the running sums do; the built-in sum() compensates from Python 3.12 on."""
    total: int | float = 0
    for value in values:
        total = total + value
    return total
