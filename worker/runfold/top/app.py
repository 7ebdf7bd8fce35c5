"""`runfold top` as a textual application: runs that go on, the ranks of one, their console, a stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual import events
from textual.app import App

from runfold.top.run_screen import RunScreen
from runfold.top.runs_screen import RunsScreen
from runfold.top.source import Source
from runfold.top.table import Order
from runfold.top.table_screen import TableScreen


class TopApp(App[None]):
    """Shows one run when given its path, else the runs to choose from."""

    TITLE = "runfold top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #head { height: auto; max-height: 10; }
    #banner { height: auto; max-height: 3; display: none; background: red; color: white; text-style: bold; }
    #banner.shown { display: block; }
    #state { height: 1; text-style: dim; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    """

    def __init__(
        self,
        source: Source,
        path: str | None,
        *,
        interval_s: float = 1.0,
        order: Order | None = None,
        words: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ansi_color=True)
        self.source = source
        self.interval_s = interval_s
        self.clock = clock
        self._path = path
        self._order = order
        self._words = words

    def on_mount(self) -> None:
        """Show the first screen."""
        if self._path is not None:
            self.push_screen(RunScreen(self.source, self._path, order=self._order, words=self._words))
        else:
            self.push_screen(RunsScreen(self.source, order=self._order, words=self._words))

    def on_key(self, event: events.Key) -> None:
        """Pass on what no widget took."""
        if isinstance(self.screen, TableScreen) and event.is_printable and event.character:
            self.screen.type_ahead(event.character)
