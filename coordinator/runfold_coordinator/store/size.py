"""How large the database is, without looking into it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from runfold_coordinator.store.engines import Engines, mapped_errors


def database_bytes(engines: Engines) -> int | None:
    """Return the bytes on disk, SQLite's write-ahead log included; None where nobody says.

    Raises:
        StoreUnavailableError: The database does not answer.
    """
    if engines.path is not None:
        return sum(_size(engines.path.with_name(engines.path.name + end)) for end in ("", "-wal"))
    with mapped_errors(), engines.reader.begin() as connection:
        found = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar()
    return None if found is None else int(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
