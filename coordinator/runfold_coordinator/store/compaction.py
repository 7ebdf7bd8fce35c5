"""Fewer and colder pieces: merges small chunks into large ones, moves the history of quiet runs into files.

Every replacement is one transaction that deletes exactly the chunks it has read, or does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import MAX_BYTES, MAX_ROWS, Chunk, encode_chunk, encode_cold_chunk
from runfold_coordinator.store.cold import ColdFiles, field_name
from runfold_coordinator.store.history_reads import part_fetcher
from runfold_coordinator.store.merging import MergedRows, merge_chunks
from runfold_coordinator.store.names import MIXED_KEYSET, unescape_key
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import NewChunk, Transaction

#: So many chunks of one size class, writer and key set are merged.
MERGE_AT = 16
#: Groups merged in one transaction.
GROUPS_AT_ONCE = 64
#: Bytes merged in one transaction.
MERGE_BYTES = 16 * 1024 * 1024
#: Chunks of full size are left alone.
FULL_TIER = 5
#: Directories of mixed chunks grow with their keys: no merge beyond this, bytes.
MAX_DIRECTORY_BYTES = 1024 * 1024
#: Rows of one cold file are cut here, bytes of their hot columns.
COLD_FILE_BYTES = 64 * 1024 * 1024
COLD_FILE_CHUNKS = 512
#: A run that goes on has at most about so much of one key set in the database, bytes of full chunks.
HOT_BYTES = 2 * COLD_FILE_BYTES
#: Tier of a chunk whose columns are in a file.
COLD_TIER = -3
#: A mixed file of more columns is not made: it would be read column by column for ever.
MAX_COLD_COLUMNS = 2000


@dataclass(frozen=True, slots=True)
class _Stored:
    """A chunk read whole."""

    row: Any
    chunk: Chunk


class Compactor:
    """Bounded steps, called by the maintenance thread. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._has_swept = False

    def merge_some(self) -> bool:
        """Merge what has gathered most; return whether there may be more."""
        c = t.chunks.c
        groups = self._store.fetch(
            sa.select(c.tier, c.writer_pk, c.keyset_pk)
            .where(c.tier >= 0, c.tier < FULL_TIER, c.cold_file_pk.is_(None))
            .group_by(c.tier, c.writer_pk, c.keyset_pk)
            .having(sa.func.count() >= MERGE_AT)
            .order_by(sa.func.count().desc())
            .limit(GROUPS_AT_ONCE)
        )
        merged: list[tuple[list[_Stored], NewChunk]] = []
        for group in groups:
            where = (
                c.tier == group.tier,
                c.writer_pk == group.writer_pk,
                c.keyset_pk == group.keyset_pk,
                c.cold_file_pk.is_(None),
            )
            pieces = self._read(where, limit=512, most_bytes=2 * MAX_BYTES)
            found = _merged(pieces)
            if not found:  # none fits another (too many keys): never again in the way of those that do
                self._set_tier(pieces, FULL_TIER)
            merged += found
            if sum(new.encoded.byte_count for _, new in merged) >= MERGE_BYTES:
                break
        self._replace(merged)
        return bool(merged)

    def settle_some(self, before_unix_s: float) -> bool:
        """Merge what is left of one run that was quiet since then, whatever its size; True for more to do.

        Afterwards its chunks count as full, so that they are not looked at again.
        """
        c, r = t.chunks.c, t.runs.c
        is_left = (c.tier >= 0, c.tier < FULL_TIER, c.cold_file_pk.is_(None))
        groups = self._store.fetch(
            sa.select(c.run_pk, c.writer_pk, c.keyset_pk)
            .join(t.runs, r.run_pk == c.run_pk)
            .where(*is_left, r.updated_unix_s < before_unix_s)
            .group_by(c.run_pk, c.writer_pk, c.keyset_pk)
            .limit(GROUPS_AT_ONCE)
        )
        merged: list[tuple[list[_Stored], NewChunk]] = []
        alone: list[_Stored] = []
        for group in groups:
            where = (c.writer_pk == group.writer_pk, c.keyset_pk == group.keyset_pk, *is_left)
            pieces = self._read(where, limit=512, most_bytes=2 * MAX_BYTES)
            merged += _merged(pieces, tier=FULL_TIER)
            alone += [found[0] for found in _fitting(pieces) if len(found) == 1]
            if sum(new.encoded.byte_count for _, new in merged) >= MERGE_BYTES:
                break
        self._replace(merged)
        self._set_tier(alone, FULL_TIER)
        return bool(groups)

    def _replace(self, merged: Sequence[tuple[list[_Stored], NewChunk]]) -> None:
        if merged:
            with self._store.writing.transaction() as tx:
                for pieces, _ in merged:
                    _delete_exactly(tx, pieces)
                tx.insert_chunks([new for _, new in merged])

    def cool_some(self, before_unix_s: float) -> bool:
        """Move history of one run that was quiet since then into a file; return whether there may be more."""
        cold = self._store.cold
        if cold is None:
            return False
        c, r = t.chunks.c, t.runs.c
        groups = self._store.fetch(
            sa.select(c.run_pk, c.keyset_pk)
            .join(t.runs, r.run_pk == c.run_pk)
            .where(c.cold_file_pk.is_(None), r.updated_unix_s < before_unix_s, c.tier >= 0)
            .group_by(c.run_pk, c.keyset_pk)
            .limit(1)
        )
        for group in groups:
            where = (
                c.run_pk == group.run_pk,
                c.keyset_pk == group.keyset_pk,
                c.cold_file_pk.is_(None),
                c.tier >= 0,
            )
            pieces = self._read(where, limit=COLD_FILE_CHUNKS, most_bytes=COLD_FILE_BYTES)
            self._cool(cold, group.run_pk, pieces)
        return bool(groups)

    def cool_full(self, hot_bytes: int = HOT_BYTES) -> bool:
        """Move full chunks of a run that has more than this of one key set into a file, though it goes on.

        What comes late or overwrites is in chunks of its own, and reads merge both.
        """
        cold = self._store.cold
        if cold is None:
            return False
        c = t.chunks.c
        is_full = (c.tier == FULL_TIER, c.cold_file_pk.is_(None))
        groups = self._store.fetch(
            sa.select(c.run_pk, c.keyset_pk)
            .where(*is_full)
            .group_by(c.run_pk, c.keyset_pk)
            .having(sa.func.sum(c.byte_count) > hot_bytes)
            .limit(1)
        )
        for group in groups:
            where = (c.run_pk == group.run_pk, c.keyset_pk == group.keyset_pk, *is_full)
            pieces = self._read(where, limit=COLD_FILE_CHUNKS, most_bytes=COLD_FILE_BYTES)
            self._cool(cold, group.run_pk, pieces)
        return bool(groups)

    def _cool(self, cold: ColdFiles, run_pk: int, pieces: list[_Stored]) -> None:
        keys = {key_pk for piece in pieces for key_pk in piece.chunk.key_pks}
        if len(keys) > MAX_COLD_COLUMNS:
            self._set_tier(pieces, -1)  # no file shall hold them
            return
        names = self._names(keys)
        by_writer: dict[int, list[_Stored]] = {}
        for piece in pieces:
            by_writer.setdefault(piece.row.writer_pk, []).append(piece)
        groups: list[tuple[_Stored, MergedRows]] = [
            (group[0], merge_chunks([piece.chunk for piece in group]))
            for found in by_writer.values()
            for group in _fitting(found)
        ]
        name, size = cold.write(run_pk, names, [rows for _, rows in groups])
        failpoints.hit("cold.after_file")
        with self._store.writing.transaction() as tx:
            _delete_exactly(tx, pieces)
            cold_file_pk = tx.new_ids()
            tx.insert(
                t.cold_files,
                [
                    {
                        "cold_file_pk": cold_file_pk,
                        "run_pk": run_pk,
                        "name": name,
                        "byte_count": size,
                        "row_count": sum(len(rows.seq) for _, rows in groups),
                        "created_unix_s": time.time(),
                    }
                ],
            )
            new = [_cold_chunk(first.row, rows, names) for first, rows in groups]
            tx.insert_chunks(new, cold_file_pk=cold_file_pk)

    def _set_tier(self, pieces: Sequence[_Stored], tier: int) -> None:
        if pieces:
            with self._store.writing.transaction() as tx:
                tx.update_by_pk(
                    t.chunks, [{"chunk_pk": piece.row.chunk_pk, "tier": tier} for piece in pieces]
                )

    def sweep_orphans(self) -> int:
        """Once: delete files that nobody has registered, left by a stop in between; return how many."""
        cold = self._store.cold
        if self._has_swept or cold is None or not self._store.engines.is_sqlite:
            return 0  # with PostgreSQL another coordinator may be writing one right now
        registered = {row.name for row in self._store.fetch(sa.select(t.cold_files.c.name))}
        orphans = [name for name in cold.names() if name not in registered]
        for name in orphans:
            cold.remove(name)
        self._has_swept = True
        return len(orphans)

    def _read(self, where: Sequence[sa.ColumnElement[bool]], *, limit: int, most_bytes: int) -> list[_Stored]:
        """Read chunks whole, by writer and seq, until they have `most_bytes`."""
        c = t.chunks.c
        pieces: list[_Stored] = []
        size = 0
        with self._store.snapshot() as connection:
            rows = connection.execute(
                sa.select(t.chunks).where(*where).order_by(c.writer_pk, c.seq_lo, c.chunk_pk).limit(limit)
            ).all()
            for row in rows:
                chunk = Chunk(row.directory, part_fetcher(connection, row))
                if row.data is None:  # its parts are fetched while the snapshot is open
                    for key_pk in chunk.key_pks:
                        chunk.columns(key_pk)
                    chunk.load_rows()
                pieces.append(_Stored(row, chunk))
                size += row.byte_count
                if size >= most_bytes:
                    break
        return pieces

    def _names(self, keys: set[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        listed = sorted(keys)
        for some in in_slices(listed):
            rows = self._store.fetch(
                sa.select(t.keys.c.key_pk, t.keys.c.key).where(t.keys.c.key_pk.in_(some))
            )
            found |= {row.key_pk: unescape_key(row.key) for row in rows}
        return found


def _merged(pieces: Sequence[_Stored], tier: int | None = None) -> list[tuple[list[_Stored], NewChunk]]:
    """Merge what fits together; pieces that stay alone are left out."""
    merged = []
    for group in _fitting(pieces):
        if len(group) == 1:
            continue
        rows = merge_chunks([piece.chunk for piece in group])
        encoded = encode_chunk(rows.seq, rows.step, rows.t_ns, rows.flags, rows.columns)
        first = group[0].row
        merged.append((group, NewChunk(first.run_pk, first.writer_pk, first.keyset_pk, encoded, tier)))
    return merged


def _fitting(pieces: Sequence[_Stored]) -> list[list[_Stored]]:
    """Cut a list of pieces into groups that make at most one full chunk each."""
    groups: list[list[_Stored]] = []
    rows = size = directory = 0
    for piece in pieces:
        rows += piece.row.n
        size += piece.row.byte_count
        directory += len(piece.row.directory) if piece.row.keyset_pk == MIXED_KEYSET else 0
        if not groups or rows > MAX_ROWS or size > MAX_BYTES or directory > MAX_DIRECTORY_BYTES:
            groups.append([])
            rows, size = piece.row.n, piece.row.byte_count
            directory = len(piece.row.directory) if piece.row.keyset_pk == MIXED_KEYSET else 0
        groups[-1].append(piece)
    return groups


def _delete_exactly(tx: Transaction, pieces: Sequence[_Stored]) -> None:
    """Delete the chunks, or roll back when one is gone: another process has replaced it."""
    pks = [piece.row.chunk_pk for piece in pieces]
    with_parts = [piece.row.chunk_pk for piece in pieces if piece.row.data is None]
    if tx.delete_chunks(pks, with_parts=with_parts) != len(pks):
        raise RuntimeError("chunks were replaced by another process meanwhile")


def _cold_chunk(row: Any, rows: MergedRows, names: dict[int, str]) -> NewChunk:
    fields = [field_name(names[column.key_pk], column.kind) for column in rows.columns]
    encoded = encode_cold_chunk(rows.seq, rows.step, rows.columns, fields)
    return NewChunk(row.run_pk, row.writer_pk, row.keyset_pk, encoded, COLD_TIER)
