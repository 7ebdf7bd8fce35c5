"""Rows of one writer from many frames, merged into chunks: blocks of one key set joined, maps pivoted.

In: RowBlocks and RowMaps in seq order. Out: NewChunks. No value is touched one by one, except in map rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runfold.protocol.blocks import RowBlock
from runfold.protocol.keypath import KeyPath, encode_path
from runfold.protocol.records import RowMap
from runfold_coordinator.store.chunks import MAX_BYTES, MAX_ROWS, ChunkColumn, encode_chunk
from runfold_coordinator.store.model import I64, INSERTED, U8, U64, ColumnKind
from runfold_coordinator.store.names import MIXED_KEYSET
from runfold_coordinator.store.writes import NewChunk, Transaction

Array = npt.NDArray[Any]
#: The writer's part of the flags: INSERTED is ours.
ROW_FLAGS = 0x7F
Schema = tuple[tuple[KeyPath, ...], str]


@dataclass(frozen=True, slots=True)
class MapRow:
    """One decoded ROW_MAP record."""

    seq: int
    t_ns: int
    flags: int
    row: RowMap


@dataclass(frozen=True, slots=True)
class InsertedCells:
    """Cells that step_sync adds to rows: one value for all of them."""

    path: KeyPath
    value: int | float
    seq: U64
    step: I64
    t_ns: U64
    flags: U8


@dataclass(slots=True)
class Rows:
    """Row columns that every chunk has."""

    seq: U64
    step: I64
    t_ns: U64
    flags: U8

    def __len__(self) -> int:
        return len(self.seq)

    def cut(self, lo: int, hi: int) -> Rows:
        return Rows(self.seq[lo:hi], self.step[lo:hi], self.t_ns[lo:hi], self.flags[lo:hi])


def block_rows(block: RowBlock) -> Rows:
    """Return a block's row columns, as views where it has them as bytes."""
    n = block.n
    return Rows(
        np.arange(block.seqs, block.seqs + n, dtype=np.uint64)
        if isinstance(block.seqs, int)
        else np.frombuffer(block.seqs, dtype="<u8"),
        np.frombuffer(block.steps, dtype="<i8"),
        np.frombuffer(block.t_ns, dtype="<u8"),
        np.full(n, block.flags & ROW_FLAGS, dtype=np.uint8)
        if isinstance(block.flags, int)
        else np.frombuffer(block.flags, dtype=np.uint8) & np.uint8(ROW_FLAGS),
    )


@functools.lru_cache(maxsize=4096)
def schema_keys(schema: Schema) -> tuple[str, ...]:
    """Return the canonical keys of a schema."""
    return tuple(encode_path(path) for path in schema[0])


