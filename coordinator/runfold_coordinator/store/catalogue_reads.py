"""Reads of runs, their writers, and how far these came."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.identity import NODE_ENTITY
from runfold.protocol.values import unpack_value
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.content_reads import ContentReads
from runfold_coordinator.store.edit_tables import projects
from runfold_coordinator.store.model import PURGING_UNIX_S, RunRow, WriterRow
from runfold_coordinator.store.slices import in_slices

#: Elements in one projection: all writers' definitions together may exceed one record's limit.
PROJECTION_ELEMENTS = 50_000_000
PROJECTION_BYTES = 256 * 1024 * 1024
#: Identities of writers kept unpacked.
CACHED_IDENTITIES = 20_000


class CatalogueReads(ContentReads):
    """Every call sees one committed state. `where` and `order_by` speak of the columns of `store.tables`.

    Runs that were deleted are not there, where nothing else is said.
    """

    def find_run(self, entity: str, project: str, run_id: str, *, deleted: bool = False) -> RunRow | None:
        """Return the run of this path; one that was deleted with `deleted` only, and then no other."""
        c = t.runs.c
        found = self._runs(
            sa.select(t.runs).where(
                c.entity == entity, c.project == project, c.run_id == run_id, is_deleted(deleted)
            )
        )
        return found[0] if found else None

    def get_run(self, run_pk: int) -> RunRow | None:
        """Return the run of this key."""
        found = self._runs(sa.select(t.runs).where(t.runs.c.run_pk == run_pk, is_deleted(False)))
        return found[0] if found else None

    def deleted_runs(self, entity: str | None = None, project: str | None = None) -> list[RunRow]:
        """Return the runs that were deleted and whose purge has not begun, the newest deletion first."""
        order = (t.runs.c.deleted_unix_s.desc(), t.runs.c.run_pk.desc())
        where = (*_path(entity, project, None, deleted=True), t.runs.c.deleted_unix_s != PURGING_UNIX_S)
        return self._runs(sa.select(t.runs).where(*where).order_by(*order))

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
        """Return a page of runs, newest start first unless `order_by` says otherwise; run_pk breaks ties.

        Args:
            where: A condition on `store.tables.runs.c`; tags_json, config_json, summary_json are JSON.
        """
        c = t.runs.c
        order = (*order_by, c.run_pk) if order_by else (c.started_unix_ns.desc(), c.run_pk.desc())
        statement = sa.select(t.runs).where(*_path(entity, project, where)).order_by(*order)
        return self._runs(statement.limit(limit).offset(offset))

    def count_runs(
        self,
        entity: str | None = None,
        project: str | None = None,
        *,
        where: sa.ColumnElement[bool] | None = None,
    ) -> int:
        """Return how many runs list_runs() would page through."""
        statement = sa.select(sa.func.count()).select_from(t.runs).where(*_path(entity, project, where))
        return int(self.fetch(statement)[0][0])

    def list_group(self, entity: str, project: str, group: str) -> list[RunRow]:
        """Return the runs of a group, oldest start first."""
        c = t.runs.c
        return self._runs(
            sa.select(t.runs)
            .where(c.entity == entity, c.project == project, c.group_name == group, is_deleted(False))
            .order_by(c.started_unix_ns, c.run_pk)
        )

    def list_projects(self, entity: str | None = None) -> list[tuple[str, str, int]]:
        """Return (entity, project, number of runs), by name; made by hand, a project may have none."""
        c, made = t.runs.c, projects.c
        rows = self.fetch(
            sa.select(c.entity, c.project, sa.func.count())
            .where(*_path(entity, None, None))
            .group_by(c.entity, c.project)
        )
        by_hand = sa.select(made.entity, made.name)
        by_hand = by_hand if entity is None else by_hand.where(made.entity == entity)
        found = {(row[0], row[1]): 0 for row in self.fetch(by_hand)}
        found |= {(row[0], row[1]): row[2] for row in rows}
        return [(owner, name, count) for (owner, name), count in sorted(found.items())]

    def list_sweeps(self, entity: str, project: str) -> list[tuple[str, dict[str, int]]]:
        """Return (sweep id, number of runs by state), newest start first."""
        c = t.runs.c
        newest = sa.func.max(c.started_unix_ns)
        rows = self.fetch(
            sa.select(c.sweep, c.state, sa.func.count(), newest)
            .where(c.entity == entity, c.project == project, c.sweep.is_not(None), is_deleted(False))
            .group_by(c.sweep, c.state)
            .order_by(newest.desc(), c.sweep)
        )
        found: dict[str, dict[str, int]] = {}
        for sweep, state, count, _ in rows:
            found.setdefault(sweep, {})[state] = count
        return list(found.items())

    def writers(self, run_pk: int, *, role: str = "process") -> list[WriterRow]:
        """Return a run's writers of this role in order of (started_unix_ns, writer_id)."""
        c = t.writers.c
        return self._writers(
            sa.select(t.writers)
            .where(c.run_pk == run_pk, c.role == role)
            .order_by(c.started_unix_ns, c.writer_id)
        )

    def consoles(self, run_pk: int) -> set[str]:
        """Return the ids of the processes of a run whose console output is kept."""
        c = t.writers.c
        found = self.fetch(sa.select(c.console_of).where(c.run_pk == run_pk, c.role == "console"))
        return {row.console_of for row in found if row.console_of is not None}

    def writers_of(self, run_pks: Collection[int]) -> dict[int, list[WriterRow]]:
        """Return the processes that write these runs by run_pk, each list in the order of writers()."""
        pks, c = sorted(set(run_pks)), t.writers.c
        found: dict[int, list[WriterRow]] = {pk: [] for pk in pks}
        for some in in_slices(pks):
            statement = sa.select(t.writers).where(c.run_pk.in_(some), c.role == "process")
            for writer in self._writers(statement.order_by(c.started_unix_ns, c.writer_id)):
                found[writer.run_pk].append(writer)
        return found

    def find_writers(self, writer_ids: Collection[str]) -> list[WriterRow]:
        """Return the writers with these ids (hex) that are known."""
        ids, c = sorted(set(writer_ids)), t.writers.c
        found: list[WriterRow] = []
        for some in in_slices(ids):
            found += self._writers(sa.select(t.writers).where(c.writer_id.in_(some)))
        return found

    def acks(self, writer_ids: Collection[str]) -> dict[str, int]:
        """Return the durable ack of each of these writers; 0 for those that are not known."""
        ids, c = sorted(set(writer_ids)), t.writers.c
        found = dict.fromkeys(ids, 0)
        for some in in_slices(ids):
            rows = self.fetch(sa.select(c.writer_id, c.last_seq).where(c.writer_id.in_(some)))
            found |= {row.writer_id: row.last_seq for row in rows}
        return found

    def recent_acks(self, partition: int, since_unix_s: float, limit: int = 100_000) -> dict[str, int]:
        """Return the durable acks of a partition's writers that were heard of since then."""
        c = t.writers.c
        rows = self.fetch(
            sa.select(c.writer_id, c.last_seq)
            .where(c.partition == partition, c.last_seen_unix_s >= since_unix_s)
            .order_by(c.last_seen_unix_s.desc())
            .limit(limit)
        )
        return {row.writer_id: row.last_seq for row in rows}

    def cursor(self, partition: int) -> str:
        """Return the id of the last stream entry that was committed, "0-0" before the first."""
        c = t.partitions.c
        rows = self.fetch(sa.select(c.cursor).where(c.partition == partition))
        return str(rows[0].cursor) if rows else "0-0"

    def _runs(self, statement: sa.Executable) -> list[RunRow]:
        return [_run_row(row) for row in self.fetch(statement)]

    def _writers(self, statement: sa.Executable) -> list[WriterRow]:
        return [writer_row(row, self._identity(row)) for row in self.fetch(statement)]

    def _identity(self, row: Any) -> dict[str, Any]:
        """Return a writer's identity map; it never changes, so most are not unpacked anew."""
        if row.identity is None:
            return {}
        found = self._identities.get(row.writer_pk)
        if found is None:
            found = unpack_stored(row.identity)
            if len(self._identities) >= CACHED_IDENTITIES:
                self._identities.clear()
            self._identities[row.writer_pk] = found
        return found


