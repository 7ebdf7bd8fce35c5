"""Looks whether blobs are still what they were: local ones are hashed again, remote ones have their size.

An object store keeps checksums of its own; reading all of it again would cost more than it tells.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store

MIB = 1024 * 1024
#: Each blob is looked at this often.
EVERY_S = 30 * 86400.0
#: Blobs in one turn, and bytes after which a turn ends.
MOST_BLOBS = 200
TURN_BYTES = 64 * MIB


class Scrubber:
    """Checks the blobs that were longest unchecked, some a turn."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock

    def turn(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Check some blobs; return how many were found damaged.

        Raises:
            StoreUnavailableError, BlobUnavailableError: Not now.
        """
        now_s = self._clock.unix_s()
        rows = self._store.fetch(
            sa.select(b.c.digest, b.c.object, b.c.size)
            .where(b.c.checked_unix_s < now_s - EVERY_S, ~b.c.damaged)
            .order_by(b.c.checked_unix_s)
            .limit(MOST_BLOBS)
        )
        damaged, whole, seen_bytes = 0, [], 0
        for row in rows:
            if stop() or seen_bytes > TURN_BYTES:
                break
            complaint = self._complaint(row)
            if complaint is None:
                whole.append(row.digest)
            else:
                self._blobs.mark_damaged(row.digest, row.object, complaint)
                damaged += 1
            seen_bytes += row.size if self._blobs.place.is_local else 0
        if whole:
            with self._store.writing.transaction() as tx:
                tx.connection.execute(sa.update(b).where(b.c.digest.in_(whole)).values(checked_unix_s=now_s))
        return damaged

    def _complaint(self, row: Any) -> str | None:
        """Return what is wrong with a blob, None where nothing is."""
        try:
            size = self._blobs.place.size(row.object)
            if size != row.size:
                return f"it has {size} bytes and had {row.size}"
            if not self._blobs.place.is_local:
                return None
            found = self._hash(row.object)
        except FileNotFoundError:
            return "its object is gone"
        except OSError as error:
            if error.errno == errno.EIO:
                return f"it can't be read: {error}"
            raise
        return None if found == row.digest else "its content has changed"

    def _hash(self, name: str) -> str:
        found = hashlib.sha256()
        with self._blobs.place.open(name) as file:
            while data := file.read(MIB):
                found.update(data)
        return found.hexdigest()
