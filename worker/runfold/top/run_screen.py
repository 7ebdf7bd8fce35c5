"""The ranks of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runfold.top.columns import RANK_COLUMNS
from runfold.top.headlines import Line, run_lines
from runfold.top.source import Source
from runfold.top.table import Order
from runfold.top.table_screen import TableScreen
from runfold.top.table_view import TableView
from runfold.top.texts import clean


class RunScreen(TableScreen):
    """How the run goes, and a row a rank."""

    def __init__(self, source: Source, path: str, *, order: Order | None = None, words: str = "") -> None:
        table = TableView(RANK_COLUMNS, lambda row: row.get("writer"), id="table")
        super().__init__(table, order=order, words=words)
        self._source = source.again()
        self._path = path
        self._document: Mapping[str, Any] = {}

    def ask(self) -> Any:
        """Ask how the run stands."""
        return self._source.live(self._path)

    def show(self, value: Any) -> None:
        """Take how the run stands."""
        self._document = value
        self.table.put([row for row in value.get("writers") or () if isinstance(row, Mapping)])

    def head(self) -> list[Line]:
        """Return how the run goes."""
        if not self._document:
            return [[(clean(self._path), ""), (" ...", "dim")]]
        return run_lines(self._document, self.size.width or 80)
