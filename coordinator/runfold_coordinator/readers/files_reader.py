"""The files of runs, a page at a time, with what processes said they would send and has not arrived."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from runfold_coordinator.readers.name_patterns import fits
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.file_tables import run_files as f
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a run; sha256 is None for one that was said and has not arrived. See store/file_tables.py."""

    name: str
    sha256: str | None
    md5: str | None
    size: int | None
    mimetype: str | None
    modified_unix_s: float | None
    stored_unix_s: float | None
    writer_id: str | None
    policy: str
    what: str
    error: str | None


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files of a run are here, and how many were said and are not.

    Attributes:
        failed: Of these what was saved last will never come; some are here as they were before.
    """

    stored: int
    pending: int
    failed: int


State = Literal["stored", "pending", "failed"]
_STATES: dict[State, sa.ColumnElement[bool]] = {
    "stored": f.c.sha256.is_not(None),
    "pending": f.c.sha256.is_(None) & f.c.error.is_(None),
    "failed": f.c.error.is_not(None),
}


_COLUMNS = (
    f.c.name,
    f.c.sha256,
    sa.select(b.c.md5).where(b.c.digest == f.c.sha256).scalar_subquery().label("md5"),
    f.c.size,
    f.c.mimetype,
    f.c.modified_unix_s,
    f.c.stored_unix_s,
    f.c.writer_id,
    f.c.policy,
    f.c.what,
    f.c.error,
)


class FilesReader:
    """Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(
        self,
        run_pk: int,
        *,
        names: Collection[str] | None = None,
        pattern: str | None = None,
        state: State = "stored",
        after: str | None = None,
        limit: int,
    ) -> tuple[list[FileRow], str | None]:
        """Return files by name, and the name to go on after, None at the end.

        Args:
            names: Only these.
            pattern: Only names that fit: as in SQL, % any characters, _ one; the case counts.
            state: "stored": those that are here; "pending": those that are still to come; "failed": those
                of which what was saved last will never come.
        """
        chosen = sa.select(*_COLUMNS).where(f.c.run_pk == run_pk, _STATES[state])
        if names is not None:
            chosen = chosen.where(f.c.name.in_(sorted(names)))
        if pattern is not None:
            chosen = chosen.where(fits(self._store, f.c.name, pattern))
        if after is not None:
            chosen = chosen.where(f.c.name > after)
        rows = self._store.fetch(chosen.order_by(f.c.name).limit(limit + 1))
        page = [FileRow(*row) for row in rows[:limit]]
        return page, page[-1].name if len(rows) > limit else None

    def find(self, run_pk: int, name: str) -> FileRow | None:
        """Return a file that is here, None where there is none of that name."""
        rows, _ = self.page(run_pk, names=[name], limit=1)
        return rows[0] if rows else None

    def counts(self, run_pk: int) -> FileCounts:
        """Count the files of a run."""
        count = sa.select(sa.func.count()).select_from(f).where(f.c.run_pk == run_pk)
        absent, failed = count.where(f.c.sha256.is_(None)), count.where(f.c.error.is_not(None))
        # Counts of an index each; only of those that failed rows are read.
        lost = failed.where(f.c.sha256.is_(None))
        counts = (count, absent, failed, lost)
        (row,) = self._store.fetch(sa.select(*(each.scalar_subquery() for each in counts)))
        total, missing, given_up, never = (int(each) for each in row)
        return FileCounts(stored=total - missing, pending=missing - never, failed=given_up)