class ChunkBuilder:
    """Makes the chunks of one writer inside a transaction."""

    def __init__(self, tx: Transaction, run_pk: int, writer_pk: int, *, tier: int | None = None) -> None:
        self._tx = tx
        self._run_pk = run_pk
        self._writer_pk = writer_pk
        self._tier = tier
        self.chunks: list[NewChunk] = []

    def add_blocks(self, schema: Schema, blocks: Sequence[RowBlock]) -> Rows:
        """Join blocks of one key set and kinds; return their row columns."""
        kinds = schema[1]
        names = self._tx.names
        key_pks, keyset_pk = names.key_list(self._tx.connection, schema_keys(schema))
        rows, order = _join_rows([block_rows(block) for block in blocks])
        columns = []
        for i, kind in enumerate(kinds):
            values = _join_values(kind, [block.columns[i] for block in blocks])
            columns.append(ChunkColumn(key_pks[i], _kind(kind), values if order is None else values[order]))
        names.note_keyset(self._tx.connection, self._run_pk, keyset_pk, key_pks, kinds)
        width = 8 * len(columns) + 25
        limit = max(1, min(MAX_ROWS, MAX_BYTES // width))
        for lo in range(0, len(rows), limit):
            hi = min(lo + limit, len(rows))
            cut = columns
            if hi - lo < len(rows):
                cut = [ChunkColumn(c.key_pk, c.kind, c.values[lo:hi]) for c in columns]
            self._add(keyset_pk, rows.cut(lo, hi), cut)
        return rows

    def add_maps(self, map_rows: Sequence[MapRow], key_pks: dict[str, int]) -> Rows:
        """Pivot ROW_MAP rows, ascending in seq, into sparse columns; return their row columns."""
        all_rows = Rows(
            np.array([row.seq for row in map_rows], dtype=np.uint64),
            np.array([row.row.step for row in map_rows], dtype=np.int64),
            np.array([row.t_ns for row in map_rows], dtype=np.uint64),
            np.array([row.flags & ROW_FLAGS for row in map_rows], dtype=np.uint8),
        )
        for lo, hi in _spans(map_rows):
            columns = list(_pivot(map_rows[lo:hi], key_pks))
            self._note_kinds(columns)
            self._add(MIXED_KEYSET, all_rows.cut(lo, hi), columns)
        return all_rows

    def add_inserted(self, cells: Sequence[InsertedCells], key_pks: dict[str, int]) -> None:
        """Store inserted cells, key by key; ints and floats apart, whatever came in the same batch."""
        by_path: dict[tuple[KeyPath, ColumnKind], list[InsertedCells]] = {}
        for found in cells:
            by_path.setdefault((found.path, "q" if isinstance(found.value, int) else "d"), []).append(found)
        for (path, kind), group in by_path.items():
            group.sort(key=lambda found: int(found.seq[0]))
            rows, order = _join_rows(
                [Rows(c.seq, c.step, c.t_ns, c.flags | np.uint8(INSERTED)) for c in group]
            )
            dtype = np.int64 if kind == "q" else np.float64
            values = np.concatenate([np.full(len(c.seq), c.value, dtype=dtype) for c in group])
            values = values if order is None else values[order]
            columns = [ChunkColumn(key_pks[encode_path(path)], kind, values)]
            self._note_kinds(columns)
            keyset_pk = self._tx.names.keyset_pk(self._tx.connection, [columns[0].key_pk])
            self._add(keyset_pk, rows, columns)

    def _note_kinds(self, columns: Iterable[ChunkColumn]) -> None:
        kinds = ((column.key_pk, column.kind) for column in columns)
        self._tx.names.note_run_keys(self._tx.connection, self._run_pk, kinds)

    def _add(self, keyset_pk: int, rows: Rows, columns: Sequence[ChunkColumn]) -> None:
        encoded = encode_chunk(rows.seq, rows.step, rows.t_ns, rows.flags, columns)
        self.chunks.append(NewChunk(self._run_pk, self._writer_pk, keyset_pk, encoded, self._tier))


def _kind(kind: str) -> ColumnKind:
    return "d" if kind == "d" else "q" if kind == "q" else "?"


def _join_rows(parts: Sequence[Rows]) -> tuple[Rows, Array | None]:
    """Return the rows ascending in seq, and their order when the parts were not."""
    if len(parts) == 1:
        return parts[0], None
    rows = Rows(
        np.concatenate([part.seq for part in parts]),
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.flags for part in parts]),
    )
    if (rows.seq[1:] > rows.seq[:-1]).all():
        return rows, None
    order = np.argsort(rows.seq, kind="stable")
    return Rows(rows.seq[order], rows.step[order], rows.t_ns[order], rows.flags[order]), order


def _join_values(kind: str, columns: Sequence[bytes]) -> Array:
    dtype = "<f8" if kind == "d" else "<i8"
    if len(columns) == 1:
        values = np.frombuffer(columns[0], dtype=dtype)
    else:
        values = np.concatenate([np.frombuffer(column, dtype=dtype) for column in columns])
    return values != 0 if kind == "?" else values


def _spans(rows: Sequence[MapRow]) -> Iterator[tuple[int, int]]:
    """Cut so that no chunk has more cells than a full one of one column has rows."""
    lo, cells = 0, 0
    for at, row in enumerate(rows):
        cells += len(row.row.values)
        if cells > MAX_ROWS and at > lo:
            yield lo, at
            lo, cells = at, len(row.row.values)
    yield lo, len(rows)


def _pivot(rows: Sequence[MapRow], key_pks: dict[str, int]) -> Iterator[ChunkColumn]:
    cells: dict[tuple[KeyPath, ColumnKind], tuple[list[int], list[Any]]] = {}
    for at, found in enumerate(rows):
        values = found.row.values
        # A key said twice in one call: the later value is the one that counts.
        said = dict(values) if len({path for path, _ in values}) != len(values) else None
        for path, value in said.items() if said is not None else values:
            column = cells.get(place := (path, _kind_of(value)))
            if column is None:
                column = cells[place] = ([], [])
            column[0].append(at)
            column[1].append(value)
    for (path, kind), (at_rows, values_of) in cells.items():
        index = None if len(at_rows) == len(rows) else np.array(at_rows, dtype=np.uint32)
        yield ChunkColumn(key_pks[encode_path(path)], kind, _as_column(kind, values_of), index)


def _kind_of(value: Any) -> ColumnKind:
    kind = type(value)
    if kind is float:
        return "d"
    if kind is int:
        return "q" if -(2**63) <= value < 2**63 else "o"
    return "?" if kind is bool else "o"


def _as_column(kind: ColumnKind, values: list[Any]) -> Array | list[Any]:
    if kind == "d":
        return np.array(values, dtype=np.float64)
    if kind == "q":
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.bool_) if kind == "?" else values
