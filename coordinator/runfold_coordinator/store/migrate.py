"""Brings the database to this version's tables; refuses one that a newer version has written."""

from __future__ import annotations

import functools

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from runfold_coordinator.store import artifact_tables, branch_tables, edit_tables  # noqa: F401 - in the metadata
from runfold_coordinator.store.errors import StoreRefusedError

SCRIPTS = "runfold_coordinator.store:migrations"


def migrate(engine: sa.Engine) -> None:
    """Run the missing migrations in one transaction.

    Raises:
        StoreRefusedError: The database was written by a newer runfold.
    """
    known = _revisions()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7245601)"))  # one migrator at a time
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise StoreRefusedError(
                f"the database is at version {current}, written by a newer runfold. Upgrade runfold, or use "
                "another database"
            )
        if current == known[0]:  # as at nearly every start: Alembic would load all its scripts to do nothing
            return
        config = _config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


@functools.cache
def _revisions() -> tuple[str, ...]:
    """Return what a database can be at, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", SCRIPTS)
    config.set_main_option("path_separator", "os")
    return config
