"""ConsoleKeeper: puts what a process prints into a spool of its own. In: bytes by stream. Out: records.

The spool is made with the first line. Used by the tee, and in the process itself by the wrap.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runfold.console.budget import Budget
from runfold.console.cleaning import Cleaner
from runfold.console.lines import Batch, StreamLines
from runfold.console.place import ConsolePlace
from runfold.node.processes import start_of
from runfold.protocol.errors import ProtocolError
from runfold.protocol.records import ConsoleRecord, RecordKind
from runfold.spool.errors import SpoolUnavailableError
from runfold.spool.limits import SpoolLimits
from runfold.spool.writer import SpoolWriter

#: Lines and bytes of one record, about.
RECORD_LINES = 1000
RECORD_BYTES = 256 * 1024
#: Where no spool can be made, this long passes before the next attempt, seconds.
RETRY_S = 30.0
#: A console says little; what a server takes away frees it again.
LIMITS = SpoolLimits(
    max_bytes=256 * 1024**2,
    first_segment_bytes=64 * 1024,
    max_segment_bytes=1024**2,
    prepare_ahead=False,
)
_MAX_OFFSET_MS = 2**32 - 1


class ConsoleKeeper:
    """Lines of one run's process. `feed` from any thread, in microseconds; `flush` and `close` from one."""

    def __init__(
        self,
        place: ConsolePlace,
        *,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
        budget: Budget | None = None,
    ) -> None:
        self._place = place
        self._clock = clock
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._budget = budget or Budget()
        self._streams: dict[str, tuple[StreamLines, Cleaner]] = {}
        self._writer: SpoolWriter | None = None
        self._record_t_ns = clock_ns()
        self._started_ns = self._record_t_ns
        self._retry_s = -1e9
        #: By stream, lines that no spool could be made for.
        self._unkept: dict[str, int] = {}
        self._is_closed = False

    def feed(self, stream: str, data: bytes | memoryview, t_ns: int | None = None) -> None:
        """Take what was written to a stream, at `t_ns` (unix) or just now."""
        with self._lock:
            if not self._is_closed:
                self._lines_of(stream).feed(data, t_ns or self._clock_ns(), self._clock())

    def lose(self, stream: str, count: int) -> None:
        """Count lines that could not even be taken."""
        with self._lock:
            if not self._is_closed:
                self._lines_of(stream).lose(count, self._clock_ns(), self._clock())

    def _lines_of(self, stream: str) -> StreamLines:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = (StreamLines(self._budget), Cleaner())
        return found[0]

    @property
    def is_idle(self) -> bool:
        """True when `flush` has nothing to do until more is fed."""
        with self._lock:
            return all(lines.is_idle for lines, _ in self._streams.values())

    def flush(self, *, is_last: bool = False) -> None:
        """Append what is ready. Costs milliseconds: the lines are cleaned here."""
        now_s = self._clock()
        with self._lock:
            ready = [
                (name, cleaner, lines.take(now_s, is_last=is_last))
                for name, (lines, cleaner) in self._streams.items()
            ]
        for name, cleaner, batches in ready:
            for batch in batches:
                self._append(name, cleaner, batch)

    def close(self) -> tuple[Path, int] | None:
        """Append what is left and end the spool; return where it is and its last seq, None when it was never
        made. Idempotent; what is fed after is not kept.
        """
        self.flush(is_last=True)
        with self._lock:
            self._is_closed = True
        if self._writer is None:
            return None
        self._writer.close()
        return self._writer.directory, self._writer.last_seq

    def _append(self, stream: str, cleaner: Cleaner, batch: Batch) -> None:
        times_ns = batch.times_ns
        if batch.is_open:
            texts = [cleaner.clean_open(raw) for raw, _ in batch.lines]
            if any(texts):
                self._write(
                    times_ns,
                    ConsoleRecord(
                        stream, batch.first_line, tuple(texts), dropped=batch.dropped, open_count=len(texts)
                    ),
                )
            return
        texts = cleaner.clean(batch.lines)
        at, dropped = 0, batch.dropped
        while at < len(texts) or dropped:
            end = _end_of_record(texts, at)
            part_ns = times_ns[at:end]
            self._write(
                part_ns,
                ConsoleRecord(
                    stream, batch.first_line + at, tuple(texts[at:end]), _offsets(part_ns), dropped
                ),
            )
            at, dropped = end, 0

    def _write(self, times_ns: list[int], record: ConsoleRecord) -> None:
        writer, stream = self._open(), record.stream
        if writer is None:
            count = record.dropped + len(record.lines) - record.open_count
            self._unkept[stream] = self._unkept.get(stream, 0) + count
            return
        unkept = self._unkept.pop(stream, 0)
        if unkept:
            record = replace(record, dropped=record.dropped + unkept)
        self._record_t_ns = times_ns[0] if times_ns else self._clock_ns()
        writer.append_record(RecordKind.CONSOLE, record.pack())

    def _open(self) -> SpoolWriter | None:
        if self._writer is None and self._clock() >= self._retry_s:
            pid = os.getpid()
            identity = {
                **self._place.identity,
                "pid": pid,
                "pid_start": start_of(pid),
                "started_unix_ns": self._started_ns,
            }
            try:
                self._writer = SpoolWriter.create(
                    Path(self._place.spool_root),
                    self._place.target,
                    identity,
                    limits=LIMITS,
                    clock_ns=lambda: self._record_t_ns,
                )
            except (SpoolUnavailableError, ProtocolError, OSError):
                self._retry_s = self._clock() + RETRY_S
        return self._writer


def _end_of_record(texts: list[str], at: int) -> int:
    size, end = 0, at
    while end < len(texts) and end - at < RECORD_LINES and size < RECORD_BYTES:
        size += len(texts[end])
        end += 1
    return end


def _offsets(times_ns: list[int]) -> bytes:
    offsets = [min(max(0, (t_ns - times_ns[0]) // 1_000_000), _MAX_OFFSET_MS) for t_ns in times_ns]
    return struct.pack(f"<{len(offsets)}I", *offsets) if any(offsets) else b""
