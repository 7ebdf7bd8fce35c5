"""SpoolWriter: rows and records of one writer go in, by mmap or pwrite; they survive its process.

Nothing here raises for the file system once the writer is made. What cannot be kept still takes its seq, is
counted, and is declared by a GAP record as soon as there is space again.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from runfold.protocol import failpoints
from runfold.protocol.errors import LimitError
from runfold.protocol.identity import IDENTITY_VERSION, Identity
from runfold.protocol.limits import MAX_RECORD_BYTES, WRITER_ID_BYTES
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RowSchema
from runfold.spool.appender import ROW, Appender, Slot
from runfold.spool.directory import make_target, make_writer, publish_writer, remove_tree, segment_sizes
from runfold.spool.errors import SpoolUnavailableError
from runfold.spool.format import (
    AT_CLOSED,
    AT_FINAL_SEQ,
    AT_HEAD_SEQ,
    CLOSED_WORD,
    HEADER_NAME,
    FixedHeader,
    boot_id_bytes,
    record_bytes,
)
from runfold.spool.last_record import NOTE_NAME, ROOM_FOR_STATUS_BYTES, LastRecord, leave_note
from runfold.spool.limits import SpoolLimits
from runfold.spool.segments import SegmentChain

_STEP: Final = struct.Struct("<q")
_HEAD_WORD: Final = AT_HEAD_SEQ >> 3


class SpoolWriter(Appender):
    """Appends to one spool. Not thread-safe: the caller holds its lock.

    In the same thread, a signal handler may append in the middle of an append: what it says comes first, or,
    in the rare moment when a segment is being changed, right after.
    """

    __slots__ = ()

    @classmethod
    def create(
        cls,
        spool_root: Path,
        target: str,
        identity: Mapping[str, Any],
        *,
        writer_id: bytes | None = None,
        limits: SpoolLimits | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> SpoolWriter:
        """Make a spool and append its WRITER record, seq 1.

        Raises:
            SpoolUnavailableError: No directory, no space, not ours; the caller may try another place.
            ProtocolError: `identity` is not one.
        """
        limits = limits or SpoolLimits()
        writer_id = writer_id or os.urandom(WRITER_ID_BYTES)
        payload = Identity.from_map({**identity, "v": IDENTITY_VERSION}).pack()
        fixed = FixedHeader(
            writer=writer_id,
            pid=int(identity.get("pid") or os.getpid()),
            pid_start=float(identity.get("pid_start") or 0),
            boot_id=boot_id_bytes(identity.get("boot_id")),
            created_ns=clock_ns(),
        )
        directory, header, mapped = make_writer(make_target(spool_root, target), fixed, payload, limits)
        chain = SegmentChain(directory, fixed, limits, mapped=mapped, acked_seq=lambda: header.ack.seq)
        writer = cls(directory, header, chain, writer_id=writer_id, limits=limits, clock_ns=clock_ns)
        try:
            chain.open_next(1, record_bytes(len(payload)))
            writer._use_segment()
            writer._write(RecordKind.WRITER, 0, len(payload), 1, payload)
            writer._move_to(publish_writer(directory))
        except OSError as error:
            writer.close(final=False)
            remove_tree(directory)
            raise SpoolUnavailableError(error.errno, f"no spool in {directory}: {error.strerror}") from error
        return writer

    def __del__(self) -> None:
        """Give descriptors back that nobody closed; the spool then looks as after a kill."""
        with suppress(AttributeError):
            self.close(final=False)

    def _move_to(self, directory: Path) -> None:
        self.directory = self._chain.directory = directory
        self._header.path = directory / HEADER_NAME

    def append_row(self, schema: RowSchema, flags: int, step: int, values: Collection[Slot]) -> bool:
        """Append one row; return whether it was kept.

        Raises:
            struct.error, OverflowError, TypeError: A value does not fit its kind, or there are too many or
                too few. Nothing was changed.
        """
        t_ns = self._clock_ns()
        # From here to the last store there are two calls. A signal handler can run only after one of them,
        # and is seen by the seq that it took.
        position = self._position
        end = position + self._row_bytes
        if schema is not self._schema or end > self._row_until:
            return self._append_row_slowly(schema, flags, step, values)
        seq = self._seq + 1
        self._pack(self._map, position + 8, seq, t_ns, ROW | flags << 16, self._row_aux, step, *values)
        crc = crc32(self._view[position + 8 : end], self._seed)  # type: ignore[index]
        if self._seq + 1 != seq:
            return self.append_row(schema, flags, step, values)
        self._words[position >> 3] = end - position | crc << 32  # type: ignore[index]
        self._seq = seq
        self._position = end
        self._head[_HEAD_WORD] = seq  # type: ignore[index]
        return True

    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool:
        """Append a record that is not a schema-coded row; return whether it was kept.

        Raises:
            LimitError: The payload is larger than 16 MiB. Nothing was changed.
        """
        if len(payload) > MAX_RECORD_BYTES:
            raise LimitError(
                f"a record of {len(payload)} bytes; at most {MAX_RECORD_BYTES}",
                field="payload",
                limit=MAX_RECORD_BYTES,
            )
        return self._exclusively(lambda: self._keep_record(kind, flags, payload))

    def declare_lost(self, count: int, error: OSError) -> bool:
        """Declare `count` records that were lost before there was a spool; return whether it is written."""

        def lose() -> bool:
            self._loss.blame(error)
            self._lose(count)
            return self._declare_gap(0, urgent=True)

        return self._exclusively(lose)

    @property
    def last_seq(self) -> int:
        """The seq of the last record, kept or not."""
        return self._seq

    @property
    def acked_seq(self) -> int:
        """The highest seq that a server has stored durably, as the agent wrote it."""
        return self._header.ack.seq

    @property
    def server_id(self) -> bytes:
        """The server that acknowledged; 16 zero bytes before the first."""
        return self._header.ack.server_id

    @property
    def header_words(self) -> memoryview | None:
        """The header page as words, for the phase (`phase.py`); None where it is not mapped, or closed."""
        return self._header.words

    @property
    def dropped_count(self) -> int:
        """How many records could not be kept."""
        return self._loss.count

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._is_closed

    def close(self, *, final: bool = True) -> None:
        """Close the files; idempotent. Appending is refused from now on.

        Args:
            final: Declare what is still missing and mark the spool as ended, with its last seq. False in a
                forked child, whose parent goes on writing: nothing is stored.
        """
        if self._is_closed:
            return
        if final and self._loss.is_open:
            self._exclusively(lambda: self._declare_gap(0, urgent=True))
        self._let_go(truncate_at=self._position if final and self._position else None)
        if final:
            self._header.store(AT_FINAL_SEQ, self._seq)
            failpoints.hit("spool.before_closed")
            self._header.store(AT_CLOSED, CLOSED_WORD)
        self._header.close()

    def close_with_status(self, payload: bytes, at_last: Callable[[int], bool]) -> bool:
        """Close; the EXIT record becomes part of the spool when the process's status is known.

        Args:
            payload: The record, with code 0 in place of the status.
            at_last: Gets a descriptor; returns whether one byte, the status, will be appended to it as the
                last thing that this process does.

        Returns:
            False when that can't be done: nothing has changed then.
        """
        size = record_bytes(len(payload) + ROOM_FOR_STATUS_BYTES)
        has_room = self._exclusively(lambda: not self._loss.is_open and self._make_room(size, urgent=True))
        segments = segment_sizes(self.directory)
        if not has_room or self._loss.is_open or not segments:
            return False
        last = LastRecord(max(segments), self._position, self._seq + 1, self._clock_ns(), payload)
        note = self.directory / NOTE_NAME
        try:
            fd = leave_note(self.directory, last)
            if not at_last(fd):
                note.unlink()
                return False
        except OSError:
            note.unlink(missing_ok=True)
            return False
        self._let_go(truncate_at=last.position + size if self._chain.mapped else last.position)
        self._header.close()
        return True

    def _let_go(self, *, truncate_at: int | None) -> None:
        """Refuse to append from now on, and close the segment."""
        self._is_closed = True
        self._schema = None
        self._row_until = self._write_until = -1
        self._map = self._view = self._words = self._head = None
        self._chain.close(truncate_at=truncate_at)

    def _append_row_slowly(self, schema: RowSchema, flags: int, step: int, values: Collection[Slot]) -> bool:
        known = self._defined.get(schema)
        if known is not None and not self._busy:
            end = self._position + schema.record_bytes
            if end <= self._row_until:
                # Only another schema's turn. Bound last, with no call in between.
                self._pack, self._row_aux = known
                self._row_bytes = schema.record_bytes
                self._schema = schema
                return self.append_row(schema, flags, step, values)
            if end <= self._write_until:
                return self._exclusively(lambda: self._keep_known_row(schema, known, flags, step, values))
        # Packed before anything else: a wrong value raises here, before a seq is taken.
        body = _STEP.pack(step) + schema.struct.pack(*values)
        return self._exclusively(lambda: self._keep_row(schema, flags, body))