def unpack_stored(blob: bytes | None) -> Any:
    """Return a map that this store packed itself; {} for NULL."""
    if blob is None:
        return {}
    return unpack_value(
        bytes(blob), max_bytes=PROJECTION_BYTES, max_elements=PROJECTION_ELEMENTS, max_depth=64
    )


def is_deleted(deleted: bool) -> sa.ColumnElement[bool]:
    """Return the condition on `runs` that it was deleted, or was not."""
    found = t.runs.c.deleted_unix_s
    return found.is_not(None) if deleted else found.is_(None)


def _path(
    entity: str | None,
    project: str | None,
    where: sa.ColumnElement[bool] | None,
    *,
    deleted: bool = False,
) -> Iterable[sa.ColumnElement[bool]]:
    # Agents keep what they see of their nodes in runs of their own, which nobody lists.
    yield t.runs.c.entity != NODE_ENTITY
    yield is_deleted(deleted)
    if entity is not None:
        yield t.runs.c.entity == entity
    if project is not None:
        yield t.runs.c.project == project
    if where is not None:
        yield where


def _run_row(row: Any) -> RunRow:
    projection = unpack_stored(row.projection)
    return RunRow(
        run_pk=row.run_pk,
        entity=row.entity,
        project=row.project,
        run_id=row.run_id,
        mode=row.mode,
        group=projection.get("group"),
        job_type=projection.get("job_type"),
        fold=projection.get("fold"),
        name=projection.get("name"),
        notes=projection.get("notes"),
        tags=tuple(projection.get("tags") or ()),
        config=projection.get("config") or {},
        config_conflicts=projection.get("conflicts") or {},
        definitions=tuple(projection.get("definitions") or ()),
        primary_writer_pk=row.primary_writer_pk,
        state=row.state,
        reason=row.reason,
        first_failure=unpack_stored(row.first_failure) or None,
        unreachable=row.unreachable,
        started_unix_ns=row.started_unix_ns,
        ended_unix_ns=row.ended_unix_ns,
        updated_unix_s=row.updated_unix_s,
        last_record_unix_ns=row.last_record_unix_ns,
        last_step=row.last_step,
        row_count=row.row_count,
        version=row.version,
        program=row.program,
        host=row.host,
        summary=unpack_stored(row.summary),
        confidence=row.confidence,
        stalled=row.stalled,
        verdicts=unpack_stored(row.verdicts),
        sweep=row.sweep,
        branches=tuple(projection.get("branches") or ()),
        deleted_unix_s=row.deleted_unix_s,
        deleted_by=row.deleted_by,
    )


