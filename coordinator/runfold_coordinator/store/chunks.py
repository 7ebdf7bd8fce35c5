"""The column chunk: rows of one writer and one key set as a small directory and raw little-endian columns.

In: numpy columns. Out: a directory (msgpack) and parts (bytes) for the database; and back, column by column,
when asked. Parts hold whole columns: a reader of one key of a large chunk fetches little more than that key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from runfold.protocol.values import pack_value, unpack_value
from runfold_coordinator.store.arrays import describe, restore
from runfold_coordinator.store.model import I64, U8, U32, U64, Column, ColumnKind
from runfold_coordinator.store.rollups import BUCKET_ROWS, FIELDS, Arrays, roll_up_rows, roll_up_values

VERSION = 1
#: A chunk is cut here: rows, and bytes of columns.
MAX_ROWS = 65536
MAX_BYTES = 8 * 1024 * 1024
#: Chunks of fewer rows carry no rollup; a reader computes it.
ROLLUP_MIN_ROWS = 1024
#: A part is closed when it has this many bytes; rollups have parts of their own.
PART_BYTES = 128 * 1024
ROLLUP_PART_BYTES = 32 * 1024
#: A chunk of at most this many bytes keeps them in its own row.
INLINE_BYTES = 16 * 1024
#: part_id = chunk_pk * MAX_PARTS + slot
MAX_PARTS = 4096

#: Place of t_ns among the row fields.
TIMES_AT = 2

_DTYPES: dict[ColumnKind, str] = {"d": "<f8", "q": "<i8"}
_ROW_SHARED = FIELDS[:7]
Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ChunkColumn:
    """One key's values going in: `rows` is None when every row has one, else ascending row indices."""

    key_pk: int
    kind: ColumnKind
    values: npt.NDArray[Any] | list[Any]
    rows: U32 | None = None


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """What goes into the database: `data` for a small chunk, else `parts` by slot."""

    n: int
    seq_lo: int
    seq_hi: int
    step_min: int
    step_max: int
    byte_count: int
    directory: bytes
    data: Buffer | None
    parts: Sequence[Buffer]


class _Parts:
    """Lays buffers out into parts, each buffer at a multiple of 8."""

    def __init__(self) -> None:
        self._open: list[Buffer] = []
        self._open_bytes = 0
        self._closed: list[list[Buffer]] = []
        self.byte_count = 0

    def add(self, buffer: Buffer, limit: int) -> list[int]:
        """Return [slot, offset]."""
        if self._open_bytes >= limit:
            self.close_part()
        place = [len(self._closed), self._open_bytes]
        self._open.append(buffer)
        padding = -len(buffer) % 8
        if padding:
            self._open.append(b"\0" * padding)
        self._open_bytes += len(buffer) + padding
        self.byte_count += len(buffer) + padding
        return place

    def close_part(self) -> None:
        if self._open:
            self._closed.append(self._open)
            self._open, self._open_bytes = [], 0

    def finish(self) -> list[Buffer]:
        self.close_part()
        # A part of one buffer is handed to the driver as it is: the frame's own bytes, not copied.
        return [part[0] if len(part) == 1 else b"".join(part) for part in self._closed]


def encode_chunk(seq: U64, step: I64, t_ns: U64, flags: U8, columns: Sequence[ChunkColumn]) -> EncodedChunk:
    """Encode rows ascending in seq; at least one row."""
    parts = _Parts()
    rows_at = [
        _place(parts, seq, may_run=True),
        _place(parts, step, may_run=True),
        _place(parts, t_ns, may_run=len(seq) == 1),
        _place(parts, flags),
    ]
    places = [_place_column(parts, column) for column in columns]
    return _finish(parts, seq, step, columns, [rows_at, places])


