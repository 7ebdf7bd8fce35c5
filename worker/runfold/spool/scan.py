"""From the bytes of a segment to rows, records and gaps, in seq order. Pure: no files here.

One `unpack_from` and one `crc32` per record; runs of rows with one schema are kept as ranges of bytes and
become columns at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.errors import ProtocolError
from runfold.protocol.limits import MAX_ELEMENTS, MAX_SCHEMA_BYTES
from runfold.protocol.records import GapRecord, Record, RecordKind
from runfold.protocol.rows import RECORD_HEADER, RECORD_HEADER_BYTES, RowSchema, unpack_definition

_ROW = int(RecordKind.ROW)
_SCHEMA = int(RecordKind.SCHEMA)
_GAP = int(RecordKind.GAP)

#: What a record of its own and the map of a block take of a frame's elements.
_RECORD_ELEMENTS = 6
_BLOCK_ELEMENTS = 20
#: Keys of all blocks of a batch together; a row may be small and its keys may not.
_MAX_KEY_BYTES = 2 * MAX_SCHEMA_BYTES
#: Why records are missing when nothing in the spool says more.
DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records lo..hi of one writer, each exactly once: in a block, among the others, or in a gap."""

    lo: int
    hi: int
    blocks: list[RowBlock]
    others: list[Record]
    gaps: list[Gap]


class Scan:
    """Collects records from `from_seq` on. `schemas` is the reader's memory and learns what is defined."""

    def __init__(self, from_seq: int, seed: int, schemas: dict[int, RowSchema]) -> None:
        self.lo = from_seq
        #: The next seq that is wanted.
        self.expected = from_seq
        self.others: list[Record] = []
        self.gaps: list[Gap] = []
        self._seed = seed
        self._schemas = schemas
        self._rows: dict[int, list[memoryview]] = {}
        # What a frame of these may hold: elements of msgpack, with some left for its own map.
        self._elements = MAX_ELEMENTS - 1000
        self._key_bytes = _MAX_KEY_BYTES

    @property
    def is_empty(self) -> bool:
        """True while no record and no gap was found."""
        return self.expected == self.lo

    def feed(self, view: memoryview) -> int:
        """Take whole valid records from the start of `view`; return where the first other thing begins."""
        unpack, seed = RECORD_HEADER.unpack_from, self._seed
        position, end, expected = 0, len(view), self.expected
        run_aux, run_stride, run_start = -1, 0, 0
        while position + RECORD_HEADER_BYTES <= end:
            total, crc, seq, t_ns, kind, flags, aux = unpack(view, position)
            after = position + total
            if total < RECORD_HEADER_BYTES or after > end:
                break
            if crc32(view[position + 8 : after], seed) != crc:
                break
            if seq == expected and aux == run_aux and total == run_stride and kind == _ROW:
                expected += 1
                position = after
                continue
            if run_aux >= 0:
                self._rows[run_aux].append(view[run_start:position])
                run_aux = -1
            if expected > self.lo and not self._affords(kind, aux):
                break
            if kind == _SCHEMA and seq == 0:
                self._learn(view[position + RECORD_HEADER_BYTES : after], aux)
            elif seq >= expected:
                if seq > expected:
                    self._miss(expected, seq, kind, view[position:after], aux)
                if kind == _ROW and self._is_row(aux, total):
                    run_aux, run_stride, run_start = aux, total, position
                elif kind == _ROW:
                    self._add_gap(Gap(seq, seq, DAMAGED))
                else:
                    self._elements -= _RECORD_ELEMENTS
                    payload = view[position + RECORD_HEADER_BYTES : after][:aux]
                    self.others.append(Record(seq, t_ns, kind, flags, payload.tobytes()))
                expected = seq + 1
            position = after
        if run_aux >= 0:
            self._rows[run_aux].append(view[run_start:position])
        self.expected = expected
        return position

    def declare(self, hi: int, why: str) -> None:
        """Add a gap from the next wanted seq to `hi`."""
        if hi >= self.expected:
            self._add_gap(Gap(self.expected, hi, why))
            self.expected = hi + 1

    def batch(self) -> Batch:
        """Return what was collected."""
        blocks = []
        for schema_id, pieces in self._rows.items():
            if pieces:
                schema = self._schemas[schema_id]
                body = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
                blocks.append(RowBlock.from_rows(schema, body, len(body) // schema.record_bytes))
        return Batch(self.lo, self.expected - 1, blocks, self.others, self.gaps)

    def _learn(self, body: memoryview, payload_bytes: int) -> None:
        try:
            schema_id, schema = unpack_definition(body[:payload_bytes])
        except ProtocolError:
            # Whole by its crc, but of a newer kind: its rows become a gap.
            return
        self._schemas[schema_id] = schema

    def _is_row(self, schema_id: int, total: int) -> bool:
        schema = self._schemas.get(schema_id)
        if schema is None or schema.record_bytes != total:
            return False
        if schema_id not in self._rows:
            self._rows[schema_id] = []
            self._elements -= _BLOCK_ELEMENTS + schema.frame_elements
            self._key_bytes -= schema.key_bytes
        return True

    def _affords(self, kind: int, schema_id: int) -> bool:
        """Return whether a record of `kind` still fits the frame that the batch becomes."""
        schema = self._schemas.get(schema_id)
        if kind != _ROW or schema is None or schema_id in self._rows:
            return self._elements >= _RECORD_ELEMENTS
        enough = self._elements >= _BLOCK_ELEMENTS + schema.frame_elements
        return enough and self._key_bytes >= schema.key_bytes

    def _miss(self, lo: int, seq: int, kind: int, record: memoryview, aux: int) -> None:
        """Declare lo..seq-1; a GAP record at `seq` knows why."""
        if kind == _GAP:
            try:
                said = GapRecord.unpack(record[RECORD_HEADER_BYTES:][:aux].tobytes())
            except ProtocolError:
                said = GapRecord()
            if said.hi == seq - 1 and said.lo <= said.hi:
                if said.lo > lo:
                    self._add_gap(Gap(lo, said.lo - 1, DAMAGED))
                self._add_gap(Gap(max(lo, said.lo), said.hi, said.why))
                return
        self._add_gap(Gap(lo, seq - 1, DAMAGED))

    def _add_gap(self, gap: Gap) -> None:
        if self.gaps and self.gaps[-1].hi == gap.lo - 1 and self.gaps[-1].why == gap.why:
            gap = Gap(self.gaps.pop().lo, gap.hi, gap.why)
        self.gaps.append(gap)


def find_record(view: memoryview, start: int, seed: int, lo: int, hi: int) -> int | None:
    """Return where the next valid record at or after `start` begins: a schema, or one with a seq in lo..hi.

    This is how reading goes on behind damage; a false hit needs a crc of 32 bits to match by chance as well.
    """
    # Most of a segment that a killed process left is zeros, and no record begins in them.
    size = len(view) & ~7
    used = start + len(view[start:size].tobytes().rstrip(b"\0"))
    words = view[:size].cast("Q")
    unpack = RECORD_HEADER.unpack_from
    for index in range((start + 7) >> 3, min(used + 7, size - RECORD_HEADER_BYTES + 8) >> 3):
        word = words[index]
        total = word & 0xFFFFFFFF
        if total < RECORD_HEADER_BYTES or total & 7 or 8 * index + total > size:
            continue
        position = 8 * index
        _, crc, seq, _, kind, _, _ = unpack(view, position)
        if not (lo <= seq <= hi or (seq == 0 and kind == _SCHEMA)):
            continue
        if crc32(view[position + 8 : position + total], seed) == crc:
            return position
    return None