def writer_row(row: Any, identity: dict[str, Any]) -> WriterRow:
    """Return the writer of a row of the table and its unpacked identity."""
    steps = [step for step in (row.given_step_min, row.auto_step_min) if step is not None]
    tops = [step for step in (row.given_step_max, row.auto_step_max) if step is not None]
    return WriterRow(
        writer_pk=row.writer_pk,
        writer_id=row.writer_id,
        run_pk=row.run_pk,
        role=row.role,
        console_of=row.console_of,
        label=identity.get("label"),
        rank=identity.get("rank"),
        local_rank=identity.get("local_rank"),
        world_size=identity.get("world_size"),
        node_rank=identity.get("node_rank"),
        primary=identity.get("primary"),
        update_finish_state=bool(identity.get("update_finish_state", True)),
        mode=identity.get("mode", "grouped"),
        launcher=identity.get("launcher") or {},
        host=identity.get("host"),
        pid=identity.get("pid"),
        pid_start=identity.get("pid_start"),
        boot_id=identity.get("boot_id"),
        started_unix_ns=row.started_unix_ns,
        start_step=identity.get("start_step") or 0,
        identity=identity,
        last_seq=row.last_seq,
        head_seq=row.head_seq,
        row_count=row.row_count,
        gap_count=row.gap_count,
        dead_letter_count=row.dead_letter_count,
        step_min=min(steps, default=None),
        step_max=max(tops, default=None),
        given_step_min=row.given_step_min,
        given_step_max=row.given_step_max,
        auto_step_min=row.auto_step_min,
        auto_step_max=row.auto_step_max,
        last_record_unix_ns=row.last_record_unix_ns,
        exit=unpack_stored(row.exit) or None,
        alive=row.alive,
        last_seen_unix_s=row.last_seen_unix_s,
        state=row.state,
        reason=row.reason,
        unreachable=row.unreachable,
        ended_unix_ns=row.ended_unix_ns,
        confidence=row.confidence,
        stalled=row.stalled,
        ending=unpack_stored(row.ending),
    )
