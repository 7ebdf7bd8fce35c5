from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runfold_coordinator.store.store import Store
from support.frames import Bench
from support.stores import new_database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return new_database(tmp_path / "runfold.db")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(url, cold_url=str(tmp_path / "cold"))
    yield opened
    opened.close()


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)
