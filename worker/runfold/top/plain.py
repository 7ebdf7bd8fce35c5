"""The same view once, as plain text for scripts, pipes and terminals that can do nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runfold.top.columns import RANK_COLUMNS, RUN_COLUMNS, Column, Row
from runfold.top.headlines import run_lines
from runfold.top.table import Order, filtered, fit, header_cells, ordered, row_cells, telling


def run_text(document: Mapping[str, Any], *, width: int, order: Order | None = None, words: str = "") -> str:
    """Return a run's head and a line a rank."""
    rows: list[Row] = [row for row in document.get("writers") or () if isinstance(row, Mapping)]
    lines = ["".join(text for text, _ in line).rstrip() for line in run_lines(document, width)]
    return "\n".join([*lines, "", *table_lines(rows, RANK_COLUMNS, width=width, order=order, words=words)])


def runs_text(runs: Sequence[Row], *, width: int, order: Order | None = None, words: str = "") -> str:
    """Return a line a run."""
    if not runs:
        return "no run goes on"
    return "\n".join(table_lines(runs, RUN_COLUMNS, width=width, order=order, words=words))


def table_lines(
    rows: Sequence[Row], columns: Sequence[Column], *, width: int, order: Order | None = None, words: str = ""
) -> list[str]:
    """Return the header and the rows that pass the filter."""
    always = None if order is None else order.name
    placed = fit(telling(columns, rows, always=always), width, always=always)
    shown = ordered(filtered(rows, columns, words), columns, order)
    lines = [" ".join(header_cells(placed, order)).rstrip()]
    lines += [" ".join(text for text, _ in row_cells(row, placed)).rstrip() for row in shown]
    left_out = len(rows) - len(shown)
    return [*lines, f"{left_out} of {len(rows)} filtered out"] if left_out else lines