def encode_cold_chunk(
    seq: U64, step: I64, columns: Sequence[ChunkColumn], field_names: Sequence[str]
) -> EncodedChunk:
    """Encode what stays in the database of rows whose columns are in a file: directory and rollups."""
    places: list[list[Any]] = [
        [column.key_pk, column.kind, name, None, len(column.values), None]
        for column, name in zip(columns, field_names, strict=True)
    ]
    return _finish(_Parts(), seq, step, columns, [None, places])


def _finish(
    parts: _Parts,
    seq: U64,
    step: I64,
    columns: Sequence[ChunkColumn],
    directory: list[Any],
) -> EncodedChunk:
    """Add rollups to the directory's places and close it."""
    n = len(seq)
    assert n > 0, "a chunk has rows"
    if n >= ROLLUP_MIN_ROWS:
        parts.close_part()
        _place_rollups(parts, seq, step, columns, directory[1])
    blobs = parts.finish()
    is_inline = parts.byte_count <= INLINE_BYTES and len(blobs) <= 1
    return EncodedChunk(
        n=n,
        seq_lo=int(seq[0]),
        seq_hi=int(seq[-1]),
        step_min=int(step.min()),
        step_max=int(step.max()),
        byte_count=parts.byte_count,
        directory=msgpack.packb([VERSION, n, *directory]),
        data=(blobs[0] if blobs else b"") if is_inline else None,
        parts=() if is_inline else blobs,
    )


def _place_rollups(
    parts: _Parts, seq: U64, step: I64, columns: Sequence[ChunkColumn], places: list[list[Any]]
) -> None:
    """Add the rollup of each numeric column; those that every row has share their row fields."""
    shared: list[Any] | None = None
    for column, place in zip(columns, places, strict=True):
        if isinstance(column.values, list):
            continue
        if column.rows is not None:
            where = step[column.rows]
            rows = _place_rollup(parts, roll_up_rows(seq[column.rows], where), _ROW_SHARED)
        else:
            where = step
            shared = shared or _place_rollup(parts, roll_up_rows(seq, step), _ROW_SHARED)
            rows = shared
        place[5] = rows + _place_rollup(
            parts, roll_up_values(where, column.values), FIELDS[len(_ROW_SHARED) :]
        )


def _place(
    parts: _Parts, array: npt.NDArray[Any], *, may_run: bool = False, limit: int = PART_BYTES
) -> list[Any]:
    header, raw = describe(array, may_run=may_run)
    return header if raw is None else header + parts.add(np.ascontiguousarray(raw).data.cast("B"), limit)


def _place_column(parts: _Parts, column: ChunkColumn) -> list[Any]:
    rows = None if column.rows is None else _place(parts, column.rows, may_run=True)
    count = len(column.values)
    if isinstance(column.values, list):
        packed = msgpack.packb([pack_value(value) for value in column.values])
        place = ["o", "r", *parts.add(packed, PART_BYTES), len(packed)]
    elif column.kind == "?":
        place = _place(parts, column.values)
    else:  # numbers are always raw: nothing to look for
        raw = np.ascontiguousarray(column.values).data.cast("B")
        place = [_DTYPES[column.kind], "r", *parts.add(raw, PART_BYTES)]
    return [column.key_pk, column.kind, place, rows, count, None]


def _place_rollup(parts: _Parts, arrays: Arrays, names: Sequence[str]) -> list[Any]:
    return [
        _place(parts, arrays[name], may_run=arrays[name].dtype.kind in "iu", limit=ROLLUP_PART_BYTES)
        for name in names
    ]


def keys_of_directory(directory: bytes) -> list[int]:
    """Return the key_pks of a chunk's columns, each once."""
    places = msgpack.unpackb(directory, strict_map_key=False)[3]
    return list(dict.fromkeys(place[0] for place in places))


