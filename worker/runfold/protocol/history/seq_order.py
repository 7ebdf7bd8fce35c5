"""Puts the parts of a batch back into the order in which they were said: blocks hold rows, others the rest.

In: RowBlocks and Records of one writer. Out: slices of blocks and records, by seq.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any

from runfold.protocol.blocks import RowBlock
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import Record

#: How memoryview names the 8-byte slots of each kind.
_VIEW = {"d": "d", "q": "q", "?": "q"}


class OpenBlock:
    """A block whose columns are open for reading by index."""

    __slots__ = ("columns", "flags", "kinds", "paths", "seqs", "steps", "t_ns")

    def __init__(self, block: RowBlock) -> None:
        self.paths = block.paths
        self.kinds = block.kinds
        self.seqs: Sequence[int] = (
            range(block.seqs, block.seqs + block.n) if isinstance(block.seqs, int) else _open(block.seqs, "Q")
        )
        self.steps: Sequence[int] = _open(block.steps, "q")
        self.t_ns: Sequence[int] = _open(block.t_ns, "Q")
        self.flags: Sequence[int] = (
            bytes([block.flags]) * block.n if isinstance(block.flags, int) else block.flags
        )
        self.columns: list[Sequence[Any]] = [
            _open(column, _VIEW[kind]) for column, kind in zip(block.columns, block.kinds, strict=True)
        ]

    def numbered(self, row: int, seq: int) -> OpenBlock:
        """Return the same rows with seqs of another order: `row` has `seq`, the next one the next."""
        other = copy(self)
        other.seqs = range(seq - row, seq - row + len(self.steps))
        return other

    def cells(self, row: int) -> list[tuple[KeyPath, Any]]:
        """Return the cells of one row, as logged."""
        return [
            (path, bool(column[row]) if kind == "?" else column[row])
            for path, kind, column in zip(self.paths, self.kinds, self.columns, strict=True)
        ]


class BlockSlice:
    """Rows start..stop-1 of a block: their seqs are contiguous and their flags equal."""

    __slots__ = ("block", "start", "stop")

    def __init__(self, block: OpenBlock, start: int, stop: int) -> None:
        self.block = block
        self.start = start
        self.stop = stop

    @property
    def seq(self) -> int:
        """Seq of the first row."""
        return self.block.seqs[self.start]


def in_seq_order(blocks: Iterable[RowBlock], others: Iterable[Record]) -> list[BlockSlice | Record]:
    """Return everything in seq order, rows in slices as long as possible."""
    items: list[BlockSlice | Record] = [piece for block in blocks for piece in _slices(OpenBlock(block))]
    items.extend(others)
    items.sort(key=_seq_of)
    return items


def _seq_of(item: BlockSlice | Record) -> int:
    return item.seq


def _slices(block: OpenBlock) -> Iterator[BlockSlice]:
    seqs, flags, start = block.seqs, block.flags, 0
    if isinstance(seqs, range) and flags.count(flags[0]) == len(seqs):
        yield BlockSlice(block, 0, len(seqs))
        return
    for row in range(1, len(seqs)):
        if seqs[row] != seqs[row - 1] + 1 or flags[row] != flags[row - 1]:
            yield BlockSlice(block, start, row)
            start = row
    yield BlockSlice(block, start, len(seqs))


def _open(data: bytes, format_: str) -> memoryview[Any]:
    return memoryview(data).cast(format_)  # type: ignore[call-overload,no-any-return]  # "d", "q" or "Q"
