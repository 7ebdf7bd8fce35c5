"""`ConsoleLogs`: an iterator over what a run's processes printed, a page at a time."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runfold.api.connection import Connection
from runfold.api.errors import RequestError
from runfold.api.run_facts import TERMINAL_STATES

#: Most lines that the server gives at once.
MAX_PAGE_LINES = 10_000
#: How often a follower asks for more, seconds.
FOLLOW_EVERY_S = 0.5
#: After the run's end, lines that are still on their way are waited for this long, seconds.
LATE_LINES_S = 2.0


@dataclass(frozen=True, slots=True)
class ConsoleLogLine:
    """One line, with W&B's attributes and ours.

    Attributes:
        number: Of the line among those of its process and stream, from 0; lines that were not kept count.
        timestamp: When it was complete, in UTC.
        level: "error" for what went to stderr alone, else "".
        label: The process's label, "" where it has none.
        content: The text; colours as ANSI sequences.
        rank: The process's rank, None where it has none.
        writer: The process's writer id.
        stream: "stdout", "stderr", "output" (both, where they went to one place) or "logger" (write_logs).
        dropped: More than 0: it stands for so many lines that were not kept, since there were too many.
        is_open: It is not complete: a progress bar, a prompt.
    """

    number: int
    timestamp: datetime.datetime
    level: str
    label: str
    content: str
    rank: int | None
    writer: str
    stream: str
    dropped: int = 0
    is_open: bool = False

    @classmethod
    def of_document(cls, found: dict[str, Any]) -> ConsoleLogLine:
        """Return the line in a server's answer."""
        return cls(
            number=found["number"],
            timestamp=datetime.datetime.fromtimestamp(found["timestamp"], tz=datetime.UTC),
            level="error" if found["level"] == "error" else "",
            label=found["label"] or "",
            content=found["content"],
            rank=found["rank"],
            writer=found["writer"],
            stream=found["stream"],
            dropped=found.get("dropped", 0),
            is_open=found.get("open", False),
        )


class ConsoleLogs(Iterator[ConsoleLogLine]):
    """Lines, oldest first, merged by time over processes. Iterating anew starts anew. Not thread-safe."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        *,
        per_page: int,
        last: int | None,
        follow: bool,
        parameters: dict[str, Any],
    ) -> None:
        """Ask nothing yet.

        Raises:
            RequestError: (a ValueError) `per_page` or `last` is not what it should be.
        """
        for name, value in (("per_page", per_page), ("last", last)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise RequestError(f"{name} must be positive, got {value}", field=name)
        self._connection = connection
        self._path = path
        self._per_page = min(per_page, MAX_PAGE_LINES)
        self._last = min(last, MAX_PAGE_LINES) if last is not None else None
        self._follow = follow
        self._parameters = parameters
        self._restart()

    def __iter__(self) -> ConsoleLogs:
        self._restart()
        return self

    def __next__(self) -> ConsoleLogLine:
        while self._next >= len(self._page):
            if self._is_over:
                raise StopIteration
            self._load_page()
        line = self._page[self._next]
        self._next += 1
        return line

    def _restart(self) -> None:
        self._page: list[ConsoleLogLine] = []
        self._next = 0
        self._cursor: str | None = None
        self._is_over = False
        self._is_at_end = False
        self._ended_s: float | None = None

    def _load_page(self) -> None:
        if self._is_at_end:
            self._await_more()
        asked: dict[str, Any] = {**self._parameters, "cursor": self._cursor, "limit": self._per_page}
        asked["open_lines"] = not self._follow
        if self._cursor is None and self._last is not None:
            asked["last"] = self._last
        answer = self._connection.get(f"{self._path}/console", asked)
        self._page = [ConsoleLogLine.of_document(line) for line in answer["lines"]]
        if self._follow:  # what is open comes again when it is complete
            self._page = [line for line in self._page if not line.is_open]
        self._next = 0
        self._cursor = answer["next_cursor"]
        self._is_at_end = answer["is_last"]
        if self._is_at_end:
            self._is_over = not self._follow or (self._is_late() and not self._page)

    def _await_more(self) -> None:
        if self._ended_s is None and self._connection.get(self._path)["state"] in TERMINAL_STATES:
            self._ended_s = time.monotonic()
        time.sleep(FOLLOW_EVERY_S)

    def _is_late(self) -> bool:
        return self._ended_s is not None and time.monotonic() - self._ended_s > LATE_LINES_S
