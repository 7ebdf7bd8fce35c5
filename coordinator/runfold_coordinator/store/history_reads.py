"""Reads of history: cells of one key, blocks of one writer, rollups; hot chunks and cold files alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import MAX_PARTS, PART_BYTES, ROLLUP_PART_BYTES, Chunk
from runfold_coordinator.store.cold import ColdFiles
from runfold_coordinator.store.engines import Engines
from runfold_coordinator.store.errors import StoreRefusedError
from runfold_coordinator.store.model import Block, Cells, Column, ColumnKind, Rollup, RowTimes
from runfold_coordinator.store.names import MIXED_KEYSET, escape_key, key_digest, unescape_key
from runfold_coordinator.store.reading import Reading
from runfold_coordinator.store.rollup_cache import RollupCache
from runfold_coordinator.store.rollups import Arrays
from runfold_coordinator.store.slices import in_slices

#: Parts are fetched together up to so many, and up to about so many bytes.
FETCH_PARTS = 500
FETCH_BYTES = 8 * 1024 * 1024
#: Rows of the chunks table fetched at a time; inline data makes each at most 16 kB.
PAGE_CHUNKS = 256
#: No key has it: a chunk's parts without any column.
_NO_KEY = -1


class HistoryReads(Reading):
    """Iterators hold one snapshot until they are exhausted or closed: read on, or close them."""

    def __init__(self, engines: Engines, cold: ColdFiles | None) -> None:
        super().__init__(engines)
        self._cold = cold
        self._cold_names: dict[int, str] = {}
        self._rollups = RollupCache()

    def read_cells(
        self,
        run_pk: int | Collection[int],
        key: str,
        *,
        writer_pks: Collection[int] | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
        seq_after: int | None = None,
        seq_max: int | None = None,
        times: bool = True,
    ) -> Iterator[Cells]:
        """Yield the values of one key of a run, or of many, by writer, pieces in order of their first seq.

        Bounds are inclusive, except seq_after. Without `times`, `t_ns` is not read and all zero.
        """
        bounds = (step_min, step_max, seq_after, seq_max)
        with self.snapshot() as connection:
            key_pk = _key_pk(connection, key)
            if key_pk is None:
                return
            where = [*_of_key(run_pk, key_pk, writer_pks), *_bounded(*bounds)]
            for row, chunk in self._open_all(
                connection, where, lambda chunk: chunk.slots(key_pk, times=times)
            ):
                if key_pk not in chunk.key_pks:
                    continue
                for column in chunk.columns(key_pk):
                    cells = _cut_cells(row.writer_pk, chunk, column, bounds, times=times)
                    if cells is not None:
                        yield cells

    def read_blocks(
        self,
        run_pk: int,
        writer_pk: int,
        *,
        seq_after: int = 0,
        seq_max: int | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
        keys: Collection[str] | None = None,
    ) -> Iterator[Block]:
        """Yield a writer's rows, pieces in order of their first seq.

        Args:
            keys: Only columns of these; None: all. Rows without any of them are there too.
        """
        bounds = (step_min, step_max, seq_after, seq_max)
        c = t.chunks.c
        names: dict[int, str] = {}
        with self.snapshot() as connection:
            where = [c.run_pk == run_pk, c.writer_pk == writer_pk, *_bounded(*bounds)]

            def slots(chunk: Chunk) -> set[int]:
                if keys is None:
                    return chunk.slots(None)
                chosen = _chosen(connection, chunk, names, keys)
                return chunk.slots(_NO_KEY).union(*map(chunk.slots, chosen))

            for row, chunk in self._open_all(connection, where, slots):
                block = _cut_block(connection, row.writer_pk, chunk, names, bounds, keys=keys)
                if block is not None:
                    yield block

    def read_row_times(
        self,
        run_pk: int,
        writer_pk: int,
        *,
        seq_after: int | None = None,
        seq_max: int | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
    ) -> Iterator[RowTimes]:
        """Yield when a writer's rows were logged, pieces in order of their first seq; no column is read.

        Bounds as in read_cells().
        """
        bounds = (step_min, step_max, seq_after, seq_max)
        c = t.chunks.c
        with self.snapshot() as connection:
            where = [c.run_pk == run_pk, c.writer_pk == writer_pk, *_bounded(*bounds)]
            for _, chunk in self._open_all(connection, where, lambda chunk: chunk.slots(_NO_KEY)):
                seq, step, t_ns = chunk.seq, chunk.step, chunk.t_ns
                inside = _mask(step, seq, bounds)
                if inside is not None:
                    seq, step, t_ns = seq[inside], step[inside], t_ns[inside]
                if len(seq):
                    yield RowTimes(seq, step, t_ns)

    def read_rollups(
        self, run_pk: int, key: str, writer_pks: Collection[int] | None = None
    ) -> Iterator[Rollup]:
        """Yield every stored piece of the key once; small pieces get their rollup computed here."""
        with self.snapshot() as connection:
            key_pk = _key_pk(connection, key)
            if key_pk is None:
                return
            where = [*_of_key(run_pk, key_pk, writer_pks)]

            def known(row: Any) -> Chunk | None:
                pieces = self._rollups.get(row.chunk_pk, key_pk)
                return None if pieces is None else _KnownRollups(key_pk, pieces)

            for row, chunk in self._open_all(
                connection,
                where,
                lambda chunk: chunk.slots(key_pk, rollups=True),
                part_bytes=ROLLUP_PART_BYTES,
                known=known,
            ):
                if key_pk not in chunk.key_pks:
                    continue
                pieces = chunk.rollups(key_pk)
                if not isinstance(chunk, _KnownRollups):
                    pieces = self._rollups.put(row.chunk_pk, key_pk, pieces)
                for kind, arrays in pieces:
                    yield Rollup(writer_pk=row.writer_pk, kind=kind, **arrays)

    def _open_all(
        self,
        connection: sa.Connection,
        where: Collection[sa.ColumnElement[bool]],
        slots: Callable[[Chunk], set[int]],
        part_bytes: int | None = None,
        known: Callable[[Any], Chunk | None] = lambda _row: None,
    ) -> Iterator[tuple[Any, Chunk]]:
        """Open chunks in order, the parts that will be asked for fetched many at a time.

        Args:
            known: Returns a row's chunk where it need not be opened.
        """
        held: list[tuple[Any, Chunk]] = []
        wanted: dict[int, tuple[Chunk, int]] = {}
        byte_count = 0
        for row in _chunk_rows(connection, where):
            found = known(row)
            chunk = found or self._open(connection, row)
            held.append((row, chunk))
            if row.data is None and found is None:
                for slot in slots(chunk):
                    wanted[row.chunk_pk * MAX_PARTS + slot] = (chunk, slot)
                    byte_count += part_bytes or max(PART_BYTES, 8 * row.n)
            if byte_count >= FETCH_BYTES or len(wanted) >= FETCH_PARTS:
                _fetch_parts(connection, wanted)
                yield from held
                held, wanted, byte_count = [], {}, 0
        _fetch_parts(connection, wanted)
        yield from held

    def _open(self, connection: sa.Connection, row: Any) -> Chunk:
        fetch = part_fetcher(connection, row)
        if row.cold_file_pk is None:
            return Chunk(row.directory, fetch)
        if row.cold_file_pk not in self._cold_names:
            name = connection.execute(
                sa.select(t.cold_files.c.name).where(t.cold_files.c.cold_file_pk == row.cold_file_pk)
            ).scalar_one()
            self._cold_names[row.cold_file_pk] = str(name)
        if self._cold is None:
            raise StoreRefusedError("this history is in cold files, and the store was opened without them")
        name = self._cold_names[row.cold_file_pk]
        return self._cold.open_chunk(name, row.row_group, row.directory, fetch)


class _KnownRollups(Chunk):
    """A chunk of which the rollups of one key are at hand, and nothing else."""

    def __init__(self, key_pk: int, pieces: list[tuple[ColumnKind, Arrays]]) -> None:
        self._places = {key_pk: []}
        self._pieces = pieces

    def rollups(self, key_pk: int) -> list[tuple[ColumnKind, Arrays]]:  # noqa: ARG002 - of the one key
        return self._pieces


def _fetch_parts(connection: sa.Connection, wanted: dict[int, tuple[Chunk, int]]) -> None:
    if not wanted:
        return
    c = t.chunk_parts.c
    for part_id, data in connection.execute(sa.select(c.part_id, c.data).where(c.part_id.in_(list(wanted)))):
        chunk, slot = wanted[part_id]
        chunk.preload(slot, bytes(data))


def part_fetcher(connection: sa.Connection, row: Any) -> Callable[[int], bytes]:
    """Return what fetches the parts of a chunk's row by their slot."""
    if row.data is not None:
        data = bytes(row.data)
        return lambda _slot: data

    def fetch(slot: int) -> bytes:
        statement = sa.select(t.chunk_parts.c.data).where(
            t.chunk_parts.c.part_id == row.chunk_pk * MAX_PARTS + slot
        )
        return bytes(connection.execute(statement).scalar_one())

    return fetch


