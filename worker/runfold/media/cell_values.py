"""Cells of a table: what is a list, an array, or nothing at all. Pure; NumPy is not imported."""

from __future__ import annotations

import math
from typing import Any

#: What is a list to a table, and nothing that is derived from it.
LISTS: frozenset[type] = frozenset({list, tuple, set, frozenset})


def items_of(value: Any) -> list[Any] | None:
    """Return the elements of what is a list to a table, None for anything else."""
    if type(value) in LISTS:
        return list(value)
    if is_array(value) and value.ndim == 1:
        return list(value)
    return None


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, or of lists in lists of equal lengths; None for anything else."""
    if is_array(value):
        return tuple(value.shape)
    if type(value) not in LISTS:
        return None
    items = list(value)
    shapes = {shape_of(item) or () for item in items}
    return (len(items), *(shapes.pop() if shapes else ())) if len(shapes) < 2 else None


def is_none(value: Any) -> bool:
    """Return whether a value stands for nothing: None, NaN as Python has it, pandas' NA and NaT."""
    if value is None:
        return True
    if type(value) is float:
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas")


def is_array(value: Any) -> bool:
    """Return whether it is an array of NumPy."""
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"
