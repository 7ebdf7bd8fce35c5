"""StreamLines: bytes of one stream in, numbered lines out. Pure: clocks are passed in.

A line is complete with its line feed. What is not complete for a second is said as it looks (an open line),
and again under its number when it changed, at most once a second. Lines beyond the budget are counted; the
last ones before a pause are kept all the same, since they tell how it ended.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from dataclasses import dataclass, field

from runfold.console.budget import Budget
from runfold.console.cleaning import MARGIN, MAX_LINE
from runfold.console.screen import Screen

#: An open line is said at most once in this time, seconds.
OPEN_EVERY_S = 1.0
#: After so long without output the last lines over the budget are kept, seconds.
PAUSE_S = 0.5
#: So many of them, each up to so many bytes.
LAST_LINES = 200
LAST_LINE_BYTES = 4096
#: Bytes a second, and at once, that go through the screen; of more, only the end.
SCREEN_BYTES = 1_000_000.0
SCREEN_TAIL_BYTES = 4096

_KEEP_BYTES = MAX_LINE + MARGIN
#: Whatever is more than a line with colours.
_REWRITES = re.compile(rb"[\r\x08]|\x1b(?!\[[0-9;:]{0,64}m)")
_LINE_START = re.compile(rb"[\r\n]")

Line = tuple[bytes | str, int]


@dataclass(slots=True)
class Batch:
    """Lines in a row, before they are cleaned. `times_ns`: when each was complete."""

    first_line: int
    dropped: int = 0
    lines: list[Line] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    is_open: bool = False


class StreamLines:
    """The lines of one stream. Not thread-safe."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        #: Number of the next complete line; those that were dropped have one too.
        self._number = 0
        self._dropped = 0
        self._last_dropped: deque[bytes | str] = deque(maxlen=LAST_LINES)
        self._batches: list[Batch] = []
        self._partial = bytearray()
        self._partial_cut = 0
        self._screen = Screen()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_rewriting = False
        self._screen_bytes = SCREEN_BYTES
        self._fed_s = 0.0
        self._fed_ns = 0
        #: Since when which number has been open.
        self._open_since: tuple[int, float] | None = None
        self._open_said: list[bytes | str] = []
        self._open_said_s = -1e9

    @property
    def is_idle(self) -> bool:
        """True when `take` would give nothing, however late, unless more is fed."""
        return not (
            self._batches or self._dropped or self._screen.is_waiting or self._open_said != self._open_lines()
        )

    def feed(self, data: bytes | memoryview, t_ns: int, now_s: float) -> None:
        """Take what was written at `t_ns` (unix); `now_s` is monotonic."""
        data = bytes(data)
        self._budget.refill(now_s)
        passed_s, self._fed_s, self._fed_ns = now_s - self._fed_s, now_s, t_ns
        self._screen_bytes = min(SCREEN_BYTES, self._screen_bytes + passed_s * SCREEN_BYTES)
        if not self._is_rewriting and b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        if self._is_rewriting or _REWRITES.search(data):
            self._feed_screen(data, now_s)
        else:
            self._feed_plain(data)

    def lose(self, count: int, t_ns: int, now_s: float) -> None:
        """Count lines whose bytes nobody could hold."""
        self._fed_s, self._fed_ns = now_s, t_ns
        self._drop(count)
        self._last_dropped.clear()

    def take(self, now_s: float, *, is_last: bool = False) -> list[Batch]:
        """Return, and forget, the lines that are ready; with `is_last` all that is left, as it looks."""
        self._budget.refill(now_s)
        if self._is_rewriting:
            self._keep_all(self._screen.close() if is_last else self._screen.take_finished(now_s))
            if self._screen.is_blank and not self._decoder.getstate()[0]:
                self._is_rewriting = False
        elif is_last and self._partial:
            self._keep(bytes(self._partial), self._partial_cut)
            self._set_partial(b"")
        if self._dropped and (is_last or now_s - self._fed_s >= PAUSE_S):
            self._keep_last_dropped()
        if not is_last:
            self._say_open(now_s)
        batches, self._batches = self._batches, []
        return batches

    # -- plain lines --

    def _feed_plain(self, data: bytes) -> None:
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines:
            cut = self._partial_cut
            if self._partial:
                self._extend_partial(lines[0])
                lines[0], cut = bytes(self._partial), self._partial_cut
            self._set_partial(rest)
            self._keep_all(lines, cut)
        else:
            self._extend_partial(rest)

    def _set_partial(self, data: bytes) -> None:
        self._partial, self._partial_cut = bytearray(), 0
        self._extend_partial(data)

    def _extend_partial(self, data: bytes) -> None:
        room = _KEEP_BYTES - len(self._partial)
        self._partial += data[:room]
        self._partial_cut += max(0, len(data) - room)

    # -- lines that are rewritten --

    def _feed_screen(self, data: bytes, now_s: float) -> None:
        if not self._is_rewriting:
            self._is_rewriting = True
            data = bytes(self._partial) + data
            self._set_partial(b"")
        if len(data) > self._screen_bytes:
            data = self._end_of(data)
        self._screen_bytes -= len(data)
        self._screen.write(self._decoder.decode(data), now_s)
        self._keep_all(self._screen.take_scrolled())

    def _end_of(self, data: bytes) -> bytes:
        """Return the last rows only, and count the lines before them."""
        at = max(0, len(data) - SCREEN_TAIL_BYTES)
        found = _LINE_START.search(data, at)
        at = found.start() if found is not None else at
        self._keep_all(self._screen.close())
        self._decoder.reset()
        self._drop(data.count(b"\n", 0, at))
        self._last_dropped.clear()
        return data[at:]

    # -- what is kept --

    def _keep_all(self, lines: list[bytes] | list[str], first_cut: int = 0) -> None:
        kept = 0
        for line in lines:
            if not self._budget.allows():
                break
            self._keep(line, first_cut if kept == 0 else 0)
            kept += 1
        if kept < len(lines):
            self._last_dropped.extend(
                line[:LAST_LINE_BYTES] for line in lines[max(kept, len(lines) - LAST_LINES) :]
            )
            self._drop(len(lines) - kept)

    def _keep(self, line: bytes | str, cut: int = 0) -> None:
        cut += max(0, len(line) - _KEEP_BYTES)
        line = line[:_KEEP_BYTES]
        self._budget.spend(len(line))
        batch = self._batch()
        batch.lines.append((line, cut))
        batch.times_ns.append(self._fed_ns)
        self._number += 1

    def _batch(self) -> Batch:
        """Return the batch that goes on; a new one after lines that were dropped."""
        if self._dropped or not self._batches or self._batches[-1].is_open:
            self._batches.append(Batch(self._number, self._dropped))
            self._dropped = 0
            self._last_dropped.clear()
        return self._batches[-1]

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._number += count

    def _keep_last_dropped(self) -> None:
        last = list(self._last_dropped)[-self._dropped :]
        self._dropped -= len(last)
        self._number -= len(last)
        self._batch()
        for line in last:
            self._keep(line)

    # -- open lines --

    def _open_lines(self) -> list[bytes | str]:
        if self._is_rewriting:
            return list(self._screen.open_rows())
        return [bytes(self._partial)] if self._partial else []

    def _say_open(self, now_s: float) -> None:
        lines = self._open_lines()
        if not lines:
            self._open_since, self._open_said = None, []
            return
        if self._open_since is None or self._open_since[0] != self._number:
            self._open_since = (self._number, now_s)
        since_s = max(self._open_since[1], self._open_said_s)
        if lines == self._open_said or now_s - since_s < OPEN_EVERY_S or not self._budget.allows():
            return
        self._open_said, self._open_said_s = lines, now_s
        for line in lines:
            self._budget.spend(len(line))
        batch = Batch(self._number, self._dropped, is_open=True)
        self._dropped = 0
        self._last_dropped.clear()
        batch.lines = [(line, 0) for line in lines]
        batch.times_ns = [self._fed_ns] * len(lines)
        self._batches.append(batch)
