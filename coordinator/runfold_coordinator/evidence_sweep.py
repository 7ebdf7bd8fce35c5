"""What becomes of evidence about writers that never came: it rests after minutes, is removed after a week."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Fresh evidence that nobody has judged for so long, seconds, waits for its writer without being looked for:
#: a new writer's evidence is read anyway.
REST_AFTER_S = 600.0
#: Evidence about a writer that is not known after so long, seconds, is removed.
REMOVE_AFTER_S = 7 * 86400.0
#: Removed in one transaction.
REMOVED_AT_ONCE = 5000


class EvidenceSweep:
    """Tidies the table of evidence now and then. `removed_count`: rows removed since start."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.removed_count = 0

    def rest(self, now_unix_s: float) -> None:
        """Let fresh evidence rest that is old: about writers that did not come, or are no processes."""
        c = t.evidence.c
        is_old = sa.and_(c.is_fresh, c.received_unix_s < now_unix_s - REST_AFTER_S)
        if not self._store.fetch(sa.select(c.writer_id).where(is_old).limit(1)):
            return
        is_judged = sa.exists().where(t.writers.c.writer_id == c.writer_id, t.writers.c.role == "process")
        with self._store.writing.transaction() as tx:
            tx.connection.execute(sa.update(t.evidence).where(is_old, ~is_judged).values(is_fresh=False))

    def remove(self, now_unix_s: float) -> bool:
        """Remove evidence about writers that never came; return whether there may be more of it."""
        c = t.evidence.c
        is_known = sa.exists().where(t.writers.c.writer_id == c.writer_id)
        rows = self._store.fetch(
            sa.select(c.writer_id)
            .where(c.received_unix_s < now_unix_s - REMOVE_AFTER_S, ~is_known)
            .distinct()
            .limit(REMOVED_AT_ONCE)
        )
        writer_ids = [row.writer_id for row in rows]
        if not writer_ids:
            return False
        removed = 0
        with self._store.writing.transaction() as tx:
            for ids in in_slices(writer_ids):
                removed += tx.connection.execute(
                    sa.delete(t.evidence).where(
                        c.writer_id.in_(ids), c.received_unix_s < now_unix_s - REMOVE_AFTER_S, ~is_known
                    )
                ).rowcount
        self.removed_count += removed
        logger.info(
            "evidence about writers that never came was removed",
            extra={"event": "evidence_removed", "rows": removed},
        )
        return len(writer_ids) == REMOVED_AT_ONCE
