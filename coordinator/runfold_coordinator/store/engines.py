"""Opens the database: SQLite in a local file (one writing process), or PostgreSQL. Maps driver errors."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import QueuePool

from runfold_coordinator.store.errors import StoreFullError, StoreRefusedError, StoreUnavailableError

logger = logging.getLogger(__name__)

#: Not SQLite's 4 kB: columns are hundreds of kB (measured: 285 -> 417 MB/s with FULL commits of 64 MB).
PAGE_BYTES = 16384
#: What the WAL file is cut back to after a checkpoint.
JOURNAL_LIMIT_BYTES = 256 * 1024 * 1024
#: Pages in the WAL that trigger a checkpoint at commit (16 MB).
CHECKPOINT_PAGES = 1024
BUSY_TIMEOUT_S = 5.0
#: The WAL-reset race of 3.7.0-3.51.2 is fixed from here on; our single checkpointing connection avoids it.
SAFE_SQLITE = (3, 51, 3)
#: statfs(2) f_type of file systems where SQLite's locks or mmap are no promise.
NETWORK_FILE_SYSTEMS = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "CephFS",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01021997: "9P",
    0x73757245: "Coda",
    0x19830326: "BeeGFS",
    0x013111A8: "OrangeFS",
    0x7461636F: "OCFS2",
}
#: Classes of SQLSTATE that pass: connection, transaction, rollback, resources, locks, shutdown, system.
_PASSING_STATES = frozenset({"08", "25", "40", "53", "55", "57", "58"})


@dataclass(slots=True)
class Engines:
    """The writing engine (one connection) and the reading one (a pool of read-only connections)."""

    writer: sa.Engine
    reader: sa.Engine
    path: Path | None
    lock_fd: int | None

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    def close(self) -> None:
        """Close every connection and give the file lock back. Idempotent."""
        self.reader.dispose()
        self.writer.dispose()
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None


def open_engines(url: str, *, exclusive: bool = True) -> Engines:
    """Open `sqlite:///path` or `postgresql://...`.

    Args:
        exclusive: Take the file lock that keeps a second coordinator out (SQLite).

    Raises:
        StoreRefusedError: The database can't be used as it is; the message says why.
    """
    parsed = sa.make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StoreRefusedError("the store needs a file: sqlite:///path/to/runfold.db")
        return _open_sqlite(Path(parsed.database), exclusive=exclusive)
    if backend == "postgresql":
        return _open_postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise StoreRefusedError(f"unknown database {backend!r}: use sqlite:///... or postgresql://...")


def _open_sqlite(path: Path, *, exclusive: bool) -> Engines:
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_network_file_system(path.parent)
    lock_fd = _lock_file(path) if exclusive else None
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        logger.warning(
            "SQLite before 3.51.3 can damage a WAL database that two connections write at once; "
            "it can't happen here, as one connection does both and a lock keeps other processes out",
            extra={"event": "sqlite_version", "version": sqlite3.sqlite_version},
        )
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    url = sa.URL.create("sqlite", database=str(path))
    connect_args = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    writer = sa.create_engine(
        url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=connect_args
    )
    reader = sa.create_engine(
        url, poolclass=QueuePool, pool_size=8, max_overflow=8, connect_args=connect_args
    )
    event.listen(writer, "connect", _prepare_sqlite_writer)
    event.listen(reader, "connect", _prepare_sqlite_reader)
    event.listen(writer, "begin", _begin_immediate)
    event.listen(reader, "begin", _begin)
    return Engines(writer, reader, path, lock_fd)


def _prepare_sqlite_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would be deferred
    for pragma in (
        f"page_size={PAGE_BYTES}",
        "journal_mode=WAL",
        "synchronous=FULL",  # the ack that frees the spool comes from this commit: it has to be on disk
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"journal_size_limit={JOURNAL_LIMIT_BYTES}",
        "cache_size=-32768",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _prepare_sqlite_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("query_only=ON", "wal_autocheckpoint=0", "cache_size=-8192", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _open_postgresql(url: sa.URL) -> Engines:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise StoreRefusedError("PostgreSQL needs psycopg: pip install 'runfold[postgres]'") from error
    connect_args = {
        "connect_timeout": 10,
        "application_name": "runfold",
        # A server that is gone without a word is given up after about as long as its restart takes.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    writer = sa.create_engine(
        url,
        pool_size=1,
        max_overflow=1,
        pool_pre_ping=True,
        connect_args=connect_args,
        isolation_level="READ COMMITTED",
    )
    reader = sa.create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_pre_ping=True,
        connect_args=connect_args | {"options": "-c default_transaction_read_only=on"},
        isolation_level="REPEATABLE READ",
    )
    return Engines(writer, reader, None, None)


def _lock_file(path: Path) -> int:
    fd = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StoreRefusedError(
            f"{path} is in use by another coordinator. Stop it, or use another --data directory, or "
            "PostgreSQL for more than one process"
        ) from error
    return fd


def refuse_network_file_system(directory: Path) -> None:
    """Raise StoreRefusedError where SQLite's locks are no promise."""
    name = NETWORK_FILE_SYSTEMS.get(file_system_type(directory) or 0)
    if name is not None:
        raise StoreRefusedError(
            f"{directory} lies on {name}, where SQLite databases break. Use a local --data directory, "
            "or --db postgresql://..."
        )


def file_system_type(directory: Path) -> int | None:
    """Return f_type of statfs(2), or None where the call is missing."""
    buffer = ctypes.create_string_buffer(256)
    try:
        statfs = ctypes.CDLL(None, use_errno=True).statfs
    except (OSError, AttributeError):
        return None
    if os.uname().sysname != "Linux" or statfs(os.fsencode(directory), buffer) != 0:
        return None
    (f_type,) = struct.unpack_from("=q", buffer.raw)
    return int(f_type) & 0xFFFFFFFF


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn what the drivers raise into StoreUnavailableError or StoreFullError; bad SQL passes as it is."""
    try:
        yield
    except exc.DBAPIError as error:
        raise _map_error(error) from error
    except exc.TimeoutError as error:
        raise StoreUnavailableError("no free database connection") from error


def _map_error(error: exc.DBAPIError) -> Exception:
    cause: Any = error.orig
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        primary = code & 0xFF if isinstance(code, int) else None
        if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreFullError(f"SQLite: {cause}")
        if primary in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PROTOCOL,
            sqlite3.SQLITE_NOMEM,
        ):
            return StoreUnavailableError(f"SQLite: {cause}")
        return error
    state = getattr(cause, "sqlstate", None)
    if state in ("53100", "53200"):  # disk_full, out_of_memory
        return StoreFullError(f"PostgreSQL: {cause}")
    is_ours = isinstance(error, exc.OperationalError | exc.InternalError | exc.InterfaceError)
    if is_ours and (error.connection_invalidated or state is None or state[:2] in _PASSING_STATES):
        return StoreUnavailableError(f"PostgreSQL: {cause}")
    return error
