"""The rows of one lane in a window of steps: one row a step, as its calls left it, columns of all keys.

In: stored blocks of the lane's writers. Out: `LaneRows`, in run steps; and many lanes reduced to one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold.protocol.keypath import KeyPath, decode_path
from runfold_coordinator.aggregate.align import align, find
from runfold_coordinator.aggregate.column import EMPTY, Axis, Column, Ints
from runfold_coordinator.aggregate.merge import merge_cells, merge_columns, newest_places
from runfold_coordinator.aggregate.reduce import reduce_columns
from runfold_coordinator.run_lanes import Lane, RunLanes, Seat, in_run_steps
from runfold_coordinator.store.model import Block
from runfold_coordinator.store.store import Store

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


def read_lane(
    store: Store,
    run_pk: int,
    lane: Lane,
    *,
    low: int | None = None,
    high: int | None = None,
    keys: Collection[str] | None = None,
) -> LaneRows:
    """Return the lane's rows with low <= run step < high; None means open. `keys`: only these columns."""
    merged = []
    for seat in lane.seats:
        offset, cut = seat.placement.step_offset, seat.placement.cut_step
        end = high if cut is None else cut if high is None else min(high, cut)
        if end is not None and low is not None and end <= low:
            continue
        blocks = store.read_blocks(
            run_pk,
            seat.writer.writer_pk,
            step_min=None if low is None else low - offset,
            step_max=None if end is None else end - 1 - offset,
        )
        merged.append(merge_blocks(list(blocks), seat, keys))
    return join_attempts(merged)


def merge_blocks(blocks: Sequence[Block], seat: Seat, keys: Collection[str] | None = None) -> LaneRows:
    """Merge one writer's blocks, in any order, into its rows by step."""
    if not blocks:
        return NO_ROWS
    seq = np.concatenate([block.seq for block in blocks])
    step = np.concatenate([block.step for block in blocks])
    newest = newest_places(step, seq)
    rows = Column(step[newest], "q", np.concatenate([block.t_ns for block in blocks])[newest].view(np.int64))
    pieces: dict[str, list[Pieces]] = {}
    for block in blocks:
        for key in block.columns if keys is None else block.columns.keys() & keys:
            for column in block.columns[key]:
                pieces.setdefault(key, []).append(
                    Pieces(
                        _pick(block.seq, column.rows),
                        _pick(block.step, column.rows),
                        column.kind,
                        column.values,
                    )
                )
    columns = {key: in_run_steps(merge_cells(found), seat) for key, found in pieces.items()}
    for above, below in conflicts(pieces):
        _settle(columns, pieces, above, below, seat)
    rows = in_run_steps(rows, seat)
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


def reduce_lanes(lanes: RunLanes, parts: Sequence[LaneRows], keys: Collection[str] | None = None) -> LaneRows:
    """Reduce the lanes' rows to one row a step.

    Args:
        parts: One per lane. Columns of weight metrics have to be there too.
        keys: The columns wanted; None for all.
    """
    if len(parts) == 1:
        return parts[0]
    step, places = align([part.step for part in parts])
    t_ns = np.zeros(len(step), np.uint64)
    for part, place in zip(parts, places, strict=True):
        t_ns[place] = np.maximum(t_ns[place], part.t_ns)
    names = keys if keys is not None else sorted({key for part in parts for key in part.columns})
    columns = {}
    for key in names:
        by_lane = [part.column(key) for part in parts]
        weight = lanes.weight_key(key)
        weights = None if weight is None else [part.column(weight) for part in parts]
        reduced = reduce_columns(by_lane, lanes.reduction(key, weights))
        if len(reduced):
            columns[key] = reduced
    return LaneRows(step, t_ns, columns)


def nest_rows(rows: LaneRows, keys: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return the cells of each row as nested dicts, as they were logged; rows without cells are empty
    dicts.
    """
    nested: list[dict[str, Any]] = [{} for _ in range(len(rows.step))]
    names = sorted(rows.columns if keys is None else keys & rows.columns.keys(), key=decode_path)
    for key in names:
        column, path = rows.columns[key], decode_path(key)
        places, _ = find(rows.step, column.step)
        if len(path) == 1:
            for place, value in zip(places.tolist(), column.objects(), strict=True):
                nested[place][path[0]] = value
            continue
        for place, value in zip(places.tolist(), column.objects(), strict=True):
            put(nested[place], path, value)
    return nested


def put(row: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set a value in nested dicts; a plain value that stands in the way gives way."""
    for part in path[:-1]:
        below = row.get(part)
        if not isinstance(below, dict):
            below = row[part] = {}
        row = below
    row[path[-1]] = value


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
    columns: dict[str, Column], pieces: Mapping[str, list[Pieces]], above: str, below: str, seat: Seat
) -> None:
    """Where a step has both keys, drop the one that was said first."""
    said = {
        key: in_run_steps(
            merge_cells([Pieces(p.seq, p.step, "q", p.seq.view(np.int64)) for p in pieces[key]]), seat
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


def places_in(steps: Axis, wanted: Axis) -> Ints:
    """Return the places in `steps` of those wanted steps that are there."""
    place, is_there = find(steps, wanted)
    return place[is_there]