class Chunk:
    """A stored chunk; columns are fetched and decoded when asked for. Not thread-safe."""

    def __init__(self, directory: bytes, fetch: Callable[[int], bytes]) -> None:
        """Read the directory.

        Args:
            fetch: Returns the part of a slot.
        """
        version, self.n, self._rows_at, places = msgpack.unpackb(directory, strict_map_key=False)
        if version != VERSION:
            raise ValueError(f"chunk version {version}; this code reads {VERSION}")
        self._fetch = fetch
        self._parts: dict[int, memoryview] = {}
        self._places: dict[int, list[list[Any]]] = {}
        for place in places:
            self._places.setdefault(place[0], []).append(place)

    @property
    def key_pks(self) -> Mapping[int, Any]:
        return self._places

    @property
    def seq(self) -> U64:
        return self._row_field(0)

    @property
    def step(self) -> I64:
        return self._row_field(1)

    @property
    def t_ns(self) -> U64:
        return self._row_field(2)

    @property
    def flags(self) -> U8:
        return self._row_field(3)

    def slots(self, key_pk: int | None, *, times: bool = True, rollups: bool = False) -> set[int]:
        """Return the slots of the parts that a read of a key (None: of all) will ask for.

        Args:
            times: Whether `t_ns` is among them.
            rollups: Of `rollups()` instead of the columns; none where these are computed from values.
        """
        places = (
            self._places.get(key_pk, [])
            if key_pk is not None
            else [*itertools.chain.from_iterable(self._places.values())]
        )
        headers: list[list[Any]] = []
        if rollups and all(place[5] is not None for place in places):
            headers = [header for place in places for header in place[5]]
        else:
            headers = [header for at, header in enumerate(self._rows_at) if times or at != TIMES_AT]
            headers += [header for place in places for header in (place[2], place[3]) if header is not None]
        return {header[2] for header in headers if header[1] == "r"}

    def preload(self, slot: int, data: bytes) -> None:
        """Keep a part that was fetched together with others."""
        self._parts[slot] = memoryview(data)

    def load_rows(self) -> None:
        """Fetch the parts that the row columns are in, while they can still be fetched."""
        for at in range(4):
            self._row_field(at)

    def columns(self, key_pk: int) -> list[Column]:
        """Return the key's columns, one per kind; [] when the chunk has none."""
        found = []
        for _, kind, place, rows_place, count, _ in self._places.get(key_pk, ()):
            rows = None if rows_place is None else self._restore(rows_place, count)
            if kind == "o":
                _, _, slot, offset, size = place
                packed = msgpack.unpackb(self._part(slot)[offset : offset + size])
                found.append(Column("o", [unpack_value(value) for value in packed], rows))
            else:
                found.append(Column(kind, self._restore(place, count), rows))
        return found

    def rollups(self, key_pk: int) -> list[tuple[ColumnKind, Arrays]]:
        """Return (kind, arrays by field name) of each numeric column, stored or computed."""
        found = []
        for place in self._places.get(key_pk, ()):
            _, kind, _, _, count, rollup = place
            if kind == "o":
                continue
            if rollup is not None:
                buckets = -(-count // BUCKET_ROWS)
                arrays = {name: self._restore(at, buckets) for name, at in zip(FIELDS, rollup, strict=True)}
            else:
                values, rows = self._values(place)
                seq, step = self.seq, self.step
                if rows is not None:
                    seq, step = seq[rows], step[rows]
                arrays = roll_up_rows(seq, step) | roll_up_values(step, values)
            found.append((kind, arrays))
        return found

    def _row_field(self, at: int) -> npt.NDArray[Any]:
        return self._restore(self._rows_at[at], self.n)

    def _values(self, place: list[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32] | None]:
        """Return a numeric column's values and their rows."""
        _, _, at, rows_at, count, _ = place
        return self._restore(at, count), None if rows_at is None else self._restore(rows_at, count)

    def _restore(self, header: list[Any], n: int) -> npt.NDArray[Any]:
        if header[1] != "r":
            return restore(header, n, None)
        return restore(header, n, self._part(header[2])[header[3] :])

    def _part(self, slot: int) -> memoryview:
        part = self._parts.get(slot)
        if part is None:
            part = self._parts[slot] = memoryview(self._fetch(slot))
        return part
