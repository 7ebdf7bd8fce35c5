"""ConsoleReader: lines of a run's processes, merged by time. In: a run, who, how many. Out: pages of lines.

Two ways: from the end (`last`), however long the run is, and onwards from a cursor, which says how far each
writer was read: lines that arrive late, from a node that was cut off, come late and are not missed.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.store.console_reads import (
    ConsoleSource,
    StoredLines,
    console_sources,
    lines_back,
    lines_from,
)
from runfold_coordinator.store.store import Store

#: Writers that one page merges: a cursor has a place for each.
MAX_SOURCES = 2000
#: Characters of content in one page, about.
PAGE_CHARS = 8_000_000
#: Longest line that `last_lines` gives, in characters.
LINE_CHARS = 2000
#: A cursor of that many writers, unpacked.
MAX_CURSOR_BYTES = 200_000


class TooManyWritersError(ValueError):
    """More writers than one page can merge."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} writers have lines; at most {MAX_SOURCES} can be merged")


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """One line. `dropped` > 0: it stands for so many lines that were not kept."""

    t_ns: int
    source: ConsoleSource
    stream: str
    number: int
    content: str
    dropped: int = 0
    #: Not complete: a progress bar, a prompt.
    is_open: bool = False
    #: Where its writer is read on after it.
    after: tuple[int, int] = (0, 0)

    def to_document(self) -> dict[str, Any]:
        """Return the line as the API gives it."""
        found: dict[str, Any] = {
            "number": self.number,
            "timestamp": (self.t_ns // 1000) / 1e6,
            "level": "error" if self.stream == "stderr" else "info",
            "label": self.source.label,
            "rank": self.source.rank,
            "writer": self.source.writer_id,
            "stream": self.stream,
            "content": self.content,
        }
        return (
            found
            | ({"dropped": self.dropped} if self.dropped else {})
            | ({"open": True} if self.is_open else {})
        )


@dataclass(frozen=True, slots=True)
class ConsoleFilter:
    """Which lines; None: all."""

    ranks: frozenset[int] | None = None
    label: str | None = None
    writer: str | None = None
    stream: str | None = None

    def takes(self, source: ConsoleSource) -> bool:
        """Whether a writer's lines are wanted."""
        return (
            (self.ranks is None or source.rank in self.ranks)
            and (self.label is None or source.label == self.label)
            and (self.writer is None or source.writer_id == self.writer)
        )


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """Lines in order of time. `is_last`: there are no more for now; the cursor is good for what comes."""

    lines: list[ConsoleLine]
    next_cursor: str
    is_last: bool


class ConsoleReader:
    """Reads console lines from a store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last(self, run_pk: int, count: int, wanted: ConsoleFilter) -> ConsolePage:
        """Return the newest `count` lines, open ones too, and a cursor for those after them."""
        sources = self._sources(run_pk, wanted)
        newest = heapq.merge(
            *(self._back(source, wanted.stream) for source in sources), key=_order, reverse=True
        )
        lines = list(itertools.islice(_bounded(newest), count))[::-1]
        ends = {source.writer_pk: (source.last_seq + 1, 0) for source in sources}
        return ConsolePage(lines, _pack_cursor(ends), is_last=True)

    def page(
        self, run_pk: int, wanted: ConsoleFilter, *, limit: int, cursor: str | None, with_open: bool
    ) -> ConsolePage:
        """Return up to `limit` lines after `cursor`; from the first one when it is None.

        Args:
            with_open: Add the lines that are not complete when there is nothing else any more.

        Raises:
            ValueError: The cursor is none; TooManyWritersError: choose by rank or label.
        """
        sources = self._sources(run_pk, wanted)
        places = _unpack_cursor(cursor) if cursor is not None else {}
        before = dict(places)
        merged = heapq.merge(
            *(self._onwards(source, places, wanted.stream) for source in sources), key=_order
        )
        lines: list[ConsoleLine] = []
        for line in itertools.islice(_bounded(merged), limit):
            lines.append(line)
            before[line.source.writer_pk] = line.after
        is_last = len(lines) < limit and next(merged, None) is None
        if is_last:
            before = places  # those who had nothing more were read to their ends
            if with_open:
                lines += self._open_lines(sources, wanted.stream)
        return ConsolePage(lines, _pack_cursor(before), is_last)

    def last_lines(self, writer_id: str, count: int) -> list[str]:
        """Return the newest lines of a process, oldest first and none very long; [] of one not known."""
        found = self._store.find_writers([writer_id])
        if not found:
            return []
        page = self.last(found[0].run_pk, count, ConsoleFilter(writer=writer_id))
        return [line.content[:LINE_CHARS] for line in page.lines]

    def _sources(self, run_pk: int, wanted: ConsoleFilter) -> list[ConsoleSource]:
        found = [
            source for source in console_sources(self._store, run_pk, wanted.writer) if wanted.takes(source)
        ]
        if len(found) > MAX_SOURCES:
            raise TooManyWritersError(len(found))
        return found

    def _onwards(
        self, source: ConsoleSource, places: dict[int, tuple[int, int]], stream: str | None
    ) -> Iterator[ConsoleLine]:
        seq, skipped = places.get(source.writer_pk, (0, 0))
        if seq > source.last_seq:
            return
        for stored in lines_from(self._store, source, seq):
            skip = skipped if stored.seq == seq else 0
            if stream is None or stored.record.stream == stream:
                complete = (line for line in _lines(source, stored) if not line.is_open)
                yield from itertools.islice(complete, skip, None)
        places[source.writer_pk] = (source.last_seq + 1, 0)

    def _back(self, source: ConsoleSource, stream: str | None) -> Iterator[ConsoleLine]:
        #: By stream, the lowest number given so far: what has it or a higher one was said again later.
        given: dict[str, int] = {}
        for stored in lines_back(self._store, source):
            if stream is not None and stored.record.stream != stream:
                continue
            for line in reversed(_lines(source, stored)):
                if line.number < given.get(line.stream, line.number + 1):
                    given[line.stream] = line.number
                    yield line

    def _open_lines(self, sources: list[ConsoleSource], stream: str | None) -> list[ConsoleLine]:
        found = []
        for source in sources:
            newest = itertools.takewhile(lambda line: line.is_open, self._back(source, stream))
            found += [*newest][::-1]
        return sorted(found, key=_order)


def _lines(source: ConsoleSource, stored: StoredLines) -> list[ConsoleLine]:
    """Return the lines of a record; first, where lines were dropped, one that stands for them."""
    record, texts = stored.record, stored.record.lines
    times_ns = [stored.t_ns] * len(texts)
    if len(record.offsets_ms) == 4 * len(texts):
        offsets = struct.unpack(f"<{len(texts)}I", record.offsets_ms)
        times_ns = [stored.t_ns + offset * 1_000_000 for offset in offsets]
    first_open = len(texts) - min(max(record.open_count, 0), len(texts))
    found: list[ConsoleLine] = []
    if record.dropped > 0:
        text, number = f"[... {record.dropped:,} lines not kept ...]", record.first_line - record.dropped
        after = (stored.seq, 1)
        found.append(
            ConsoleLine(stored.t_ns, source, record.stream, number, text, record.dropped, after=after)
        )
    marks = len(found)
    for at, text in enumerate(texts):
        is_end = at + 1 == len(texts)
        found.append(
            ConsoleLine(
                times_ns[at],
                source,
                record.stream,
                record.first_line + at,
                text,
                is_open=at >= first_open,
                after=(stored.seq + 1, 0) if is_end else (stored.seq, marks + at + 1),
            )
        )
    return found


def _order(line: ConsoleLine) -> tuple[int, int, int]:
    return line.t_ns, line.source.writer_pk, line.number


def _bounded(lines: Iterator[ConsoleLine]) -> Iterator[ConsoleLine]:
    chars = 0
    for line in lines:
        yield line
        chars += len(line.content)
        if chars > PAGE_CHARS:
            return


def _pack_cursor(places: dict[int, tuple[int, int]]) -> str:
    text = json.dumps([[pk, *place] for pk, place in sorted(places.items())], separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()


def _unpack_cursor(cursor: str) -> dict[int, tuple[int, int]]:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(cursor.encode()), MAX_CURSOR_BYTES)
        places = {}
        for pk, seq, skip in json.loads(text):
            if not all(isinstance(each, int) and 0 <= each < 2**63 for each in (pk, seq, skip)):
                raise ValueError("places are whole numbers")
            places[pk] = (seq, skip)
    except (binascii.Error, zlib.error, TypeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"no cursor: {error}") from error
    return places
