"""SpoolWriter: rows and records of one writer go in, by mmap or pwrite; they survive its process.

Nothing here raises for the file system once the writer is made. What cannot be kept still takes its seq, is
counted, and is declared by a GAP record as soon as there is space again.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, SupportsFloat, SupportsIndex
from zlib import crc32

from runfold.protocol import failpoints
from runfold.protocol.errors import LimitError
from runfold.protocol.identity import IDENTITY_VERSION, Identity
from runfold.protocol.limits import MAX_RECORD_BYTES, WRITER_ID_BYTES
from runfold.protocol.records import GapRecord, RecordKind
from runfold.protocol.rows import RECORD_HEADER, RowSchema
from runfold.spool.directory import make_target, make_writer, publish_writer
from runfold.spool.errors import SpoolUnavailableError
from runfold.spool.format import (
    AT_CLOSED,
    AT_DROPPED_COUNT,
    AT_DROPPED_HI,
    AT_DROPPED_LO,
    AT_FINAL_SEQ,
    AT_HEAD_SEQ,
    CLOSED_WORD,
    HEADER_NAME,
    SEGMENT_HEADER_BYTES,
    FixedHeader,
    boot_id_bytes,
    crc_seed,
    record_bytes,
)
from runfold.spool.header import WriterHeader
from runfold.spool.limits import SpoolLimits
from runfold.spool.segments import SegmentChain

_ROW: Final = int(RecordKind.ROW)
_STEP: Final = struct.Struct("<q")
_CRC: Final = struct.Struct("<I")
#: seq, t_ns, kind | flags << 16, aux, step: what lies between a row's first word and its slots.
_ROW_START: Final = "<QQIIq"
_HEAD_WORD: Final = AT_HEAD_SEQ >> 3
#: Records that end a story may use the reserve of a segment: a full disk must not hide how a process died.
_URGENT: Final = frozenset({RecordKind.EXIT, RecordKind.SIGNAL, RecordKind.PREEMPTING})
#: Schemas that keep their number from segment to segment; more than that begin anew.
_MAX_SCHEMAS: Final = 4096

#: Why records were lost, as people read it.
_REASONS: Final = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "quota",
    errno.EFBIG: "file size limit",
    errno.EROFS: "read-only file system",
    errno.ENOENT: "spool directory removed",
}

#: What a slot takes: numbers, numpy's scalars too.
Slot = SupportsFloat | SupportsIndex


class SpoolWriter:
    """Appends to one spool. Not thread-safe: the caller holds its lock.

    In the same thread, a signal handler may append in the middle of an append: what it says comes first, or,
    in the rare moment when a segment is being changed, right after.
    """

    __slots__ = (
        "_busy",
        "_chain",
        "_clock_ns",
        "_deferred",
        "_defined",
        "_dropped_count",
        "_gap_lo",
        "_head",
        "_header",
        "_ids",
        "_is_closed",
        "_limits",
        "_map",
        "_next_id",
        "_pack",
        "_position",
        "_row_aux",
        "_row_bytes",
        "_row_until",
        "_schema",
        "_seed",
        "_seq",
        "_tried_at_ns",
        "_view",
        "_why",
        "_words",
        "directory",
        "writer_id",
    )

    def __init__(
        self,
        directory: Path,
        header: WriterHeader,
        chain: SegmentChain,
        *,
        writer_id: bytes,
        limits: SpoolLimits,
        clock_ns: Callable[[], int],
    ) -> None:
        """Take over what `create` made."""
        self.directory = directory
        self.writer_id = writer_id
        self._header = header
        self._chain = chain
        self._limits = limits
        self._clock_ns = clock_ns
        self._seed = crc_seed(writer_id)
        self._seq = 0
        self._dropped_count = 0
        self._gap_lo = 0
        self._tried_at_ns = 0
        self._why = ""
        self._is_closed = False
        self._next_id = 0
        self._busy = False
        self._deferred: list[Callable[[], bool]] = []
        self._ids: dict[RowSchema, int] = {}
        #: Schemas that the current segment defines: how to pack a row, and the number in its header.
        self._defined: dict[RowSchema, tuple[Callable[..., None], int]] = {}
        self._head = header.words
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._words: memoryview | None = None
        self._position = 0
        self._row_until = -1
        self._schema: RowSchema | None = None
        self._pack: Callable[..., None] = _never
        self._row_aux = self._row_bytes = 0

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
        writer_id = writer_id or secrets.token_bytes(WRITER_ID_BYTES)
        payload = Identity.from_map({**identity, "v": IDENTITY_VERSION}).pack()
        fixed = FixedHeader(
            writer=writer_id,
            pid=int(identity.get("pid") or os.getpid()),
            pid_start=float(identity.get("pid_start") or 0),
            boot_id=boot_id_bytes(identity.get("boot_id")),
            created_ns=clock_ns(),
        )
        directory, header, mapped = make_writer(make_target(spool_root, target), fixed, payload, limits)
        chain = SegmentChain(directory, fixed, limits, mapped=mapped)
        writer = cls(directory, header, chain, writer_id=writer_id, limits=limits, clock_ns=clock_ns)
        try:
            chain.open_next(1, record_bytes(len(payload)))
            writer._use_segment()
            writer._write(RecordKind.WRITER, 0, len(payload), 1, payload)
            writer._move_to(publish_writer(directory))
        except OSError as error:
            writer.close(final=False)
            shutil.rmtree(directory, ignore_errors=True)
            raise SpoolUnavailableError(error.errno, f"no spool in {directory}: {error.strerror}") from error
        return writer

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
        self._pack(self._map, position + 8, seq, t_ns, _ROW | flags << 16, self._row_aux, step, *values)
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
    def dropped_count(self) -> int:
        """How many records could not be kept."""
        return self._dropped_count

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._is_closed

    def sync(self) -> None:
        """Bring to disk what was appended before the call. May block; safe from another thread."""
        self._chain.sync()
        with suppress(OSError):
            os.fsync(self._header.fd)

    def close(self, *, final: bool = True) -> None:
        """Close the files; idempotent. Appending is refused from now on.

        Args:
            final: Declare what is still missing and mark the spool as ended, with its last seq. False in a
                forked child, whose parent goes on writing: nothing is stored.
        """
        if self._is_closed:
            return
        if final and self._gap_lo:
            self._exclusively(lambda: self._declare_gap(0, urgent=True))
        position = self._position
        self._is_closed = True
        self._schema = None
        self._row_until = -1
        self._map = self._view = self._words = self._head = None
        self._chain.close(truncate_at=position if final and position else None)
        if final:
            self._header.store(AT_FINAL_SEQ, self._seq)
            failpoints.hit("spool.before_closed")
            self._header.store(AT_CLOSED, CLOSED_WORD)
        self._header.close()

    def _append_row_slowly(self, schema: RowSchema, flags: int, step: int, values: Collection[Slot]) -> bool:
        known = self._defined.get(schema)
        row_bytes = schema.record_bytes
        if known is not None and not self._busy and self._position + row_bytes <= self._row_until:
            # Only another schema's turn. Bound last, with no call in between.
            self._pack, self._row_aux = known
            self._row_bytes = row_bytes
            self._schema = schema
            return self.append_row(schema, flags, step, values)
        # Packed first: a wrong value raises here, before a seq is taken.
        body = _STEP.pack(step) + schema.struct.pack(*values)
        return self._exclusively(lambda: self._keep_row(schema, flags, body))

    def _exclusively(self, action: Callable[[], bool]) -> bool:
        """Run what changes more than one row; a signal handler's appends meanwhile wait until it is done."""
        if self._is_closed:
            return False
        if self._busy:
            self._deferred.append(action)
            return True
        self._busy = True
        # With no schema bound, append_row of a signal handler comes here too.
        schema, self._schema = self._schema, None
        segment = self._chain.current
        try:
            return action()
        finally:
            self._busy = False
            if self._schema is None and self._chain.current is segment:
                self._schema = schema
            while self._deferred:
                self._exclusively(self._deferred.pop(0))

    def _keep_row(self, schema: RowSchema, flags: int, body: bytes) -> bool:
        row_bytes = schema.record_bytes
        known = self._defined.get(schema)
        definition, need_bytes = b"", row_bytes
        if known is None or not self._has_room(row_bytes):
            # A new segment begins without definitions, so the room that it needs includes this one.
            definition = self._definition_of(schema)
            need_bytes += record_bytes(len(definition))
        if not self._make_room(need_bytes):
            return self._lose_one()
        known = self._defined.get(schema)
        try:
            if known is None:
                known = self._define(schema, definition)
            self._write(_ROW, flags, known[1], self._seq + 1, body)
        except OSError as error:
            return self._lose_one(error)
        self._schema = schema
        self._pack, self._row_aux = known
        self._row_bytes = row_bytes
        return True

    def _keep_record(self, kind: int, flags: int, payload: bytes) -> bool:
        if not self._make_room(record_bytes(len(payload)), urgent=kind in _URGENT):
            return self._lose_one()
        try:
            self._write(kind, flags, len(payload), self._seq + 1, payload)
        except OSError as error:
            return self._lose_one(error)
        return True

    def _definition_of(self, schema: RowSchema) -> bytes:
        schema_id = self._ids.get(schema)
        if schema_id is None:
            if len(self._ids) >= _MAX_SCHEMAS:
                self._ids.clear()
            # Numbers are never used twice, so a reader may remember them from segment to segment.
            self._next_id += 1
            schema_id = self._ids[schema] = self._next_id
        return schema.pack_definition(schema_id)

    def _define(self, schema: RowSchema, definition: bytes) -> tuple[Callable[..., None], int]:
        self._write(RecordKind.SCHEMA, 0, len(definition), 0, definition)
        known = struct.Struct(_ROW_START + schema.slot_format).pack_into, self._ids[schema]
        self._defined[schema] = known
        return known

    def _has_room(self, need_bytes: int, *, urgent: bool = False) -> bool:
        limit = self._chain.capacity if urgent else self._chain.limit
        return not self._gap_lo and self._position + need_bytes <= limit

    def _make_room(self, need_bytes: int, *, urgent: bool = False) -> bool:
        """Return whether `need_bytes` fit, after a new segment and the declaration of a gap where needed."""
        if self._gap_lo:
            return self._declare_gap(need_bytes, urgent=urgent)
        if self._row_until >= 0 and self._position + need_bytes > self._row_until:
            self._row_until = self._chain.limit
            self._chain.prepare_next()
        return (
            self._has_room(need_bytes)
            or self._change_segment(need_bytes)
            or (urgent and self._has_room(need_bytes, urgent=True))
        )

    def _change_segment(self, need_bytes: int) -> bool:
        try:
            self._chain.open_next(self._seq + 1, need_bytes)
        except OSError as error:
            self._why = _reason(error)
            return False
        self._use_segment()
        return True

    def _use_segment(self) -> None:
        segment = self._chain.current
        assert segment is not None, "a segment was just opened"
        self._map, self._view, self._words = segment.map, segment.view, segment.words
        self._position = SEGMENT_HEADER_BYTES
        # Below zero every row takes the slow way: pwrite has to see errors, failpoints have to be reached.
        self._row_until = segment.capacity * 3 // 4 if segment.map and not failpoints.ARMED else -1
        self._schema = None
        self._row_bytes = 0
        self._defined.clear()

    def _write(self, kind: int, flags: int, aux: int, seq: int, body: bytes) -> None:
        """Place one record, for which there is room; OSError when the file system refuses it after all."""
        assert self._chain.current is not None, "records are written between open and close"
        size = record_bytes(len(body))
        record = bytearray(size)
        RECORD_HEADER.pack_into(record, 0, size, 0, seq, self._clock_ns(), kind, flags, aux)
        record[RECORD_HEADER.size : RECORD_HEADER.size + len(body)] = body
        _CRC.pack_into(record, 4, crc32(memoryview(record)[8:], self._seed))
        failpoints.hit("spool.before_record")
        self._chain.current.place(self._position, record)
        failpoints.hit("spool.after_record")
        self._position += size
        if seq:
            self._seq = seq
            self._header.store(AT_HEAD_SEQ, seq)
            failpoints.hit("spool.after_head")

    def _lose_one(self, error: OSError | None = None) -> bool:
        """Count a record that cannot be kept; it takes its seq, so that the gap can be told."""
        if error is not None:
            self._why = _reason(error)
        self._seq += 1
        if not self._gap_lo:
            self._gap_lo = self._seq
            self._tried_at_ns = self._clock_ns()
            self._row_until = -1
        self._dropped_count += 1
        self._header.store(AT_DROPPED_COUNT, self._dropped_count)
        self._header.store(AT_DROPPED_LO, self._gap_lo)
        self._header.store(AT_DROPPED_HI, self._seq)
        return False

    def _declare_gap(self, need_bytes: int, *, urgent: bool) -> bool:
        """Append the GAP record for what was lost, if there is space for it and `need_bytes` now."""
        now_ns = self._clock_ns()
        # abs: a clock that was set back must not keep us waiting for hours.
        if not urgent and abs(now_ns - self._tried_at_ns) < self._limits.retry_s * 1e9:
            return False
        self._tried_at_ns = now_ns
        payload = GapRecord(self._gap_lo, self._seq, self._why).pack()
        total = record_bytes(len(payload)) + need_bytes
        limit = self._chain.capacity if urgent else self._chain.limit
        has_room = self._position + total <= self._chain.limit or self._change_segment(total)
        if not has_room and self._position + total > limit:
            return False
        try:
            self._write(RecordKind.GAP, 0, len(payload), self._seq + 1, payload)
        except OSError as error:
            self._why = _reason(error)
            return False
        self._gap_lo = 0
        self._header.store(AT_DROPPED_LO, 0)
        self._header.store(AT_DROPPED_HI, 0)
        if self._map is not None and not failpoints.ARMED:
            self._row_until = max(self._row_until, self._chain.limit)
        return True


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, f"I/O error: {error.strerror}")


def _never(*_: object) -> None:
    raise AssertionError("no schema is bound before the first row")
