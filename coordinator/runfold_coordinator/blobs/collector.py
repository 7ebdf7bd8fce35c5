"""Removes blobs that nobody refers to: marks what is referred to, sweeps the rest that lay untouched.

What is stored or asked for while it marks is young, and so never swept; the last look at that is in the
transaction that deletes the row. The objects go after their rows.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
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

#: The first eight bytes of digests, as numbers.
Numbers = npt.NDArray[np.uint64]
Roots = Callable[[], Iterator[str]]
RootNumbers = Callable[[], Iterator[Numbers]]
#: Marks that are gathered before they are sorted in, at least.
GATHERED = 2_000_000


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
        self._roots: list[RootNumbers] = []

    def add_roots(self, roots: Roots) -> None:
        """Let `roots` say, in each pass, the digests that are referred to; repeats are fine.

        It may read page by page: whoever stores a reference meanwhile holds the blob (see Blobs.hold).
        """
        self._roots.append(lambda: _by_piece(roots()))

    def add_root_numbers(self, roots: RootNumbers) -> None:
        """Let `roots` say the same as numbers (see `numbers_of`), each piece in ascending order."""
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
        marked = self._mark(stop)
        if marked is None:
            return Swept()
        count = byte_count = 0
        while page and not stop():
            # Candidates come by digest, so their numbers are in order.
            asked = np.fromiter((int(row.digest[:16], 16) for row in page), dtype=np.uint64)
            are_live = _are_in(marked, asked)
            doomed = [row.digest for row, is_live in zip(page, are_live, strict=True) if not is_live]
            for at in range(0, len(doomed), REMOVE_AT_ONCE):
                removed = self._remove(doomed[at : at + REMOVE_AT_ONCE], before_unix_s)
                count += len(removed)
                byte_count += sum(row.size for row in removed)
                self._blobs.counts.add(removed=len(removed), removed_bytes=sum(row.size for row in removed))
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

    def _mark(self, stop: Callable[[], bool]) -> Numbers | None:
        """Return what is referred to, sorted; one that shares its first bytes with another stays.

        None where it was stopped: not all of it is known.
        """
        marks = Marks()
        for roots in self._roots:
            for numbers in roots():
                if stop():
                    return None
                marks.add(numbers)
        return marks.sorted()

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


class Marks:
    """A set of numbers: eight bytes for each, however often it comes, and some more while they are added."""

    def __init__(self, gathered: int = GATHERED) -> None:
        self._gathered = gathered
        self._sorted: Numbers = np.empty(0, dtype=np.uint64)
        self._waiting: list[Numbers] = []
        self._waiting_count = 0

    def add(self, numbers: Numbers) -> None:
        """Add numbers in ascending order."""
        new = numbers[~_are_in(self._sorted, numbers)]  # versions share most of their files
        if len(new):
            self._waiting.append(new)
            self._waiting_count += len(new)
        if self._waiting_count > max(self._gathered, len(self._sorted) // 4):
            self.sorted()

    def sorted(self) -> Numbers:
        """Return all of them."""
        if self._waiting:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._waiting]))
            self._waiting, self._waiting_count = [], 0
        return self._sorted


def numbers_of(digests: Iterable[str]) -> Numbers:
    """Return the numbers of digests, each once, in ascending order."""
    return np.unique(np.fromiter((int(digest[:16], 16) for digest in digests), dtype=np.uint64))


def _by_piece(digests: Iterable[str]) -> Iterator[Numbers]:
    """Yield their numbers, some thousands at a time."""
    rest = iter(digests)
    while len(piece := numbers_of(itertools.islice(rest, PAGE))):
        yield piece


def _are_in(marked: Numbers, asked: Numbers) -> npt.NDArray[np.bool_]:
    """Return for each number whether it is among the sorted marks."""
    at = np.searchsorted(marked, asked)
    found: npt.NDArray[np.bool_] = np.zeros(len(asked), dtype=np.bool_)
    inside = at < len(marked)
    found[inside] = marked[at[inside]] == asked[inside]
    return found
