"""How records get into the files of a spool: room, new segments, definitions of schemas, declared gaps."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, SupportsFloat, SupportsIndex
from zlib import crc32

from runfold.protocol import failpoints
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RECORD_HEADER, RowSchema
from runfold.spool.format import AT_HEAD_SEQ, SEGMENT_HEADER_BYTES, crc_seed, record_bytes
from runfold.spool.header import WriterHeader
from runfold.spool.limits import SpoolLimits
from runfold.spool.loss import Loss
from runfold.spool.segment import Segment
from runfold.spool.segments import SegmentChain

ROW: Final = int(RecordKind.ROW)
_FIRST_WORD: Final = struct.Struct("<II")
#: seq, t_ns, kind | flags << 16, aux, step: what lies between a row's first word and its slots.
_ROW_START: Final = "<QQIIq"
#: Records that end a story may use the reserve of a segment: a full disk must not hide how a process died.
_URGENT: Final = frozenset({RecordKind.EXIT, RecordKind.SIGNAL, RecordKind.PREEMPTING})
#: How a defined schema packs a row behind its first word, and the number in the row's header.
Known = tuple[Callable[..., None], int]
#: What a slot takes: numbers, numpy's scalars too.
Slot = SupportsFloat | SupportsIndex
#: Schemas that keep their number from segment to segment; more than that begin anew.
_MAX_SCHEMAS: Final = 4096


class Appender:
    """The state of a writer, and every way to append but the quick one for rows. Not thread-safe."""

    __slots__ = (
        "_busy",
        "_chain",
        "_clock_ns",
        "_deferred",
        "_defined",
        "_head",
        "_header",
        "_ids",
        "_is_closed",
        "_loss",
        "_map",
        "_next_id",
        "_pack",
        "_position",
        "_row_aux",
        "_row_bytes",
        "_row_until",
        "_schema",
        "_seed",
        "_segment",
        "_seq",
        "_view",
        "_words",
        "_write_until",
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
        self._clock_ns = clock_ns
        self._seed = crc_seed(writer_id)
        self._seq = 0
        self._loss = Loss(header, limits.retry_s)
        self._is_closed = False
        self._next_id = 0
        self._busy = False
        self._deferred: list[Callable[[], bool]] = []
        self._ids: dict[RowSchema, int] = {}
        #: Schemas that the current segment defines.
        self._defined: dict[RowSchema, Known] = {}
        self._head = header.words
        self._segment: Segment | None = None
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._words: memoryview | None = None
        self._position = 0
        self._row_until = self._write_until = -1
        self._schema: RowSchema | None = None
        self._pack: Callable[..., None] = _never
        self._row_aux = self._row_bytes = 0

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
            if self._segment is not segment:
                # A signal handler raised right after the last change of segments.
                self._use_segment()
            return action()
        finally:
            self._busy = False
            if self._schema is None and self._segment is self._chain.current is segment:
                self._schema = schema
            while self._deferred:
                self._exclusively(self._deferred.pop(0))

    def _keep_row(self, schema: RowSchema, flags: int, body: bytes) -> bool:
        if self._loss.is_open and not self._loss.is_time_to_try(self._clock_ns()):
            return self._lose_one()
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
            self._write(ROW, flags, known[1], self._seq + 1, body)
        except OSError as error:
            return self._lose_one(error)
        self._pack, self._row_aux = known
        self._row_bytes = row_bytes
        self._schema = schema
        return True

    def _keep_known_row(
        self, schema: RowSchema, known: Known, flags: int, step: int, values: Collection[Slot]
    ) -> bool:
        """Keep a row that fits and whose schema is defined, where segments are not mapped."""
        pack, aux = known
        record = bytearray(schema.record_bytes)
        pack(record, 8, self._seq + 1, self._clock_ns(), ROW | flags << 16, aux, step, *values)
        try:
            self._place(record, self._seq + 1)
        except OSError as error:
            return self._lose_one(error)
        return True

    def _keep_record(self, kind: int, flags: int, payload: bytes) -> bool:
        urgent = kind in _URGENT
        if self._loss.is_open and not (urgent or self._loss.is_time_to_try(self._clock_ns())):
            return self._lose_one()
        if not self._make_room(record_bytes(len(payload)), urgent=urgent):
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

    def _define(self, schema: RowSchema, definition: bytes) -> Known:
        self._write(RecordKind.SCHEMA, 0, len(definition), 0, definition)
        known = struct.Struct(_ROW_START + schema.slot_format).pack_into, self._ids[schema]
        self._defined[schema] = known
        return known

    def _has_room(self, need_bytes: int, *, urgent: bool = False) -> bool:
        limit = self._chain.capacity if urgent else self._chain.limit
        return not self._loss.is_open and self._position + need_bytes <= limit

    def _make_room(self, need_bytes: int, *, urgent: bool = False) -> bool:
        """Return whether `need_bytes` fit, after a new segment and the declaration of a gap where needed."""
        if self._loss.is_open:
            return self._declare_gap(need_bytes, urgent=urgent)
        if 0 <= self._row_until < min(self._chain.limit, self._position + need_bytes):
            self._row_until = self._chain.limit
            self._chain.prepare_next()
        return (
            self._has_room(need_bytes)
            or self._change_segment(need_bytes)
            or (urgent and self._has_room(need_bytes, urgent=True))
        )

    def _change_segment(self, need_bytes: int) -> bool:
        # No quick way until all of the new segment is in use: a signal handler may raise in between.
        self._row_until = self._write_until = -1
        try:
            self._chain.open_next(self._seq + 1, need_bytes)
        except OSError as error:
            self._loss.blame(error)
            return False
        self._use_segment()
        return True

    def _use_segment(self) -> None:
        segment = self._chain.current
        assert segment is not None, "a segment was just opened"
        self._map, self._view, self._words = segment.map, segment.view, segment.words
        self._position = SEGMENT_HEADER_BYTES
        self._schema = None
        self._row_bytes = 0
        self._defined.clear()
        self._segment = segment
        self._open_ways(segment.capacity * 3 // 4)

    def _open_ways(self, until: int) -> None:
        """Let known rows be appended quickly: mapped up to `until`, where it is time to prepare a segment."""
        self._row_until = self._write_until = -1
        if failpoints.ARMED:
            # Every row takes the slow way, past every failpoint.
            return
        if self._map is not None:
            self._row_until = until
        else:
            self._write_until = self._chain.limit

    def _write(self, kind: int, flags: int, aux: int, seq: int, body: bytes) -> None:
        """Place one record, for which there is room; OSError when the file system refuses it after all."""
        record = bytearray(record_bytes(len(body)))
        RECORD_HEADER.pack_into(record, 0, 0, 0, seq, self._clock_ns(), kind, flags, aux)
        record[RECORD_HEADER.size : RECORD_HEADER.size + len(body)] = body
        self._place(record, seq)

    def _place(self, record: bytearray, seq: int) -> None:
        """Complete a record by its first word and make it visible; `seq` is 0 for what is not counted."""
        assert self._chain.current is not None, "records are written between open and close"
        size = len(record)
        _FIRST_WORD.pack_into(record, 0, size, crc32(memoryview(record)[8:], self._seed))
        failpoints.hit("spool.before_record")
        # Place and seq are taken first: when a signal handler raises in between, nobody writes there again,
        # and the reader declares the hole.
        position, last_seq = self._position, self._seq
        self._position = position + size
        self._seq = seq or last_seq
        try:
            self._chain.current.place(position, record)
        except OSError as error:
            if error.errno is not None:
                self._position, self._seq = position, last_seq
            raise
        failpoints.hit("spool.after_record")
        if seq:
            self._header.store(AT_HEAD_SEQ, seq)
            failpoints.hit("spool.after_head")

    def _lose_one(self, error: OSError | None = None) -> bool:
        """Count a record that cannot be kept; it takes its seq, so that the gap can be told."""
        if error is not None:
            self._loss.blame(error)
        return self._lose(1)

    def _lose(self, count: int) -> bool:
        self._row_until = self._write_until = -1
        self._seq += count
        self._loss.add(self._seq, self._clock_ns(), count)
        return False

    def _declare_gap(self, need_bytes: int, *, urgent: bool) -> bool:
        """Append the GAP record for what was lost, if there is space for it and `need_bytes`."""
        payload = self._loss.payload()
        total = record_bytes(len(payload)) + need_bytes
        has_room = self._position + total <= self._chain.limit or self._change_segment(total)
        if not has_room and not (urgent and self._position + total <= self._chain.capacity):
            return False
        try:
            self._write(RecordKind.GAP, 0, len(payload), self._seq + 1, payload)
        except OSError as error:
            self._loss.blame(error)
            return False
        self._loss.settle()
        self._open_ways(self._chain.limit)
        return True


def _never(*_: object) -> None:
    raise AssertionError("no schema is bound before the first row")
