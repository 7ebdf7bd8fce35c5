from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold_coordinator.store.store import Store
from support.frames import Bench
from support.stores import new_database


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(new_database(tmp_path / "runfold.db"), cold_url=str(tmp_path / "cold"))
    yield store
    store.close()


@pytest.fixture
def bench(sqlite_store: Store) -> Bench:
    return Bench(sqlite_store)


@pytest.fixture(params=["sqlite", "postgresql"])
def each_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """An ingest over each database."""
    is_sqlite = request.param == "sqlite"
    url = new_database(tmp_path / "runfold.db") if is_sqlite else request.getfixturevalue("postgres_url")
    store = Store.open(url)
    yield Bench(store)
    store.close()
