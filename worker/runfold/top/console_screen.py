"""What one process prints, as it prints it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, RichLog, Static

from runfold.cli.tail import harmless
from runfold.errors import Error
from runfold.top.source import Source
from runfold.top.texts import clean

if TYPE_CHECKING:
    from runfold.api.console_logs import ConsoleLogLine

#: Lines shown at first, and kept.
FIRST_LINES = 200
MAX_LINES = 10_000
#: After an answer that did not come, seconds.
_RETRY_S = 2.0


class ConsoleScreen(Screen[None]):
    """Follows one process until it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,c", "app.pop_screen", "back", key_display="esc"),
        Binding("q", "app.quit", "quit"),
    ]
    CSS = "ConsoleScreen RichLog { height: 1fr; background: ansi_default; }"

    class Printed(Message):
        """Lines that came, or why none came (`error`), or that there will be no more."""

        def __init__(self, lines: Iterable[str], *, error: str = "", is_over: bool = False) -> None:
            super().__init__()
            self.lines = list(lines)
            self.error = error
            self.is_over = is_over

    def __init__(self, source: Source, path: str, writer: str, name: str) -> None:
        super().__init__()
        self._source = source.again()
        self._path = path
        self._writer = writer
        self._shown_as = name
        self._count = 0
        self._left = threading.Event()

    def compose(self) -> ComposeResult:
        """Lay out: whose it is, the lines, the keys."""
        yield Static(Text(clean(self._shown_as), style="bold"), id="who")
        yield RichLog(max_lines=MAX_LINES, wrap=False, highlight=False, markup=False, id="lines")
        yield Static(id="state")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow."""
        threading.Thread(target=self._follow, name="runfold-top-console", daemon=True).start()
        self.query_one(RichLog).focus()

    def on_unmount(self) -> None:
        """Follow no more; the thread ends with the next line."""
        self._left.set()

    @on(Printed)
    def _show(self, printed: Printed) -> None:
        log = self.query_one(RichLog)
        for line in printed.lines:
            log.write(Text.from_ansi(harmless(line), no_wrap=True))
        self._count += len(printed.lines)
        text = printed.error or ("it has ended" if printed.is_over else "")
        if not self._count and not text:
            text = "nothing printed yet"
        self.query_one("#state", Static).update(Text(clean(text)))

    def _follow(self) -> None:
        lines: Iterator[ConsoleLogLine] | None = None
        self._tell([])
        while not self._left.is_set():
            try:
                if lines is None:
                    lines = self._source.lines(self._path, self._writer, FIRST_LINES)
                line = next(lines)  # after an error it goes on where it was
                if not line.is_open:
                    self._tell([line.content])
            except StopIteration:
                self._tell([], is_over=True)
                return
            except (Error, OSError, ValueError) as error:
                self._tell([], error=str(error) or type(error).__name__)
                self._left.wait(_RETRY_S)

    def _tell(self, lines: list[str], *, error: str = "", is_over: bool = False) -> None:
        if not self._left.is_set():
            self.post_message(self.Printed(lines, error=error, is_over=is_over))
