"""Decoded rollups of chunks that were charted lately: a chunk never changes, and charts are read again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from runfold_coordinator.store.model import ColumnKind
from runfold_coordinator.store.rollups import Arrays

#: Of arrays; a metric of 10 M rows has about 4 MB.
MAX_BYTES = 32 * 1024 * 1024
#: What an entry costs beside its arrays' bytes: it has 14 of them.
ENTRY_BYTES = 14 * 150

Pieces = list[tuple[ColumnKind, Arrays]]


class RollupCache:
    """By chunk and key, the least recently used are dropped. Thread-safe."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, int], tuple[Pieces, int]] = OrderedDict()
        self.byte_count = 0

    def get(self, chunk_pk: int, key_pk: int) -> Pieces | None:
        """Return what put() was given; None when it is not there (any more)."""
        with self._lock:
            entry = self._entries.get((chunk_pk, key_pk))
            if entry is None:
                return None
            self._entries.move_to_end((chunk_pk, key_pk))
            return entry[0]

    def put(self, chunk_pk: int, key_pk: int, pieces: Pieces) -> Pieces:
        """Keep decoded rollups, which nobody may change any more; return what is kept."""
        # Views would keep alive the parts that they are cut from, other keys' rollups included.
        pieces = [
            (kind, {name: array if array.base is None else array.copy() for name, array in arrays.items()})
            for kind, arrays in pieces
        ]
        size = ENTRY_BYTES + sum(array.nbytes for _, arrays in pieces for array in arrays.values())
        with self._lock:
            if (chunk_pk, key_pk) in self._entries or size > self._max_bytes // 8:
                return pieces
            self._entries[chunk_pk, key_pk] = (pieces, size)
            self.byte_count += size
            while self.byte_count > self._max_bytes:
                _, (_, dropped) = self._entries.popitem(last=False)
                self.byte_count -= dropped
        return pieces
