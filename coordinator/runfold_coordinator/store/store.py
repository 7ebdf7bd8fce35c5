"""The store: opens the database, runs its migrations, and answers reads. One per process; thread-safe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store.model import (
    Accounting,
    Block,
    Cells,
    DeadLetterRow,
    GapRow,
    KeyRow,
    RecordRow,
    Rollup,
    RunRow,
    WriterRow,
)


class Store:
    """Every read sees one committed state of the database per call. `store.tables` columns may be used in filters."""

    def find_run(self, entity: str, project: str, run_id: str) -> RunRow | None:
        raise NotImplementedError

    def get_run(self, run_pk: int) -> RunRow | None:
        raise NotImplementedError

    def list_runs(
        self,
        entity: str | None = None,
        project: str | None = None,
        *,
        where: sa.ColumnElement[bool] | None = None,
        order_by: Sequence[sa.ColumnElement[Any]] = (),
        limit: int = 50,
        offset: int = 0,
    ) -> list[RunRow]:
        """Default order: newest start first. `where`/`order_by` speak of `store.tables.runs.c` (config_json, summary_json are JSON)."""
        raise NotImplementedError

    def count_runs(
        self,
        entity: str | None = None,
        project: str | None = None,
        *,
        where: sa.ColumnElement[bool] | None = None,
    ) -> int:
        raise NotImplementedError

    def list_group(self, entity: str, project: str, group: str) -> list[RunRow]:
        """Oldest start first."""
        raise NotImplementedError

    def list_projects(self, entity: str | None = None) -> list[tuple[str, str, int]]:
        """(entity, project, number of runs)."""
        raise NotImplementedError

    def list_groups(self, entity: str, project: str) -> list[tuple[str, int]]:
        raise NotImplementedError

    def writers(self, run_pk: int) -> list[WriterRow]:
        """In order of (started_unix_ns, writer_id)."""
        raise NotImplementedError

    def find_writers(self, writer_ids: Collection[str]) -> list[WriterRow]:
        raise NotImplementedError

    def records(self, run_pk: int, kinds: Collection[int] | None = None) -> list[RecordRow]:
        """Ordered by (writer_pk, seq)."""
        raise NotImplementedError

    def gaps(self, run_pk: int) -> list[GapRow]:
        raise NotImplementedError

    def dead_letters(self, run_pk: int | None, *, limit: int = 100) -> list[DeadLetterRow]:
        raise NotImplementedError

    def keys(self, run_pk: int) -> list[KeyRow]:
        """Ordered by key."""
        raise NotImplementedError

    def read_cells(
        self,
        run_pk: int,
        key: str,
        *,
        writer_pks: Collection[int] | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
        seq_after: int | None = None,
        seq_max: int | None = None,
    ) -> Iterator[Cells]:
        """Per writer, pieces in order of their first seq. Bounds are inclusive, except seq_after."""
        raise NotImplementedError

    def read_blocks(
        self,
        run_pk: int,
        writer_pk: int,
        *,
        seq_after: int = 0,
        seq_max: int | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
    ) -> Iterator[Block]:
        """Pieces in order of their first seq; pieces may interleave (see Cells)."""
        raise NotImplementedError

    def read_rollups(
        self, run_pk: int, key: str, writer_pks: Collection[int] | None = None
    ) -> Iterator[Rollup]:
        """Every stored piece of the key once; pieces too small to have a stored rollup get one computed here."""
        raise NotImplementedError

    def load_fold(self, run_pk: int) -> bytes | None:
        """What `save_fold` kept, or None. A run marked for a refold answers None."""
        raise NotImplementedError

    def save_fold(self, run_pk: int, state: bytes, *, summary: dict[str, Any] | None = None) -> None:
        """Keep a fold's state; `summary` becomes RunRow.summary and runs.summary_json for filters."""
        raise NotImplementedError

    def drop_fold(self, run_pk: int) -> None:
        """Mark the run for a refold from its first record."""
        raise NotImplementedError

    def accounting(self, run_pk: int) -> Accounting:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
