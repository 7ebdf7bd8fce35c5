"""The runs that go on, to choose from."""

from __future__ import annotations

from typing import Any

from textual import on

from runfold.top.columns import RUN_COLUMNS, Row
from runfold.top.headlines import Line
from runfold.top.run_screen import RunScreen
from runfold.top.source import MAX_RUNS, Source
from runfold.top.table import Order
from runfold.top.table_screen import TableScreen
from runfold.top.table_view import TableView
from runfold.top.texts import clean


class RunsScreen(TableScreen):
    """A row a run that goes on; Enter opens it."""

    def __init__(self, source: Source, *, order: Order | None = None, words: str = "") -> None:
        super().__init__(TableView(RUN_COLUMNS, run_path, id="table"), order=order, words=words)
        self._source = source.again()
        self._count: int | None = None

    def ask(self) -> Any:
        """Ask which runs go on."""
        return self._source.runs()

    def show(self, value: Any) -> None:
        """Take the runs."""
        self._count = len(value)
        self.table.put(value)

    def head(self) -> list[Line]:
        """Return how many there are."""
        if self._count is None:
            return [[(clean(self._source.url), "")]]
        count = (
            f"{self._count} or more runs go on" if self._count >= MAX_RUNS else f"{self._count} runs go on"
        )
        texts = {0: "no run goes on", 1: "1 run goes on"}
        return [[(clean(self._source.url), ""), (f"  {texts.get(self._count, count)}", "")]]

    @on(TableView.Chosen)
    def _open(self, chosen: TableView.Chosen) -> None:
        self.app.push_screen(RunScreen(self._source, run_path(chosen.row)))


def run_path(row: Row) -> str:
    """Return entity/project/id of a run's document."""
    return f"{row.get('entity')}/{row.get('project')}/{row.get('id')}"
