"""What databases do to a store: connections cut, disks full, second owners, network file systems, newer versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runfold_coordinator.store import engines, tables
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.errors import StoreFullError, StoreRefusedError, StoreUnavailableError
from runfold_coordinator.store.store import Store
from support.frames import Bench, Speaker


@pytest.fixture
def postgres_store(postgres_url: str) -> Iterator[Store]:
    store = Store.open(postgres_url)
    yield store
    store.close()


def cut_connections(connection: sa.Connection) -> None:
    """Do to our connections what a restart does."""
    connection.execute(
        sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_a_connection_cut_in_a_transaction_rolls_back_and_the_retry_stores(
    postgres_store: Store,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, speaker = Bench(postgres_store), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    rows = speaker.rows({"loss": [1.0, 2.0]})
    admin = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    save = bench.ingest._catalogs.save

    def cut_then_save(tx: Any) -> None:
        with admin.begin() as connection:
            cut_connections(connection)
        save(tx)

    with monkeypatch.context() as patch:
        patch.setattr(bench.ingest._catalogs, "save", cut_then_save)
        with pytest.raises(StoreUnavailableError):
            bench.feed(rows)
    assert bench.ingest.committed_cursor() == "1-0"
    assert bench.feed(rows).acks == {speaker.writer: 3}
    (run,) = postgres_store.list_runs()
    assert [cells.seq.tolist() for cells in postgres_store.read_cells(run.run_pk, "loss")] == [[2, 3]]
    admin.dispose()


def test_a_commit_of_which_nobody_heard_is_found_to_be_done(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, speaker = Bench(postgres_store), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    rows = speaker.rows({"loss": [1.0, 2.0]})
    writer = postgres_store.engines.writer

    def lose(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("connection lost after COMMIT"))

    def commit_then_lose(dbapi_connection: Any) -> None:
        type(writer.dialect).do_commit(writer.dialect, dbapi_connection)
        lose(dbapi_connection)

    with monkeypatch.context() as patch:
        patch.setattr(writer.dialect, "do_commit", commit_then_lose)
        with pytest.raises(StoreUnavailableError):
            bench.feed(rows)
    assert bench.ingest.committed_cursor() == "2-0"
    assert bench.feed(rows).acks == {speaker.writer: 3}
    assert bench.ingest.counts.duplicate_frames == 1
    (run,) = postgres_store.list_runs()
    assert run.row_count == 2


def test_a_full_disk_is_told_apart_and_nothing_is_kept_of_the_batch(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'runfold.db'}")
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    with store.engines.writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    rows = speaker.rows({"loss": [float(i) for i in range(50_000)]})
    with pytest.raises(StoreFullError):
        bench.feed(rows)
    with store.engines.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert bench.feed(rows).acks == {speaker.writer: 50_001}
    store.close()


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "runfold.db"
    store = Store.open(f"sqlite:///{path}")
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    bench.feed(speaker.hello())
    with store.engines.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        bench.feed(speaker.rows({"loss": [1.0]}))
    other.execute("ROLLBACK")
    other.close()
    speaker.seq = 1
    bench.feed(speaker.rows({"loss": [1.0]}))
    store.close()


def test_a_second_coordinator_on_one_file_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runfold.db'}"
    store = Store.open(url)
    with pytest.raises(StoreRefusedError, match="in use by another coordinator"):
        Store.open(url)
    store.close()
    Store.open(url).close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.file_system_type(tmp_path) is not None
    monkeypatch.setattr(engines, "file_system_type", lambda _: 0x6969)
    with pytest.raises(StoreRefusedError, match=r"NFS.*--data"):
        Store.open(f"sqlite:///{tmp_path / 'runfold.db'}")


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runfold.db"
    Store.open(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreRefusedError, match="newer runfold"):
        Store.open(f"sqlite:///{path}")


def test_other_databases_are_refused() -> None:
    with pytest.raises(StoreRefusedError, match="sqlite:///"):
        Store.open("mysql://localhost/x")
    with pytest.raises(StoreRefusedError, match="needs a file"):
        Store.open("sqlite://")


def test_the_number_of_partitions_can_not_change(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'runfold.db'}")
    store.keep_partitions(2)
    store.keep_partitions(2)
    with pytest.raises(StoreRefusedError, match="--partitions 2"):
        store.keep_partitions(1)
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_the_tables_that_queries_use(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    url = f"sqlite:///{tmp_path / 'runfold.db'}"
    store = Store.open(url if kind == "sqlite" else request.getfixturevalue("empty_postgres_url"))
    with store.engines.writer.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    store.close()


def test_files_that_nobody_registered_are_removed_once(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'runfold.db'}", cold_url=str(tmp_path / "cold"))
    bench, speaker = Bench(store), Speaker(b"w" * 16)
    bench.feed(speaker.hello(), speaker.rows({"loss": [1.0, 2.0]}))
    (run,) = store.list_runs()
    compactor = Compactor(store)
    assert compactor.cool_some(run.updated_unix_s + 1)
    orphan = tmp_path / "cold" / "1" / "left.parquet"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"half")
    assert compactor.sweep_orphans() == 1
    assert not orphan.exists()
    assert [cells.seq.tolist() for cells in store.read_cells(run.run_pk, "loss")] == [[2, 3]]
    store.close()


def test_commits_are_on_disk_before_they_are_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "runfold.db"
    store = Store.open(f"sqlite:///{path}")
    with store.engines.writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA page_size").scalar() == engines.PAGE_BYTES
    with store.engines.reader.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA query_only").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
    assert path.stat().st_mode & 0o777 == 0o600
    store.close()
