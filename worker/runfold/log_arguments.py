"""What `log()` takes for `step` and `commit`: W&B's rules and errors. Pure."""

from __future__ import annotations

import operator
from typing import Any


def check_step(step: Any) -> int | None:
    """Return the step as int; TypeError for bool, float and str, ValueError outside of int64."""
    if step is None:
        return None
    if isinstance(step, bool):
        raise TypeError("'bool' object cannot be interpreted as an integer")
    number = operator.index(step)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"Value out of range: {number}")
    return number


def check_commit(commit: Any) -> bool | None:
    """Return commit as bool; TypeError for what is no truth value."""
    if commit is None or isinstance(commit, bool):
        return commit
    if type(commit).__module__ == "numpy" and type(commit).__name__ in ("bool", "bool_"):
        return bool(commit)
    return bool(operator.index(commit))
