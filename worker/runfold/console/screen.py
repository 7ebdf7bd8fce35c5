"""Screen: the few lines of a terminal that a program still rewrites. Pure.

In: text with carriage returns and escape sequences, as progress bars write it. Out: rows as they look.
No terminal emulator: it knows the moves that tqdm, rich and pip make, and lets all other sequences go.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Rows that can be rewritten; older ones are finished.
MAX_ROWS = 64
MAX_COLUMNS = 4096
#: So long after the cursor last went up, rows above it may still be rewritten, seconds.
REWRITE_S = 5.0
_RESET = "\x1b[0m"

_TOKENS = re.compile(
    r"\x1b\[(?P<arguments>[0-9;:<=>?]{0,64})[ -/]{0,4}(?P<final>[@-~])"
    r"|(?P<dropped>\x1b[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?)"
    r"|(?P<control>[\n\r\b])"
    r"|(?P<text>[^\x1b\n\r\b]+)"
)
#: The beginning of a sequence whose end is still to come.
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:<=>?]{0,64}[ -/]{0,4}|[\]PX^_][^\x07\x1b]{0,4096}\x1b?|[ -/]*)?\Z")


class Cell(NamedTuple):
    """One character and the colours that it has."""

    char: str
    style: str


class Screen:
    """Rows and a cursor. Not thread-safe."""

    def __init__(self) -> None:
        self._rows: list[list[Cell]] = [[]]
        self._x = self._y = 0
        #: Where the cursor was before it went up.
        self._low = 0
        self._style = ""
        self._held = ""
        #: How far the cursor went up lately, in rows, and when.
        self._reach = 0
        self._reached_s = 0.0
        self._finished: list[str] = []

    @property
    def is_blank(self) -> bool:
        """True when nothing is on it that could change: the next line may be taken without it."""
        return self._rows == [[]] and not (self._finished or self._held or self._style or self._x)

    @property
    def is_waiting(self) -> bool:
        """True while rows above the cursor will be finished by time alone."""
        return bool(self._y or self._finished)

    def write(self, text: str, now_s: float) -> None:
        """Take what the program wrote."""
        text = self._held + text
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished[0] if unfinished is not None else ""
        if self._held:
            text = text[: -len(self._held)]
        for found in _TOKENS.finditer(text):
            match found.lastgroup:
                case "text":
                    self._put(found["text"])
                case "control":
                    self._control(found["control"])
                case "final":
                    self._sequence(found["final"], found["arguments"], now_s)

    def take_finished(self, now_s: float) -> list[str]:
        """Return, and forget, the rows that the program has left for good."""
        if now_s - self._reached_s >= REWRITE_S:
            self._reach = 0
        self._finish(self._y - self._reach)
        return self.take_scrolled()

    def take_scrolled(self) -> list[str]:
        """Return, and forget, the rows that are out of the program's reach already."""
        finished, self._finished = self._finished, []
        return finished

    def open_rows(self) -> list[str]:
        """Return the rows that may still change; no empty ones at the end."""
        rows = [_render(row) for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def close(self) -> list[str]:
        """Return everything that is left, as it looks now, and begin anew."""
        rows = [*self._finished, *self.open_rows()]
        self.__init__()  # type: ignore[misc]  # the same as a new one
        return rows

    def _finish(self, count: int) -> None:
        if count > 0:
            self._finished += [_render(row) for row in self._rows[:count]]
            del self._rows[:count]
            self._y -= count
            self._low -= count

    def _put(self, text: str) -> None:
        row, style = self._rows[self._y], self._style
        text = text[: max(0, MAX_COLUMNS - self._x)]
        if len(row) < self._x:
            row += [Cell(" ", "")] * (self._x - len(row))
        row[self._x : self._x + len(text)] = [Cell(char, style) for char in text]
        self._x += len(text)

    def _control(self, char: str) -> None:
        if char == "\b":
            self._x = max(0, self._x - 1)
            return
        self._x = 0
        if char == "\n":
            self._down(1)

    def _down(self, count: int) -> None:
        self._y += count
        self._low = self._y
        self._rows += [[] for _ in range(self._y + 1 - len(self._rows))]
        self._finish(min(self._y, len(self._rows) - MAX_ROWS))

    def _up(self, count: int, now_s: float) -> None:
        self._y = max(0, self._y - count)
        self._reach = max(self._reach, self._low - self._y)
        self._reached_s = now_s

    def _sequence(self, final: str, arguments: str, now_s: float) -> None:
        count = _first_number(arguments)
        moves = min(max(count, 1), MAX_ROWS)
        match final:
            case "m":
                self._colour(arguments)
            case "A" | "F":
                self._up(moves, now_s)
            case "B" | "E":
                self._down(moves)
            case "C":
                self._x = min(MAX_COLUMNS, self._x + max(count, 1))
            case "D":
                self._x = max(0, self._x - max(count, 1))
            case "G":
                self._x = min(MAX_COLUMNS, max(count, 1) - 1)
            case "K":
                self._erase_in_row(count)
            case "J" if count == 0:
                self._erase_in_row(0)
                del self._rows[self._y + 1 :]
            case "J":
                # The screen is cleared: what was on it stays as it was, and the next is begun.
                self._finished += self.open_rows()
                self._rows, self._x, self._y, self._low = [[]], 0, 0, 0
        if final in "EF":
            self._x = 0

    def _erase_in_row(self, how: int) -> None:
        row = self._rows[self._y]
        if how in (0, 2):
            del row[self._x if how == 0 else 0 :]
        else:
            row[: self._x] = [Cell(" ", "")] * min(self._x, len(row))

    def _colour(self, arguments: str) -> None:
        if arguments in ("", "0", "00"):
            self._style = ""
        elif len(self._style) < 256:  # else nobody ever resets: what is added changes nothing more
            self._style += f"\x1b[{arguments}m"


def _first_number(arguments: str) -> int:
    digits = re.match(r"\d{1,6}", arguments)
    return int(digits[0]) if digits is not None else 0


def _render(row: list[Cell]) -> str:
    parts: list[str] = []
    style = ""
    for cell in row:
        if cell.style != style:
            parts.append((_RESET if style else "") + cell.style)
            style = cell.style
        parts.append(cell.char)
    return "".join(parts).rstrip(" ") + (_RESET if style else "")
