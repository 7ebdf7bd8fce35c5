"""The ranks of one run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message

from runfold.errors import Error
from runfold.top.columns import RANK_COLUMNS
from runfold.top.console_screen import ConsoleScreen
from runfold.top.headlines import Line, run_lines
from runfold.top.source import Source
from runfold.top.stop_screen import GRACE_S, StopScreen
from runfold.top.table import Order
from runfold.top.table_screen import TableScreen
from runfold.top.table_view import TableView
from runfold.top.texts import clean


class RunScreen(TableScreen):
    """How the run goes, and a row a rank."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "console", "console"),
        Binding("x", "stop", "stop"),
    ]

    class Answered(Message):
        """What became of a stop request."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

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

    @on(TableView.Chosen)
    def action_console(self) -> None:
        """Open what the process of the chosen row prints."""
        row = self.table.selected
        if row is None or not row.get("writer"):
            return
        name = f"rank {row['rank']}" if row.get("rank") is not None else str(row.get("label") or "process")
        name = f"{name} on {row.get('host')}, pid {row.get('pid')}: {row.get('state')}"
        self.app.push_screen(ConsoleScreen(self._source, self._path, str(row["writer"]), name))

    def action_stop(self) -> None:
        """Ask first, then stop the run."""
        self.app.push_screen(StopScreen(self._path), self._stop)

    def _stop(self, is_wanted: bool | None) -> None:
        if is_wanted:
            threading.Thread(target=self._ask_to_stop, name="runfold-top-stop", daemon=True).start()

    def _ask_to_stop(self) -> None:
        try:
            asked = self._source.again().stop(self._path, GRACE_S)
            count = len(asked.get("writers") or ())
            answered = self.Answered(f"asked {count} processes to stop")
        except (Error, OSError, ValueError) as error:
            answered = self.Answered(str(error) or type(error).__name__)
        self.post_message(answered)

    @on(Answered)
    def _show_answer(self, answered: Answered) -> None:
        self.say(answered.text)
