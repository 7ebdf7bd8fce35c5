"""The store: opens the database, brings it to this version, reads and writes it. Thread-safe."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from runfold.protocol.values import pack_value
from runfold_coordinator.store import file_tables as _file_tables  # noqa: F401 - part of the metadata
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import (
    PROJECTION_BYTES,
    PROJECTION_ELEMENTS,
)
from runfold_coordinator.store.cold import ColdFiles
from runfold_coordinator.store.engines import Engines, mapped_errors, open_engines
from runfold_coordinator.store.errors import StoreRefusedError
from runfold_coordinator.store.history_reads import HistoryReads
from runfold_coordinator.store.json_values import to_json
from runfold_coordinator.store.migrate import migrate
from runfold_coordinator.store.node_reads import NodeReads
from runfold_coordinator.store.writes import Transaction, Writing


class Store(NodeReads, HistoryReads):
    """Every read sees one committed state per call. `server_id` (hex) names this database for ever."""

    def __init__(self, engines: Engines, cold: ColdFiles | None) -> None:
        HistoryReads.__init__(self, engines, cold)
        self.writing = Writing(engines)
        self.engines = engines
        with mapped_errors():
            migrate(engines.writer)
        self.server_id = self._server_id()

    @classmethod
    def open(cls, url: str, *, exclusive: bool = True, cold_url: str | None = None) -> Store:
        """Open and migrate the database of a URL: sqlite:///path or postgresql://...

        Args:
            exclusive: Keep a second coordinator out (SQLite).
            cold_url: Folder or fsspec URL of cold history; None: there is none.

        Raises:
            StoreRefusedError: It can't be used as it is; the message says the way out.
        """
        engines = open_engines(url, exclusive=exclusive)
        try:
            return cls(engines, None if cold_url is None else ColdFiles(cold_url))
        except BaseException:
            engines.close()
            raise

    def transaction(self) -> Any:
        """Open a write transaction (see Writing.transaction)."""
        return self.writing.transaction()

    def save_fold(self, run_pk: int, state: bytes, *, summary: dict[str, Any] | None = None) -> None:
        """Keep a fold's state; `summary` becomes RunRow.summary, and runs.summary_json for filters."""
        with self.writing.transaction() as tx:
            c = t.run_folds.c
            tx.connection.execute(sa.delete(t.run_folds).where(c.run_pk == run_pk))
            tx.insert(t.run_folds, [{"run_pk": run_pk, "state": state, "stale": False}])
            if summary is not None:
                _save_summary(tx, run_pk, summary)

    def drop_fold(self, run_pk: int) -> None:
        """Mark the run for a refold from its first record."""
        with self.writing.transaction() as tx:
            tx.connection.execute(
                sa.update(t.run_folds).where(t.run_folds.c.run_pk == run_pk).values(stale=True)
            )

    def close(self) -> None:
        """Close every connection. Idempotent; an open transaction rolls back."""
        self.engines.close()

    @property
    def cold(self) -> ColdFiles | None:
        """The files of cold history, None when the store was opened without."""
        return self._cold

    def keep_partitions(self, partitions: int) -> None:
        """Remember the number of partitions; it can't change, because runs are placed by it.

        Raises:
            StoreRefusedError: The database was made with another number.
        """
        with self.writing.transaction() as tx:
            tx.insert_new(t.meta, [{"name": "partitions", "value": str(partitions)}])
            kept = tx.connection.execute(
                sa.select(t.meta.c.value).where(t.meta.c.name == "partitions")
            ).scalar_one()
        if kept != str(partitions):
            raise StoreRefusedError(
                f"this database was made with {kept} partitions, not {partitions}: start with "
                f"--partitions {kept}"
            )

    def _server_id(self) -> str:
        with self.writing.transaction() as tx:
            tx.insert_new(t.meta, [{"name": "server_id", "value": uuid.uuid4().hex}])
            tx.insert_new(t.counters, [{"name": "ids", "next": 1}])
            found = tx.connection.execute(sa.select(t.meta.c.value).where(t.meta.c.name == "server_id"))
            return str(found.scalar_one())


def _save_summary(tx: Transaction, run_pk: int, summary: dict[str, Any]) -> None:
    packed = pack_value(summary, max_bytes=PROJECTION_BYTES, max_elements=PROJECTION_ELEMENTS, max_depth=64)
    tx.connection.execute(
        sa.update(t.runs)
        .where(t.runs.c.run_pk == run_pk)
        .values(summary=packed, summary_json=to_json(summary), version=t.runs.c.version + 1)
    )
