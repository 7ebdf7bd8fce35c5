"""Objects without a row: what a crash left between bytes and row, or between row and removal."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.places import digest_of_object
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: An object is no orphan yet: its row follows at once, but for a database that has to be waited for.
LEAST_AGE_S = 3600.0
_AT_ONCE = 500


class Orphans:
    """Looks at one shard at a time."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, *, least_age_s: float = LEAST_AGE_S) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._least_age_s = least_age_s

    def remove(self, shard: str) -> int:
        """Remove a shard's orphans that are old enough; return how many there were.

        Raises:
            StoreUnavailableError, BlobUnavailableError, OSError: Not now.
        """
        before_unix_s = self._clock.unix_s() - max(self._least_age_s, self._blobs.min_age_s)
        old: list[str] = []
        removed = 0
        for found in self._blobs.place.list_shard(shard):
            # Without a time it may be a new one; what has no name of ours is not ours to remove.
            is_old = found.modified_unix_s is not None and found.modified_unix_s < before_unix_s
            if is_old and digest_of_object(found.name):
                old.append(found.name)
            if len(old) == _AT_ONCE:
                removed += self._remove_unknown(old)
                old = []
        return removed + self._remove_unknown(old)

    def _remove_unknown(self, names: list[str]) -> int:
        if not names:
            return 0
        digests = [digest_of_object(name) for name in names]
        rows = self._store.fetch(sa.select(b.c.object).where(b.c.digest.in_(digests)))
        orphans = sorted(set(names) - {row.object for row in rows})
        if orphans:
            self._blobs.place.remove(orphans)
            self._blobs.counts.add(orphans=len(orphans))
            logger.info("orphans removed", extra={"event": "blob_orphans", "count": len(orphans)})
        return len(orphans)
