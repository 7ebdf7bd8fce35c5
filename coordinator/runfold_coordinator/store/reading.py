"""What both kinds of reads share: a connection that sees one committed state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store.engines import Engines, mapped_errors


class Reading:
    """Holds the engines; every `snapshot()` is one read transaction."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        #: Identity maps by writer_pk, of committed rows. Threads share it: a step on it is atomic.
        self._identities: dict[int, dict[str, Any]] = {}

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """Read one committed state; nothing is locked, but keep it short: SQLite's WAL grows meanwhile."""
        with mapped_errors(), self._engines.reader.begin() as connection:
            yield connection

    def fetch(self, statement: sa.Executable) -> list[Any]:
        """Return all rows of one statement."""
        with self.snapshot() as connection:
            return list(connection.execute(statement).all())
