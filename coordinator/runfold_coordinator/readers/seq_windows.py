"""One writer's stored rows in the order of seq, in windows of bounded size, though stored pieces interleave.

In: `Store.read_blocks`. Out: windows of blocks; every row up to the window's last seq is in it or in one
before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.column import Ints
from runfold_coordinator.aggregate.merge import is_increasing
from runfold_coordinator.store.model import INSERTED, Block, Column


def windows_by_seq(blocks: Iterable[Block], max_cells: int) -> Iterator[list[Block]]:
    """Yield windows of about `max_cells` cells.

    Args:
        blocks: In order of their first seq.
    """
    held: list[Block] = []
    cells = 0
    for block in blocks:
        if cells >= max_cells:
            bound = int(block.seq[0])
            if before := cut_blocks(held, None, bound):
                yield before
            held = cut_blocks(held, bound, None)
            cells = sum(map(count_cells, held))
        held.append(block)
        cells += count_cells(block)
    if held:
        yield held


def count_cells(block: Block) -> int:
    """Return how many values a block holds, its rows' own columns included."""
    return 3 * len(block.seq) + sum(len(c.values) for columns in block.columns.values() for c in columns)


def cut_block(block: Block, low: int | None, high: int | None) -> Block | None:
    """Return the rows with low <= seq < high; None when there are none."""
    start = 0 if low is None else int(np.searchsorted(block.seq, low))
    stop = len(block.seq) if high is None else int(np.searchsorted(block.seq, high))
    if start >= stop:
        return None
    if start == 0 and stop == len(block.seq):
        return block
    columns: dict[str, list[Column]] = {}
    for key, found in block.columns.items():
        cut = [c for column in found if (c := _cut_column(column, start, stop)) is not None]
        if cut:
            columns[key] = cut
    rows = slice(start, stop)
    return Block(
        block.writer_pk, block.seq[rows], block.step[rows], block.t_ns[rows], block.flags[rows], columns
    )


def cut_blocks(blocks: Sequence[Block], low: int | None, high: int | None) -> list[Block]:
    """Cut each block; empty ones are left out."""
    return [cut for block in blocks if (cut := cut_block(block, low, high)) is not None]


def keep_rows(block: Block, kept: NDArray[np.bool_]) -> Block:
    """Return the rows of a mask."""
    at = np.flatnonzero(kept)
    place = np.cumsum(kept) - 1
    columns: dict[str, list[Column]] = {}
    for key, found in block.columns.items():
        for column in found:
            rows = np.arange(len(kept)) if column.rows is None else column.rows
            inside = np.flatnonzero(kept[rows])
            values = column.values
            picked = [values[i] for i in inside] if isinstance(values, list) else values[inside]
            if len(inside):
                new_rows = place[rows[inside]].astype(np.uint32)
                columns.setdefault(key, []).append(Column(column.kind, picked, new_rows))
    return Block(block.writer_pk, block.seq[at], block.step[at], block.t_ns[at], block.flags[at], columns)


def calls_of(blocks: Sequence[Block]) -> tuple[Ints, Ints, NDArray[np.uint8]]:
    """Return seq, step and flags of the calls in blocks, ascending in seq; inserted cells are no calls."""
    seq = np.concatenate([block.seq for block in blocks]).view(np.int64)
    step = np.concatenate([block.step for block in blocks])
    flags = np.concatenate([block.flags for block in blocks])
    is_call = flags & INSERTED == 0
    if not is_call.all():
        seq, step, flags = seq[is_call], step[is_call], flags[is_call]
    if not is_increasing(seq):
        order = np.argsort(seq, kind="stable")
        seq, step, flags = seq[order], step[order], flags[order]
    return seq, step, flags


def logged_steps(blocks: Sequence[Block]) -> dict[str, Ints]:
    """Return, for keys that have inserted cells here, the steps at which a call logged them, ascending."""
    found: dict[str, list[Ints]] = {}
    for block in blocks:
        if (block.flags & INSERTED).any():
            found.update({key: [] for key in inserted_keys(block)})
    for block in blocks if found else ():
        is_call = block.flags & INSERTED == 0
        for key in block.columns.keys() & found.keys():
            for column in block.columns[key]:
                rows = slice(None) if column.rows is None else column.rows
                found[key].append(block.step[rows][is_call[rows]])
    return {key: np.unique(np.concatenate(steps or [np.empty(0, np.int64)])) for key, steps in found.items()}


def inserted_keys(block: Block) -> list[str]:
    """Return the keys of which some cells were inserted."""
    is_inserted = block.flags & INSERTED != 0
    return [
        key
        for key, columns in block.columns.items()
        if any(is_inserted[slice(None) if column.rows is None else column.rows].any() for column in columns)
    ]


def _cut_column(column: Column, start: int, stop: int) -> Column | None:
    if column.rows is None:
        return Column(column.kind, _slice(column.values, start, stop), None)
    first, last = (int(place) for place in np.searchsorted(column.rows, [start, stop]))
    if first == last:
        return None
    return Column(column.kind, _slice(column.values, first, last), column.rows[first:last] - np.uint32(start))


def _slice(values: Any, start: int, stop: int) -> Any:
    return values[start:stop]
