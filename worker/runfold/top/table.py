"""Rows to the lines of a table: which columns fit, which rows pass the filter, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runfold.top.columns import Column, Row, StyleName
from runfold.top.texts import UNKNOWN, clean, fitted

GAP = 1
#: Columns up to this priority are there even where they tell nothing.
_ESSENTIAL = 3


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, and which way."""

    name: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A column and the width that it has."""

    column: Column
    width: int


def fit(columns: Sequence[Column], width: int, *, always: str | None = None) -> list[Placed]:
    """Return the columns that have room, in their order; the one that grows takes what is left.

    Args:
        always: A column that stays wherever there is room for it at all: the one that is sorted by.
    """
    kept: list[Column] = []
    left = width
    for column in sorted(columns, key=lambda each: (each.name != always, each.priority)):
        need = column.width + (GAP if kept else 0)
        if need > left and kept:
            break  # a later one might have room, and would go again in a wider terminal
        kept.append(column)
        left -= need
    left = max(0, left)
    placed = []
    for column in columns:
        if column in kept:
            more = left if column.grows else 0
            placed.append(Placed(column, min(column.width + more, width)))
    return placed


def telling(columns: Sequence[Column], rows: Sequence[Row], *, always: str | None = None) -> list[Column]:
    """Return the columns that tell something of some row: a job without GPUs needs no room for theirs.

    Args:
        always: The column that is sorted by.
    """
    return [
        column
        for column in columns
        if column.name == always
        or column.priority <= _ESSENTIAL
        or any(column.text(row) != UNKNOWN for row in rows)
    ]


def ordered(rows: Sequence[Row], columns: Sequence[Column], order: Order | None) -> list[Row]:
    """Return the rows in order; those without a value come last, equals stay as they came."""
    column = next((each for each in columns if order is not None and each.name == order.name), None)
    if column is None or order is None:
        return list(rows)
    keyed = [(column.key(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [row for _, row in known] + [row for key, row in keyed if key is None]


def filtered(rows: Sequence[Row], columns: Sequence[Column], text: str) -> list[Row]:
    """Return the rows in which each word of `text` stands somewhere, upper and lower case alike.

    "rank:3" asks for what a column shows, by its name.
    """
    words = text.casefold().split()
    if not words:
        return list(rows)
    return [row for row in rows if _has_all(row, columns, words)]


def _has_all(row: Row, columns: Sequence[Column], words: Sequence[str]) -> bool:
    shown = {column.name: column.text(row).casefold() for column in columns}
    for word in words:
        name, colon, value = word.partition(":")
        if colon and name in shown:
            if shown[name] != value:
                return False
        elif not any(word in each for each in shown.values()):
            return False
    return True


def next_order(placed: Sequence[Placed], order: Order | None) -> Order | None:
    """Return the order after this one: column by column, and after the last none again."""
    names = [each.column.name for each in placed]
    if order is None or order.name not in names:
        return order_by(placed[0].column) if placed else None
    at = names.index(order.name) + 1
    return order_by(placed[at].column) if at < len(placed) else None


def order_by(column: Column, before: Order | None = None) -> Order:
    """Return the order by a column; asked for once more, the other way round."""
    if before is not None and before.name == column.name:
        return Order(column.name, not before.descending)
    return Order(column.name, column.descending_first)


def header_cells(placed: Sequence[Placed], order: Order | None) -> list[str]:
    """Return the titles; the one that is sorted by has a mark."""
    cells = []
    for each in placed:
        title = each.column.title
        if order is not None and order.name == each.column.name:
            title = title[: each.width - 1] + ("↓" if order.descending else "↑")
        cells.append(fitted(title, each.width, right=each.column.right))
    return cells


def row_cells(row: Row, placed: Sequence[Placed]) -> list[tuple[str, StyleName]]:
    """Return the cells of a row, each as wide as its column, with the name of its style."""
    return [
        (
            fitted(clean(each.column.text(row)), each.width, right=each.column.right),
            each.column.style(row),
        )
        for each in placed
    ]


def column_at(placed: Sequence[Placed], x: int) -> Column | None:
    """Return the column at a cell of the line, for a click."""
    left = 0
    for each in placed:
        if left <= x < left + each.width + GAP:
            return each.column
        left += each.width + GAP
    return None
