"""The one way into the database: transactions under the write lock, checked against the owner epoch.

A transaction that fails rolls back whole and empties every cache that it may have filled.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import MAX_PARTS, EncodedChunk
from runfold_coordinator.store.engines import Engines, mapped_errors
from runfold_coordinator.store.errors import FencedError
from runfold_coordinator.store.names import Names
from runfold_coordinator.store.slices import in_slices

Row = Mapping[str, Any]

#: Tier of a chunk that may be taken back (see open_rows.py): never merged, never moved into a file.
OPEN_ROW_TIER = -2


@dataclass(frozen=True, slots=True)
class NewChunk:
    """An encoded chunk and where it belongs."""

    run_pk: int
    writer_pk: int
    keyset_pk: int
    encoded: EncodedChunk
    #: Size class; None: by its rows.
    tier: int | None = None


def tier_of(row_count: int) -> int:
    """Return the size class of a chunk: 0 for 1-7 rows, one more for each factor of 8; 5 is full size."""
    return min(5, (row_count.bit_length() - 1) // 3)


class Transaction:
    """Writes of one transaction. Valid inside `Writing.transaction()` only."""

    def __init__(self, connection: sa.Connection, names: Names) -> None:
        self.connection = connection
        self.names = names
        #: Runs that change in it; True: with alerts of their processes among what is stored.
        self.touched: dict[int, bool] = {}

    def touch(self, run_pk: int, *, with_alerts: bool = False) -> None:
        """Note that the run changes: who watches runs is told of it after the commit."""
        self.touched[run_pk] = with_alerts or self.touched.get(run_pk, False)

    def new_ids(self, count: int = 1) -> int:
        """Return the first of `count` consecutive new ids."""
        return self.names.new_ids(self.connection, count)

    def check_owner(self, partition: int, epoch: int) -> str:
        """Return the partition's cursor, holding its row until the end of the transaction.

        Raises:
            FencedError: The partition belongs to somebody else by now.
        """
        table = t.partitions.c
        row = self.connection.execute(
            sa.select(table.owner_epoch, table.cursor).where(table.partition == partition).with_for_update()
        ).one_or_none()
        if row is None or row.owner_epoch != epoch:
            raise FencedError(partition, epoch, None if row is None else row.owner_epoch)
        return str(row.cursor)

    def set_cursor(self, partition: int, cursor: str) -> None:
        self.connection.execute(
            sa.update(t.partitions).where(t.partitions.c.partition == partition).values(cursor=cursor)
        )

    def insert(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert rows, all with the same columns."""
        if rows:
            self.connection.execute(table.insert(), list(rows))

    def insert_new(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert the rows whose primary key is not there yet."""
        if not rows:
            return
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(postgresql.insert(table).on_conflict_do_nothing(), list(rows))
        else:
            self.connection.execute(sqlite.insert(table).on_conflict_do_nothing(), list(rows))

    def update_by_pk(self, table: sa.Table, rows: Sequence[Row]) -> None:
        """Update rows of a table with one primary key column; all rows have the same columns."""
        if not rows:
            return
        (key,) = table.primary_key.columns
        columns = [name for name in rows[0] if name != key.name]
        statement = (
            sa.update(table)
            .where(key == sa.bindparam("b_pk"))
            .values({name: sa.bindparam("b_" + name) for name in columns})
        )
        self.connection.execute(
            statement,
            [{"b_pk": row[key.name]} | {"b_" + name: row[name] for name in columns} for row in rows],
        )

    def insert_chunks(self, new: Sequence[NewChunk], *, cold_file_pk: int | None = None) -> None:
        """Insert chunks and their parts; of a cold file the n-th chunk is the n-th row group."""
        if not new:
            return
        first = self.new_ids(len(new))
        rows, parts = [], []
        for chunk_pk, chunk in enumerate(new, first):
            encoded = chunk.encoded
            rows.append(
                {
                    "chunk_pk": chunk_pk,
                    "run_pk": chunk.run_pk,
                    "writer_pk": chunk.writer_pk,
                    "keyset_pk": chunk.keyset_pk,
                    "seq_lo": encoded.seq_lo,
                    "seq_hi": encoded.seq_hi,
                    "n": encoded.n,
                    "step_min": encoded.step_min,
                    "step_max": encoded.step_max,
                    "tier": tier_of(encoded.n) if chunk.tier is None else chunk.tier,
                    "byte_count": encoded.byte_count,
                    "directory": encoded.directory,
                    "data": encoded.data,
                    "cold_file_pk": cold_file_pk,
                    "row_group": None if cold_file_pk is None else chunk_pk - first,
                }
            )
            base = chunk_pk * MAX_PARTS
            parts += [{"part_id": base + slot, "data": part} for slot, part in enumerate(encoded.parts)]
        self.insert(t.chunks, rows)
        self.insert(t.chunk_parts, parts)

    def delete_chunks(self, chunk_pks: Sequence[int], *, with_parts: Sequence[int]) -> int:
        """Delete chunks and the parts of those that have any; return how many chunks there were."""
        deleted = 0
        for chunk_pk in with_parts:
            self.delete_parts(chunk_pk)
        for some in in_slices(chunk_pks):
            deleted += self.connection.execute(
                sa.delete(t.chunks).where(t.chunks.c.chunk_pk.in_(some))
            ).rowcount
        return deleted

    def delete_parts(self, chunk_pk: int) -> None:
        """Delete the parts of one chunk."""
        part_id = t.chunk_parts.c.part_id
        self.connection.execute(
            sa.delete(t.chunk_parts).where(
                part_id >= chunk_pk * MAX_PARTS, part_id < (chunk_pk + 1) * MAX_PARTS
            )
        )


class Writing:
    """Opens write transactions, one at a time in this process. Thread-safe."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._write_lock = threading.RLock()
        self._names = Names()
        self._on_rollback: list[Callable[[], None]] = [self._names.forget]
        self._on_touched: list[Callable[[Mapping[int, bool]], None]] = []

    def on_rollback(self, forget: Callable[[], None]) -> None:
        """Call `forget` after every transaction that did not commit."""
        self._on_rollback.append(forget)

    def forget(self) -> None:
        """Empty the caches of all who write: what they hold may not be in the database any more."""
        with self._write_lock:
            for forget in self._on_rollback:
                forget()

    def on_touched(self, tell: Callable[[Mapping[int, bool]], None]) -> None:
        """Call `tell` with the runs of every commit that touched any (see Transaction.touch).

        It is called by whoever commits, often the ingest thread: it has to return at once, and not raise.
        """
        self._on_touched.append(tell)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit durably at the end of the block, or roll back and forget.

        Raises:
            StoreUnavailableError: Not committed, or not known to be (then the next read tells).
        """
        with self._write_lock:
            try:
                with mapped_errors(), self._engines.writer.begin() as connection:
                    transaction = Transaction(connection, self._names)
                    yield transaction
            except BaseException:
                self.forget()
                raise
        if transaction.touched:
            for tell in self._on_touched:
                tell(transaction.touched)

    def claim_partition(self, partition: int, owner: str) -> tuple[int, str]:
        """Become the partition's owner; return (epoch, cursor). Who owned it can commit nothing any more."""
        with self.transaction() as tx:
            tx.insert_new(
                t.partitions,
                [{"partition": partition, "cursor": "0-0", "owner_epoch": 0, "owner": ""}],
            )
            table = t.partitions.c
            row = tx.connection.execute(
                sa.update(t.partitions)
                .where(table.partition == partition)
                .values(owner_epoch=table.owner_epoch + 1, owner=owner)
                .returning(table.owner_epoch, table.cursor)
            ).one()
            return int(row.owner_epoch), str(row.cursor)
