"""Deletes runs: hidden at once, shown again on demand, and purged when they were hidden for long enough.

A run that was deleted is in no list and under no path; its processes are told nothing, and what they say is
stored as before. A purge removes its rows a bounded number at a time, the row of the run last: killed at any
moment, the next one goes on. A run from which another was forked stays as long as that one is there, whose
history begins with its rows. Nodes' samples go the same way, some months after they were taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import sqlalchemy as sa

from runfold.protocol.branching import FORK
from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.clock import Clock
from runfold_coordinator.edits.changes import RunGoneError, locked_run
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.artifact_tables import artifact_drafts, artifact_runs
from runfold_coordinator.store.branch_tables import branches
from runfold_coordinator.store.chunks import MAX_PARTS
from runfold_coordinator.store.edit_tables import run_edits
from runfold_coordinator.store.file_tables import run_files
from runfold_coordinator.store.model import PURGING_UNIX_S, RunRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

#: How long a deleted run is kept, seconds.
KEEP_S = 30 * 86400.0
#: A run is not purged while something was heard of it within this time, seconds, or within the time for which
#: deleted runs are kept where that is shorter.
QUIET_S = 86400.0
#: How long samples and other records of nodes are kept, days.
NODE_STATS_DAYS = 90.0
#: Most nodes' runs whose time is found to be over at once: an agent makes one a day.
NODE_RUNS_AT_ONCE = 500
#: Most rows that one transaction of a purge deletes of a table.
ROWS_AT_ONCE = 2000
#: Tables whose rows belong to a run and to nothing else. Chunks, evidence and deliveries are found by others.
#: Blobs go when no row refers to them any more (blobs/collector.py).
OF_RUN: list[sa.Table] = [
    t.alert_causes,
    t.records,
    t.gaps,
    t.dead_letters,
    t.run_keys,
    t.run_folds,
    t.cold_files,
    run_edits,
    branches,
    run_files,
    artifact_runs,
    artifact_drafts,
]


class Deletion:
    """Thread-safe: it keeps nothing between calls."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        keep_s: float = KEEP_S,
        node_stats_days: float = NODE_STATS_DAYS,
    ) -> None:
        """Prepare; nothing is read.

        Args:
            keep_s: For how long a deleted run is kept.
            node_stats_days: For how long what agents sampled is kept after the last word of it; 0: for ever.
        """
        self._store = store
        self._node_keep_s = node_stats_days * 86400.0
        self._clock = clock
        self._keep_s = keep_s
        #: Deletes the artifacts that a run (run_pk) has logged; told by whoever keeps artifacts.
        self.delete_artifacts: Callable[[int], object] = lambda _run_pk: None

    @property
    def keep_s(self) -> float:
        """For how long deleted runs are kept, seconds."""
        return self._keep_s

    def delete(self, run: RunRow, *, by: str) -> None:
        """Hide a run. Its processes go on, unharmed.

        Raises:
            RunGoneError: It was deleted before.
        """
        with self._store.writing.transaction() as tx:
            locked_run(tx, run.run_pk)
            self._set_deleted(tx, run.run_pk, self._clock.unix_s(), by)

    def undelete(self, run: RunRow) -> None:
        """Show a deleted run again, with everything that its processes have said meanwhile.

        Raises:
            RunGoneError: It has been purged, or a part of it has.
        """
        c = t.runs.c
        with self._store.writing.transaction() as tx:
            begun = sa.select(c.deleted_unix_s).where(c.run_pk == run.run_pk).with_for_update()
            if tx.connection.execute(begun).scalar() == PURGING_UNIX_S:
                raise RunGoneError("the run is being purged")
            self._set_deleted(tx, run.run_pk, None, None)

    def purge_some(self) -> bool:
        """Remove a bounded part of one run whose time is over; return whether there is more to do."""
        run_pk = self._next_run()
        if run_pk is None:
            return self._expire_nodes()
        for purge in (_purge_chunks, _purge_alerts, _purge_rows, self._purge_writers):
            with self._store.writing.transaction() as tx:
                if not self._is_due(tx, run_pk):
                    return True  # undeleted, or heard of, in this moment
                self._begin(tx, run_pk)
                if purge(tx, run_pk):
                    return True
        with self._store.writing.transaction() as tx:
            if self._is_due(tx, run_pk):
                tx.connection.execute(sa.delete(t.runs).where(t.runs.c.run_pk == run_pk))
                # Ids of what is gone must not be used for a process that speaks after all.
                self._store.writing.forget()
                logger.info("a deleted run was purged", extra={"event": "run_purged", "run_pk": run_pk})
        return True

    def _expire_nodes(self) -> bool:
        """Let what agents kept of their nodes be purged where it is old; return whether there was any.

        It can't be brought back: who asks for a run's system metrics finds all of a day, or nothing.
        """
        if not self._node_keep_s:
            return False
        c = t.runs.c
        quiet_since_s = self._clock.unix_s() - max(self._node_keep_s, QUIET_S)
        is_old = sa.and_(
            c.entity == NODE_ENTITY, c.deleted_unix_s.is_(None), c.updated_unix_s <= quiet_since_s
        )
        rows = self._store.fetch(sa.select(c.run_pk).where(is_old).limit(NODE_RUNS_AT_ONCE))
        if rows:
            with self._store.writing.transaction() as tx:
                tx.connection.execute(
                    sa.update(t.runs)
                    .where(c.run_pk.in_([row.run_pk for row in rows]), is_old)
                    .values(deleted_unix_s=PURGING_UNIX_S, version=c.version + 1)
                )
            logger.info(
                "old samples of nodes are being removed",
                extra={"event": "node_stats_expired", "runs": len(rows)},
            )
        return bool(rows)

    def _begin(self, tx: Transaction, run_pk: int) -> None:
        c = t.runs.c
        tx.connection.execute(
            sa.update(t.runs)
            .where(c.run_pk == run_pk, c.deleted_unix_s != PURGING_UNIX_S)
            .values(deleted_unix_s=PURGING_UNIX_S)
        )

    def _set_deleted(self, tx: Transaction, run_pk: int, unix_s: float | None, by: str | None) -> None:
        c = t.runs.c
        changed = tx.connection.execute(
            sa.update(t.runs)
            .where(c.run_pk == run_pk)
            .values(deleted_unix_s=unix_s, deleted_by=by, version=c.version + 1)
        ).rowcount
        if not changed:
            raise RunGoneError("the run has been purged")
        tx.touch(run_pk)

    def _due(self) -> sa.ColumnElement[bool]:
        now_s = self._clock.unix_s()
        quiet_since_s = now_s - min(QUIET_S, self._keep_s)
        c, w = t.runs.c, t.writers.c
        heard = sa.exists().where(w.run_pk == c.run_pk, w.last_seen_unix_s > quiet_since_s)
        path = c.entity + "/" + c.project + "/" + c.run_id
        b = branches.c
        is_base = sa.exists().where(b.base_path == path, b.kind == FORK, b.run_pk != c.run_pk)
        return sa.and_(
            c.deleted_unix_s <= now_s - self._keep_s,
            c.updated_unix_s <= quiet_since_s,
            sa.not_(heard),
            sa.not_(is_base),
        )

    def _next_run(self) -> int | None:
        c = t.runs.c
        rows = self._store.fetch(
            sa.select(c.run_pk).where(self._due()).order_by(c.deleted_unix_s, c.run_pk).limit(1)
        )
        return rows[0].run_pk if rows else None

    def _is_due(self, tx: Transaction, run_pk: int) -> bool:
        c = t.runs.c
        statement = sa.select(c.run_pk).where(c.run_pk == run_pk, self._due()).with_for_update()
        return tx.connection.execute(statement).one_or_none() is not None

    def _purge_writers(self, tx: Transaction, run_pk: int) -> bool:
        w = t.writers.c
        some = tx.connection.execute(
            sa.select(w.writer_pk, w.writer_id).where(w.run_pk == run_pk).limit(500)
        ).all()
        ids = [row.writer_id for row in some]
        tx.connection.execute(sa.delete(t.evidence).where(t.evidence.c.writer_id.in_(ids)))
        tx.connection.execute(sa.delete(t.writers).where(w.writer_pk.in_([row.writer_pk for row in some])))
        return len(some) == 500


