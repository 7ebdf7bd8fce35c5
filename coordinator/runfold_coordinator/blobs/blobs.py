"""Blobs: content that is kept once, by its digest. In: verified bytes; out: the same bytes.

The bytes are in place, and durable, before their row is; a row goes before its bytes do. So a crash leaves
objects without a row at most, which upkeep removes. Who refers to a blob holds it in the same transaction.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold.protocol.content_sum import md5_of
from runfold.protocol.file_names import is_digest
from runfold_coordinator.blobs.counts import BlobCounts
from runfold_coordinator.blobs.errors import BlobMissingError
from runfold_coordinator.blobs.places import Place, new_object_name
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

#: What was touched less long ago is not touched again: asking twice writes once.
MOST_SLACK_S = 3600.0
#: Blobs that one request reads at a time.
_READERS = 8


class Blobs:
    """The blobs of one server. Thread-safe."""

    def __init__(self, store: Store, place: Place, clock: Clock, *, min_age_s: float) -> None:
        """Take a place.

        Args:
            min_age_s: A blob that nobody refers to stays this long after it was stored or asked for last.
        """
        self.place = place
        self.min_age_s = min_age_s
        self.counts = BlobCounts()
        self._store = store
        self._clock = clock
        self._slack_s = min(MOST_SLACK_S, min_age_s / 10)

    @property
    def sweep_before_unix_s(self) -> float:
        """What was touched before may be removed, if nobody refers to it."""
        return self._clock.unix_s() - self.min_age_s - self._slack_s

    def missing(self, digests: Collection[str]) -> list[str]:
        """Return which of these are not here, in their order; the others stay for the minimum age.

        Raises:
            StoreUnavailableError: Not known.
        """
        here: set[str] = set()
        old: list[str] = []
        since_s = self._clock.unix_s() - self._slack_s
        for some in _slices(digests):
            rows = self._store.fetch(
                sa.select(b.c.digest, b.c.touched_unix_s).where(b.c.digest.in_(some), ~b.c.damaged)
            )
            here.update(row.digest for row in rows if row.touched_unix_s >= since_s)
            old += [row.digest for row in rows if row.touched_unix_s < since_s]
        if old:
            with self._store.writing.transaction() as tx:
                here |= self._touch(tx, old)
        return [digest for digest in dict.fromkeys(digests) if digest not in here]

    def hold(self, tx: Transaction, digests: Collection[str]) -> list[str]:
        """Keep blobs from being removed before this transaction commits; return those that are not here.

        To be called by everybody who is about to store a row that refers to them, in the same transaction:
        where it returns any, the row must not be stored.
        """
        here = self._touch(tx, digests)
        return [digest for digest in dict.fromkeys(digests) if digest not in here]

    def md5s(self, digests: Collection[str]) -> dict[str, str]:
        """Return the MD5, base64, of those of these that are here."""
        found: dict[str, str] = {}
        for some in _slices(digests):
            rows = self._store.fetch(sa.select(b.c.digest, b.c.md5).where(b.c.digest.in_(some)))
            found |= {row.digest: row.md5 for row in rows}
        return found

    def size(self, digest: str) -> int | None:
        """Return the bytes of a blob, None where it is not here."""
        row = self._row(digest)
        return None if row is None or row.damaged else int(row.size)

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading; the caller closes it.

        Raises:
            BlobMissingError: It is not here, or damaged.
            BlobUnavailableError, OSError: It can't be read now.
        """
        row = self._row(digest)
        if row is None or row.damaged:
            raise BlobMissingError(digest, is_damaged=row is not None)
        try:
            return self.place.open(row.object)
        except FileNotFoundError as error:
            self.mark_damaged(digest, row.object, "its object is gone")
            raise BlobMissingError(digest, is_damaged=True) from error

    def read_many(self, digests: Sequence[str], *, limit_bytes: int) -> list[tuple[str, bytes]]:
        """Return the first of these blobs, as many as fit into the limit.

        What is not here, or is larger than the limit alone, is left out and counts as nothing.

        Raises:
            BlobUnavailableError, OSError, StoreUnavailableError: Not now.
        """
        rows: dict[str, Any] = {}
        for some in _slices(digests):
            chosen = sa.select(b.c.digest, b.c.object, b.c.size).where(b.c.digest.in_(some), ~b.c.damaged)
            rows |= {row.digest: row for row in self._store.fetch(chosen)}
        wanted: list[Any] = []
        total = 0
        for row in (rows[digest] for digest in dict.fromkeys(digests) if digest in rows):
            if row.size > limit_bytes:
                continue
            total += row.size
            if total > limit_bytes:
                break
            wanted.append(row)
        if len(wanted) < _READERS:
            found = [self._read(row) for row in wanted]
        else:  # an object store takes its time for each
            with ThreadPoolExecutor(_READERS) as readers:
                found = list(readers.map(self._read, wanted))
        return [(row.digest, data) for row, data in zip(wanted, found, strict=True) if data is not None]

    def _read(self, row: Any) -> bytes | None:
        try:
            with self.place.open(row.object) as file:
                return file.read()
        except FileNotFoundError:
            self.mark_damaged(row.digest, row.object, "its object is gone")
            return None

    def put(self, data: bytes) -> str:
        """Keep bytes that were made here; return their digest.

        Raises:
            BlobUnavailableError, OSError, StoreUnavailableError: Not kept; doing it again is safe.
        """
        digest = hashlib.sha256(data).hexdigest()
        self.put_many([(digest, data)])
        return digest

    def put_many(self, pieces: Sequence[tuple[str, bytes]]) -> int:
        """Keep small blobs (digest, bytes) whose digests were checked; return how many were new."""
        wanted = dict(pieces)
        new = {digest: (new_object_name(digest), wanted[digest]) for digest in self.missing(wanted)}
        if new:
            self.place.take_many(list(new.values()))
            self._keep({digest: (name, len(data), md5_of(data)) for digest, (name, data) in new.items()})
        return len(new)

    def adopt(self, digest: str, size: int, source: Path, md5: str) -> None:
        """Keep a file of the place's `incoming` whose digest was checked, with its MD5. The file goes.

        Raises:
            BlobUnavailableError, OSError, StoreUnavailableError: Not kept; doing it again is safe.
        """
        if self.missing([digest]):
            name = new_object_name(digest)
            self.place.take(source, name)
            self._keep({digest: (name, size, md5)})
        source.unlink(missing_ok=True)

    def mark_damaged(self, digest: str, object_name: str, why: str) -> None:
        """Tell a blob as missing from now on; whoever has the content may store it anew."""
        with self._store.writing.transaction() as tx:
            marked = tx.connection.execute(
                sa.update(b).where(b.c.digest == digest, b.c.object == object_name).values(damaged=True)
            ).rowcount
        if marked:  # else it was removed, or stored anew, since it was looked at
            self.counts.add(damaged=1)
            logger.error("a blob is damaged", extra={"event": "blob_damaged", "digest": digest, "why": why})

    def _keep(self, new: dict[str, tuple[str, int, str]]) -> None:
        """Write the rows of objects (name, size, MD5) that are in place; remove those that came second."""
        now_s = self._clock.unix_s()
        rows = [
            {
                "digest": digest,
                "object": name,
                "size": size,
                "md5": md5,
                "touched_unix_s": now_s,
                "checked_unix_s": now_s,
                "hashed_unix_s": now_s,
                "damaged": False,
            }
            for digest, (name, size, md5) in new.items()
        ]
        unneeded = []
        with self._store.writing.transaction() as tx:
            tx.insert_new(b, rows)
            for some in _slices(new):
                statement = sa.select(b.c.digest, b.c.object, b.c.damaged).where(b.c.digest.in_(some))
                for found in tx.connection.execute(statement.with_for_update()).all():
                    ours, size, _ = new[found.digest]
                    if found.object == ours:
                        continue
                    unneeded.append(found.object if found.damaged else ours)
                    values: dict[str, Any] = {"touched_unix_s": now_s}
                    if found.damaged:
                        values |= {"object": ours, "size": size, "damaged": False}
                        values |= {"checked_unix_s": now_s, "hashed_unix_s": now_s}
                    tx.connection.execute(sa.update(b).where(b.c.digest == found.digest).values(values))
        failpoints.hit("blobs.after_row")
        kept = [digest for digest, (name, *_) in new.items() if name not in unneeded]
        self.counts.add(stored=len(kept), stored_bytes=sum(new[digest][1] for digest in kept))
        self.place.remove(unneeded)

    def _touch(self, tx: Transaction, digests: Collection[str]) -> set[str]:
        """Put removal off; return those that are here."""
        here: set[str] = set()
        for some in _slices(digests):
            here |= set(
                tx.connection.execute(
                    sa.update(b)
                    .where(b.c.digest.in_(some), ~b.c.damaged)
                    .values(touched_unix_s=self._clock.unix_s())
                    .returning(b.c.digest)
                ).scalars()
            )
        return here

    def _row(self, digest: str) -> Any:
        if not is_digest(digest):
            return None
        rows = self._store.fetch(sa.select(b.c.object, b.c.size, b.c.damaged).where(b.c.digest == digest))
        return rows[0] if rows else None


def _slices(digests: Collection[str]) -> Iterator[list[str]]:
    """Return the digests in pieces that a statement takes, in order, as two transactions may lock both."""
    return in_slices(sorted(digest for digest in set(digests) if is_digest(digest)))
