"""Databases of this version in which nothing is yet: what the migrations take is paid for once a process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from runfold_coordinator.store.engines import open_engines
from runfold_coordinator.store.migrate import migrate


def migrate_database(url: str) -> None:
    """Make the tables, as a store does that opens an empty database."""
    engines = open_engines(url)
    try:
        migrate(engines.writer)
    finally:
        engines.close()


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(prefix="runfold-store-") as folder:
        path = Path(folder) / "runfold.db"
        migrate_database(f"sqlite:///{path}")
        assert [found.name for found in path.parent.glob("*-wal")] == [], "all of it is in the file"
        return path.read_bytes()


def new_database(path: Path) -> str:
    """Lay down a database at `path`, as the migrations make it; return its URL."""
    path.touch(mode=0o600)
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"