def _purge_chunks(tx: Transaction, run_pk: int) -> bool:
    c = t.chunks.c
    pks = tx.connection.execute(sa.select(c.chunk_pk).where(c.run_pk == run_pk).limit(200)).scalars().all()
    part_id = t.chunk_parts.c.part_id
    for pk in pks:
        tx.connection.execute(
            sa.delete(t.chunk_parts).where(part_id >= pk * MAX_PARTS, part_id < (pk + 1) * MAX_PARTS)
        )
    tx.delete_chunks(pks, with_parts=())
    return len(pks) == 200


def _purge_alerts(tx: Transaction, run_pk: int) -> bool:
    a, d = t.alerts.c, t.alert_deliveries.c
    pks = tx.connection.execute(sa.select(a.alert_pk).where(a.run_pk == run_pk).limit(500)).scalars().all()
    tx.connection.execute(sa.delete(t.alert_deliveries).where(d.alert_pk.in_(pks)))
    tx.connection.execute(sa.delete(t.alerts).where(a.alert_pk.in_(pks)))
    return len(pks) == 500


def _purge_rows(tx: Transaction, run_pk: int) -> bool:
    return any(purge_table(tx, table, run_pk) for table in OF_RUN)


def purge_table(tx: Transaction, table: sa.Table, run_pk: int) -> bool:
    """Delete some rows of a table that has a column run_pk; return whether there may be more."""
    keys = list(table.primary_key.columns)
    some = sa.select(*keys).where(table.c.run_pk == run_pk).limit(ROWS_AT_ONCE)
    where = keys[0].in_(some) if len(keys) == 1 else sa.tuple_(*keys).in_(some)
    return tx.connection.execute(sa.delete(table).where(where)).rowcount >= ROWS_AT_ONCE
