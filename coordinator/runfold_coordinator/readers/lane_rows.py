"""Rows of a run's lanes in a window of steps, read from the store; lanes reduced to one; rows as dicts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from runfold.protocol.keypath import KeyPath, decode_path
from runfold_coordinator.aggregate.align import align, find
from runfold_coordinator.aggregate.reduce import reduce_columns
from runfold_coordinator.aggregate.rows import LaneRows, join_attempts, merge_blocks
from runfold_coordinator.readers.run_lanes import Lane, RunLanes
from runfold_coordinator.store.store import Store


def read_lane(
    store: Store,
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
            seat.writer.run_pk,
            seat.writer.writer_pk,
            step_min=None if low is None else low - offset,
            step_max=None if end is None else end - 1 - offset,
            keys=keys,
        )
        merged.append(merge_blocks(list(blocks), seat.placement))
    return join_attempts(merged)


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
