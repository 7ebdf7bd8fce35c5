"""Looks whether blobs are still what they were: local ones are hashed again, remote ones have their size.

An object store keeps checksums of its own, and reading all of it again may cost money: of what lies there so
many bytes a day are hashed as may be, those first that were not for the longest time.
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
#: Each blob is looked at this often; none is hashed more often.
EVERY_S = 30 * 86400.0
#: Blobs in one turn, and bytes after which a turn ends.
MOST_BLOBS = 200
TURN_BYTES = 64 * MIB
#: Bytes of an object store that are hashed in a day.
REMOTE_BYTES_A_DAY = 1024 * MIB
_DAY_S = 86400.0


class Allowance:
    """Bytes that may be spent, so many a day; what was not spent in a day is lost.

    A blob may be larger than what a day brings: it is begun while anything is left, and paid off afterwards.
    """

    def __init__(self, bytes_a_day: int) -> None:
        self._bytes_a_day = bytes_a_day
        self._left = 0.0
        self._at_s: float | None = None

    def is_left(self, now_s: float) -> bool:
        """Whether there is any, at this monotonic time. It begins with none: a restart brings none either."""
        passed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._left = min(self._bytes_a_day, self._left + passed_s / _DAY_S * self._bytes_a_day)
        return self._left > 0

    def spend(self, byte_count: int) -> None:
        """Take so many bytes."""
        self._left -= byte_count


class Scrubber:
    """Checks the blobs that were longest unchecked, some a turn."""

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, *, remote_bytes_a_day: int = REMOTE_BYTES_A_DAY
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._allowance = Allowance(remote_bytes_a_day)

    def turn(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Check some blobs; return how many were found damaged.

        Raises:
            StoreUnavailableError, BlobUnavailableError: Not now.
        """
        is_local = self._blobs.place.is_local
        damaged, whole, seen_bytes = 0, [], 0
        for row in self._oldest(b.c.checked_unix_s, MOST_BLOBS):
            if stop() or seen_bytes > TURN_BYTES:
                break
            complaint = self._complaint(row, does_hash=is_local)
            if complaint is None:
                whole.append(row.digest)
            else:
                self._blobs.mark_damaged(row.digest, row.object, complaint)
                damaged += 1
            seen_bytes += row.size if is_local else 0
        self._note(whole, was_hashed=is_local)
        return damaged if is_local else damaged + self._hash_remote(stop)

    def _hash_remote(self, stop: Callable[[], bool]) -> int:
        """Hash what may be, of those that were not for the longest time; return how many are damaged."""
        damaged = seen_bytes = 0
        while seen_bytes <= TURN_BYTES and not stop() and self._allowance.is_left(self._clock.mono_s()):
            rows = self._oldest(b.c.hashed_unix_s, 1)
            if not rows:
                break
            (row,) = rows
            self._allowance.spend(row.size)
            seen_bytes += row.size
            complaint = self._complaint(row, does_hash=True)
            if complaint is not None:
                self._blobs.mark_damaged(row.digest, row.object, complaint)
                damaged += 1
            else:
                self._note([row.digest], was_hashed=True)
        return damaged

    def _oldest(self, column: sa.Column[Any], count: int) -> list[Any]:
        """Return blobs that are due by the time in `column`."""
        due = column < self._clock.unix_s() - EVERY_S
        chosen = sa.select(b.c.digest, b.c.object, b.c.size).where(due, ~b.c.damaged)
        return list(self._store.fetch(chosen.order_by(column).limit(count)))

    def _note(self, whole: list[str], *, was_hashed: bool) -> None:
        if not whole:
            return
        now_s = self._clock.unix_s()
        times = {"checked_unix_s": now_s} | ({"hashed_unix_s": now_s} if was_hashed else {})
        with self._store.writing.transaction() as tx:
            tx.connection.execute(sa.update(b).where(b.c.digest.in_(whole)).values(times))
        self._blobs.counts.add(**{"checked_content" if was_hashed else "checked_size": len(whole)})

    def _complaint(self, row: Any, *, does_hash: bool) -> str | None:
        """Return what is wrong with a blob, None where nothing is."""
        try:
            size = self._blobs.place.size(row.object)
            if size != row.size:
                return f"it has {size} bytes and had {row.size}"
            if not does_hash or self._hash(row.object) == row.digest:
                return None
            # What came over a network is not believed at once.
            if not self._blobs.place.is_local and self._hash(row.object) == row.digest:
                return None
        except FileNotFoundError:
            return "its object is gone"
        except OSError as error:
            if error.errno == errno.EIO:
                return f"it can't be read: {error}"
            raise
        return "its content has changed"

    def _hash(self, name: str) -> str:
        found = hashlib.sha256()
        with self._blobs.place.open(name) as file:
            while data := file.read(MIB):
                found.update(data)
        return found.hexdigest()
