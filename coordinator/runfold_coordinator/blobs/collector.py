"""Removes blobs that nobody refers to: marks what is referred to, sweeps the rest that lay untouched.

What is stored or asked for while it marks is young, and so never swept; the last look at that is in the
transaction that deletes the row. The objects go after their rows.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Rows looked at in one read.
PAGE = 5000
#: Rows removed in one transaction.
REMOVE_AT_ONCE = 500

Roots = Callable[[], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass removed."""

    count: int = 0
    byte_count: int = 0


class Collector:
    """Marks and sweeps. One pass at a time."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        self._roots: list[Roots] = []

    def add_roots(self, roots: Roots) -> None:
        """Let `roots` say, in each pass, the digests that are referred to; repeats are fine.

        It may read page by page: whoever stores a reference meanwhile holds the blob (see Blobs.hold).
        """
        self._roots.append(roots)

    def collect(self, stop: Callable[[], bool] = lambda: False) -> Swept:
        """Do one pass. Without roots nothing is known of what is referred to, so nothing is removed.

        Raises:
            StoreUnavailableError, BlobUnavailableError, OSError: Not now; what was removed is removed.
        """
        # Between two transactions: a blob that one has held by now is referred to where the marks are read.
        # (Those of another process are protected by the minimum age, which no transaction takes.)
        with self._store.writing.transaction():
            before_unix_s = self._blobs.sweep_before_unix_s
        page = self._candidates("", before_unix_s)
        if not page or not self._roots:
            return Swept()
        marked = self._mark()
        count = byte_count = 0
        while page and not stop():
            doomed = [
                row.digest for row, is_live in zip(page, _are_in(marked, page), strict=True) if not is_live
            ]
            for at in range(0, len(doomed), REMOVE_AT_ONCE):
                removed = self._remove(doomed[at : at + REMOVE_AT_ONCE], before_unix_s)
                count += len(removed)
                byte_count += sum(row.size for row in removed)
            page = self._candidates(page[-1].digest, before_unix_s)
        if count:
            logger.info(
                "blobs that nobody refers to are removed",
                extra={"event": "blobs_swept", "count": count, "bytes": byte_count},
            )
        return Swept(count, byte_count)

    def _candidates(self, after: str, before_unix_s: float) -> Sequence[Any]:
        return self._store.fetch(
            sa.select(b.c.digest)
            .where(b.c.digest > after, b.c.touched_unix_s < before_unix_s)
            .order_by(b.c.digest)
            .limit(PAGE)
        )

    def _mark(self) -> npt.NDArray[np.uint64]:
        """Return what is referred to, 8 bytes a digest, sorted; one that shares them with another stays."""
        found = array("Q")
        for roots in self._roots:
            for digest in roots():
                found.append(_short(digest))
        return np.unique(np.frombuffer(found, dtype=np.uint64))

    def _remove(self, digests: Sequence[str], before_unix_s: float) -> Sequence[Any]:
        with self._store.writing.transaction() as tx:
            removed = tx.connection.execute(
                sa.delete(b)
                .where(b.c.digest.in_(digests), b.c.touched_unix_s < before_unix_s)
                .returning(b.c.object, b.c.size)
            ).all()
        failpoints.hit("blobs.after_sweep_rows")
        self._blobs.place.remove([row.object for row in removed])
        return removed


def _short(digest: str) -> int:
    return int(digest[:16], 16)


def _are_in(marked: npt.NDArray[np.uint64], page: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is among the sorted marks."""
    asked = np.array([_short(row.digest) for row in page], dtype=np.uint64)
    at = np.searchsorted(marked, asked)
    found: npt.NDArray[np.bool_] = np.zeros(len(asked), dtype=np.bool_)
    inside = at < len(marked)
    found[inside] = marked[at[inside]] == asked[inside]
    return found
