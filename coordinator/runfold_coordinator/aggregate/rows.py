"""The rows of one lane as columns: one row a step, as the calls of its writers left it.

In: stored blocks of a writer, in any order. Out: `LaneRows`, in run steps. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold.protocol.keypath import decode_path
from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.aggregate.column import EMPTY, Axis, Column
from runfold_coordinator.aggregate.merge import merge_cells, merge_columns, newest_places
from runfold_coordinator.store.model import Block

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Cells of one key of one block; what merge_cells() takes."""

    seq: U64
    step: Axis
    kind: Any
    values: Any


@dataclass(frozen=True, slots=True)
class LaneRows:
    """Rows by step: `step` (n,) strictly increasing, `t_ns` (n,) of the last call of each, columns by key."""

    step: Axis
    t_ns: U64
    columns: dict[str, Column]

    def column(self, key: str) -> Column:
        """Return the column of a key; an empty one where the lane has none."""
        return self.columns.get(key, EMPTY)


NO_ROWS = LaneRows(np.empty(0, np.int64), np.empty(0, np.uint64), {})


def merge_blocks(blocks: Sequence[Block], placement: Placement) -> LaneRows:
    """Merge one writer's blocks, in any order, into its rows by step."""
    if not blocks:
        return NO_ROWS
    seq = np.concatenate([block.seq for block in blocks])
    step = np.concatenate([block.step for block in blocks])
    newest = newest_places(step, seq)
    rows = Column(step[newest], "q", np.concatenate([block.t_ns for block in blocks])[newest].view(np.int64))
    pieces: dict[str, list[Pieces]] = {}
    for block in blocks:
        for key, found in block.columns.items():
            for column in found:
                pieces.setdefault(key, []).append(
                    Pieces(
                        _pick(block.seq, column.rows),
                        _pick(block.step, column.rows),
                        column.kind,
                        column.values,
                    )
                )
    columns = {key: in_run_steps(merge_cells(cells), placement) for key, cells in pieces.items()}
    for above, below in conflicts(pieces):
        _settle(columns, pieces, above, below, placement)
    rows = in_run_steps(rows, placement)
    return LaneRows(rows.step, np.asarray(rows.values).view(np.uint64), columns)


def join_attempts(parts: Sequence[LaneRows]) -> LaneRows:
    """Join the rows of a lane's writers, oldest attempt first; the later attempt wins a step's cells."""
    parts = [part for part in parts if len(part.step)]
    if len(parts) <= 1:
        return parts[0] if parts else NO_ROWS
    times = merge_columns([Column(part.step, "q", part.t_ns.view(np.int64)) for part in parts])
    keys = dict.fromkeys(key for part in parts for key in part.columns)
    columns = {key: merge_columns([part.column(key) for part in parts]) for key in keys}
    return LaneRows(times.step, np.asarray(times.values).view(np.uint64), columns)


def in_run_steps(column: Column, placement: Placement) -> Column:
    """Return a writer's column in run steps, without its superseded rows."""
    if placement.step_offset:
        column = Column(column.step + np.int64(placement.step_offset), column.kind, column.values)
    return column.between(None, placement.cut_step)


def conflicts(keys: Collection[str]) -> list[tuple[str, str]]:
    """Return pairs of keys of which one lies below the other: ("a", "a.b"). Of both in one row the later
    stays.
    """
    if all("." not in key for key in keys):
        return []
    by_path = {decode_path(key): key for key in keys}
    pairs = []
    for path, key in by_path.items():
        for size in range(1, len(path)):
            above = by_path.get(path[:size])
            if above is not None:
                pairs.append((above, key))
    return pairs


def _settle(
    columns: dict[str, Column],
    pieces: Mapping[str, list[Pieces]],
    above: str,
    below: str,
    placement: Placement,
) -> None:
    """Where a step has both keys, drop the one that was said first."""
    said = {
        key: in_run_steps(
            merge_cells([Pieces(p.seq, p.step, "q", p.seq.view(np.int64)) for p in pieces[key]]), placement
        )
        for key in (above, below)
    }
    place, is_shared = find(said[above].step, said[below].step)
    steps = said[below].step[is_shared]
    above_seq = np.asarray(said[above].values)[place[is_shared]]
    below_seq = np.asarray(said[below].values)[is_shared]
    for key, lost in ((above, steps[above_seq < below_seq]), (below, steps[above_seq > below_seq])):
        _, is_lost = find(lost, columns[key].step)
        columns[key] = columns[key].take(np.flatnonzero(~is_lost))


def _pick(array: NDArray[Any], rows: NDArray[Any] | None) -> NDArray[Any]:
    return array if rows is None else array[rows]
