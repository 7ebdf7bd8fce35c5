"""Cells of a table that is logged: copied in the caller's thread, then put into the forms of its two files.

The file for pages says what JSON can: dates as ISO 8601, media by the name of their class. The artifact's
says enough to make the same cells of it: dates in milliseconds, media as objects with a path.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from runfold import log_values
from runfold.media.cell_values import is_array, is_none
from runfold.media.json_text import plain
from runfold.media.media import Media
from runfold.protocol.limits import MAX_DEPTH

#: Cells of these classes can't change, and have a form in JSON.
_FIXED: frozenset[type] = frozenset({type(None), bool, int, float, str})


def captured_rows(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return copies of rows that share nothing that can change.

    Raises:
        TypeError: A cell has no form in JSON. UnicodeDecodeError: bytes that are no UTF-8.
        ValueError: A cell contains itself.
    """
    return [tuple(row) if _FIXED.issuperset(map(type, row)) else [*map(_captured, row)] for row in rows]


def _captured(cell: Any, depth: int = 0) -> Any:
    """Return a cell, or a part of one, as something that JSON has, or a date, or a medium."""
    kind = type(cell)
    if kind in _FIXED:
        return cell
    if depth > MAX_DEPTH:
        raise ValueError("a cell that is nested too deep, or contains itself")
    if isinstance(cell, Media):
        return _held(cell)
    if is_array(cell):
        return _array(cell, depth)
    if isinstance(cell, Mapping):
        return {_key(key): _captured(item, depth + 1) for key, item in cell.items()}
    if isinstance(cell, (list, tuple, set, frozenset)):
        return [_captured(item, depth + 1) for item in cell]
    if kind.__module__ == "numpy" or isinstance(cell, datetime.date):
        return _scalar(cell)
    if is_none(cell):
        return None
    if isinstance(cell, bytes):
        cell.decode()
        return cell
    if hasattr(cell, "detach") and hasattr(cell, "cpu"):
        return plain(cell)
    return _captured(log_values.convert(cell), depth + 1)


def _held(cell: Media) -> Media:
    _, kept = cell.logged_at(())
    kept.hold()
    return kept


def _array(cell: Any, depth: int) -> Any:
    if cell.dtype.kind in "biuf":
        found = cell.tolist()
        return found if isinstance(found, list) else [found]
    return [_captured(item, depth + 1) for item in cell] if cell.ndim else [_captured(cell[()], depth + 1)]


def _scalar(cell: Any) -> Any:
    """Return a scalar of NumPy as one of Python; a date as it is."""
    if isinstance(cell, datetime.date):
        return cell
    if type(cell).__name__ == "datetime64":
        found = cell.item()
        return found if isinstance(found, datetime.date) else _nanoseconds(cell)
    return log_values.convert(cell)


def _nanoseconds(cell: Any) -> Any:
    """Return a date that is finer than Python's are, cut to microseconds; None for no date."""
    return cell.astype("datetime64[us]").item()


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(key)


def file_rows(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows for the file that pages show."""
    return formed(rows, _for_pages, skips_plain=True)


def formed(
    rows: Iterable[Sequence[Any]], form: Callable[[Any], Any], *, skips_plain: bool = False
) -> list[Sequence[Any]]:
    """Return rows with every cell, at any depth, put into a form; those of plain values as they are."""
    return [
        row if skips_plain and type(row) is tuple else [_formed(cell, form) for cell in row] for row in rows
    ]


def _formed(cell: Any, form: Callable[[Any], Any]) -> Any:
    if isinstance(cell, dict):
        return {key: _formed(item, form) for key, item in cell.items()}
    if isinstance(cell, list):
        return [_formed(item, form) for item in cell]
    return form(cell)


def _for_pages(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return list(cell)  # as W&B
    return type_name(cell) if isinstance(cell, Media) else cell


def type_name(cell: Media) -> str:
    """Return the name of a medium's class as users know it."""
    from runfold.media.table_snapshot import TableSnapshot

    return "Table" if isinstance(cell, TableSnapshot) else type(cell).__name__


def milliseconds(cell: Any) -> Any:
    """Return a date in milliseconds since 1970; without a zone it is UTC. Everything else as it is."""
    if isinstance(cell, datetime.datetime):
        moment = cell if cell.tzinfo else cell.replace(tzinfo=datetime.UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(cell, datetime.date):
        return milliseconds(datetime.datetime(cell.year, cell.month, cell.day, tzinfo=datetime.UTC))
    return cell