def _key_pk(connection: sa.Connection, key: str) -> int | None:
    return connection.execute(
        sa.select(t.keys.c.key_pk).where(t.keys.c.digest == key_digest(escape_key(key)))
    ).scalar()


def _of_key(
    run_pk: int | Collection[int], key_pk: int, writer_pks: Collection[int] | None
) -> Iterator[sa.ColumnElement[bool]]:
    c = t.chunks.c
    keysets = sa.select(t.keyset_keys.c.keyset_pk).where(t.keyset_keys.c.key_pk == key_pk)
    yield c.run_pk == run_pk if isinstance(run_pk, int) else c.run_pk.in_(sorted(run_pk))
    yield sa.or_(c.keyset_pk.in_(keysets), c.keyset_pk == MIXED_KEYSET)
    if writer_pks is not None:
        yield c.writer_pk.in_(sorted(writer_pks))


def _bounded(
    step_min: int | None, step_max: int | None, seq_after: int | None, seq_max: int | None
) -> Iterator[sa.ColumnElement[bool]]:
    c = t.chunks.c
    if step_min is not None:
        yield c.step_max >= step_min
    if step_max is not None:
        yield c.step_min <= step_max
    if seq_after is not None:
        yield c.seq_hi > seq_after
    if seq_max is not None:
        yield c.seq_lo <= seq_max


