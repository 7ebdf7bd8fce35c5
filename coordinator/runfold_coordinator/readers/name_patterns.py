"""Patterns of names, the same over each database: % any characters, _ one; the case counts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store.store import Store


def fits(store: Store, column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """Return the condition; SQLite's LIKE ignores the case, so its GLOB is asked the same."""
    if store.engines.is_sqlite:
        return column.op("GLOB", is_comparison=True)(as_glob(pattern))
    return column.like(pattern)


def as_glob(pattern: str) -> str:
    r"""Return the GLOB pattern that means what a LIKE pattern (escape: \) means."""
    found: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char in "%_":
            found.append("*" if char == "%" else "?")
            continue
        literal = next(chars, "\\") if char == "\\" else char
        found.append(f"[{literal}]" if literal in "*?[" else literal)
    return "".join(found)
