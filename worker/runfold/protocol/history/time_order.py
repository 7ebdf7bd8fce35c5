"""TimeOrder: what several writers said, in one order, that of their wall clock. Pure.

In: pieces of each writer in its own order. Out: the same pieces, cut where another writer spoke, with seqs of
the one order.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from runfold.protocol.history.seq_order import BlockSlice
from runfold.protocol.records import Record

Piece = BlockSlice | Record


class TimeOrder:
    """Merges writers on one machine. Not thread-safe.

    A writer's own order always stays, even where its clock was set back. At one moment the writer with the
    lower number comes first.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Piece]] = {}
        self._next_seq = 1

    def add(self, writer: int, pieces: Iterable[Piece]) -> None:
        """Take what a writer said next, in its order."""
        if listed := deque(pieces):
            self._waiting.setdefault(writer, deque()).extend(listed)

    def is_waiting(self, writer: int) -> bool:
        """Whether some of what this writer said has not been taken."""
        return writer in self._waiting

    def take(self) -> list[Piece]:
        """Return what comes next, up to where one writer is used up: its next may come before the others'."""
        taken: list[Piece] = []
        heads = [(_time_ns(pieces[0]), writer) for writer, pieces in self._waiting.items()]
        heapq.heapify(heads)
        while heads:
            writer = heads[0][1]
            pieces = self._waiting[writer]
            # The second smallest of a heap is one of the first one's children.
            limit_ns = min(heads[1:3])[0] if len(heads) > 1 else None
            piece, rest = _cut(pieces.popleft(), limit_ns)
            taken.append(self._numbered(piece))
            if rest is not None:
                pieces.appendleft(rest)
            if not pieces:
                del self._waiting[writer]
                break
            heapq.heapreplace(heads, (_time_ns(pieces[0]), writer))
        return taken

    def _numbered(self, piece: Piece) -> Piece:
        seq = self._next_seq
        if isinstance(piece, Record):
            self._next_seq += 1
            return replace(piece, seq=seq)
        self._next_seq += piece.stop - piece.start
        return BlockSlice(piece.block.numbered(piece.start, seq), piece.start, piece.stop)


def _time_ns(piece: Piece) -> int:
    return piece.block.t_ns[piece.start] if isinstance(piece, BlockSlice) else piece.t_ns


def _cut(piece: Piece, limit_ns: int | None) -> tuple[Piece, Piece | None]:
    """Return the rows before `limit_ns`, at least one, and the rest; a record is never cut."""
    if limit_ns is None or isinstance(piece, Record):
        return piece, None
    at = bisect_left(piece.block.t_ns, limit_ns, piece.start + 1, piece.stop)
    if at == piece.stop:
        return piece, None
    return BlockSlice(piece.block, piece.start, at), BlockSlice(piece.block, at, piece.stop)