def _chunk_rows(
    connection: sa.Connection, where: Collection[sa.ColumnElement[bool]] | Iterator[sa.ColumnElement[bool]]
) -> Iterator[Any]:
    """Yield chunk rows by (writer_pk, seq_lo, chunk_pk), a page at a time."""
    c = t.chunks.c
    order = (c.writer_pk, c.seq_lo, c.chunk_pk)
    statement = (
        sa.select(*order, c.n, c.cold_file_pk, c.row_group, c.directory, c.data)
        .where(*where)
        .order_by(*order)
        .limit(PAGE_CHUNKS)
    )
    page = connection.execute(statement).all()
    while page:
        yield from page
        if len(page) < PAGE_CHUNKS:
            return
        last = page[-1]
        after = sa.tuple_(*order) > sa.tuple_(*(sa.literal(value) for value in last[:3]))
        page = connection.execute(statement.where(after)).all()


def _mask(
    step: npt.NDArray[Any],
    seq: npt.NDArray[Any],
    bounds: tuple[int | None, int | None, int | None, int | None],
) -> npt.NDArray[np.bool_] | None:
    """Return which rows are inside the bounds; None when all are."""
    step_min, step_max, seq_after, seq_max = bounds
    tests = []
    if step_min is not None:
        tests.append(step >= step_min)
    if step_max is not None:
        tests.append(step <= step_max)
    if seq_after is not None and seq[0] <= seq_after:
        tests.append(seq > seq_after)
    if seq_max is not None and seq[-1] > seq_max:
        tests.append(seq <= seq_max)
    if not tests:
        return None
    inside = np.logical_and.reduce(tests)
    return None if inside.all() else inside


def _cut_cells(
    writer_pk: int,
    chunk: Chunk,
    column: Column,
    bounds: tuple[int | None, int | None, int | None, int | None],
    *,
    times: bool,
) -> Cells | None:
    seq, step, flags = chunk.seq, chunk.step, chunk.flags
    t_ns = chunk.t_ns if times else np.zeros(len(seq), np.uint64)
    if column.rows is not None:
        rows = column.rows
        seq, step, t_ns, flags = seq[rows], step[rows], t_ns[rows], flags[rows]
    inside = _mask(step, seq, bounds)
    values = column.values
    if inside is not None:
        if not inside.any():
            return None
        seq, step, t_ns, flags = seq[inside], step[inside], t_ns[inside], flags[inside]
        values = _take(values, np.flatnonzero(inside))
    return Cells(writer_pk, seq, step, t_ns, flags, column.kind, values)


def _take(values: npt.NDArray[Any] | list[Any], at: npt.NDArray[np.intp]) -> npt.NDArray[Any] | list[Any]:
    return [values[i] for i in at] if isinstance(values, list) else values[at]


def _cut_block(
    connection: sa.Connection,
    writer_pk: int,
    chunk: Chunk,
    names: dict[int, str],
    bounds: tuple[int | None, int | None, int | None, int | None],
    *,
    keys: Collection[str] | None,
) -> Block | None:
    seq, step, t_ns, flags = chunk.seq, chunk.step, chunk.t_ns, chunk.flags
    inside = _mask(step, seq, bounds)
    if inside is not None and not inside.any():
        return None
    columns = {names[pk]: chunk.columns(pk) for pk in _chosen(connection, chunk, names, keys)}
    if inside is None:
        return Block(writer_pk, seq, step, t_ns, flags, columns)
    at = np.flatnonzero(inside)
    cut = {name: [_cut_column(column, inside, at) for column in found] for name, found in columns.items()}
    return Block(
        writer_pk,
        seq[at],
        step[at],
        t_ns[at],
        flags[at],
        {name: kept for name, found in cut.items() if (kept := [c for c in found if len(c.values)])},
    )


def _chosen(
    connection: sa.Connection, chunk: Chunk, names: dict[int, str], keys: Collection[str] | None
) -> list[int]:
    """Return the key_pks of a chunk's columns that are wanted; their names are known from then on."""
    _load_names(connection, names, [key_pk for key_pk in chunk.key_pks if key_pk not in names])
    return [key_pk for key_pk in chunk.key_pks if keys is None or names[key_pk] in keys]


def _cut_column(column: Column, inside: npt.NDArray[np.bool_], at: npt.NDArray[np.intp]) -> Column:
    if column.rows is None:
        return Column(column.kind, _take(column.values, at), None)
    kept = np.flatnonzero(inside[column.rows])
    new_index = np.cumsum(inside, dtype=np.uint32) - np.uint32(1)
    return Column(column.kind, _take(column.values, kept), new_index[column.rows[kept]])


def _load_names(connection: sa.Connection, names: dict[int, str], missing: list[int]) -> None:
    for some in in_slices(missing):
        rows = connection.execute(sa.select(t.keys.c.key_pk, t.keys.c.key).where(t.keys.c.key_pk.in_(some)))
        names |= {row.key_pk: unescape_key(row.key) for row in rows}
