"""A window of a run's reduced history as columns, with the statistics over its lanes if wanted.

In: lanes, keys and bounds in run steps. Out: `Window`; windows can be cut, sampled and joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from runfold_coordinator.aggregate.align import align, find
from runfold_coordinator.aggregate.column import Axis, Column, Floats, Ints, numbers
from runfold_coordinator.aggregate.downsample import choose_rows
from runfold_coordinator.aggregate.merge import merge_columns
from runfold_coordinator.aggregate.reduce import Reduced, reduce_with_stats
from runfold_coordinator.aggregate.rows import U64, LaneRows
from runfold_coordinator.aggregate.stats import Stats
from runfold_coordinator.readers.lane_columns import read_lane_columns
from runfold_coordinator.readers.lane_rows import read_lane
from runfold_coordinator.readers.run_lanes import RunLanes
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class Window:
    """Reduced rows by step.

    Attributes:
        step: (n,) strictly increasing.
        t_ns: (n,) of the last call of each row; None where it was not read.
        columns: By key; steps that a column lacks are rows without it.
        stats: By numeric key, over the lanes; empty unless asked for.
    """

    step: Axis
    t_ns: U64 | None
    columns: dict[str, Column]
    stats: dict[str, Reduced]

    def with_all(self, keys: Sequence[str]) -> Window:
        """Return the rows that have every one of `keys`."""
        kept = np.ones(len(self.step), np.bool_)
        for key in keys:
            if key not in self.columns:
                return self.take(np.empty(0, np.int64))
            kept &= find(self.columns[key].step, self.step)[1]
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def take(self, places: Ints) -> Window:
        """Return the rows at ascending places."""
        step = self.step[places]
        columns, stats = {}, {}
        for key, column in self.columns.items():
            columns[key] = column.take(np.flatnonzero(find(step, column.step)[1]))
        for key, reduced in self.stats.items():
            stats[key] = take_reduced(reduced, np.flatnonzero(find(step, reduced.x)[1]))
        return Window(step, None if self.t_ns is None else self.t_ns[places], columns, stats)

    def sample(self, samples: int) -> Window:
        """Return at most `samples` rows; extremes of each key, and of its lanes where known, are kept."""
        if len(self.step) <= samples:
            return self
        drawn: list[tuple[Ints, Floats]] = []
        for key, column in self.columns.items():
            step, value = numbers(column)
            drawn.append((find(self.step, step)[0], value))
            if key in self.stats:
                places = find(self.step, self.stats[key].x)[0]
                drawn += [(places, self.stats[key].stats.min), (places, self.stats[key].stats.max)]
        return self.take(choose_rows(self.step, drawn, samples))


def read_window(
    store: Store,
    lanes: RunLanes,
    keys: Sequence[str] | None,
    *,
    low: int | None = None,
    high: int | None = None,
    times: bool = False,
    stats: bool = False,
) -> Window:
    """Read and reduce the rows with low <= step < high.

    Args:
        keys: None for all, and then rows without any key count too.
        times: Read `t_ns` too; costs more, as whole rows are read.
    """
    by_lane: dict[str, list[Column]] = {}
    weights: dict[str, list[Column]] = {}
    rows: list[LaneRows] = []
    if times or keys is None:
        rows = [read_lane(store, lane, low=low, high=high) for lane in lanes.lanes]
        found = keys if keys is not None else sorted({key for part in rows for key in part.columns})
        for key in found:
            by_lane[key] = [part.column(key) for part in rows]
            if (weight := lanes.weight_key(key)) is not None:
                weights[key] = [part.column(weight) for part in rows]
    else:
        for key in keys:
            by_lane[key] = read_lane_columns(store, lanes, key, low=low, high=high)
            if (weight := lanes.weight_key(key)) is not None:
                weights[key] = read_lane_columns(store, lanes, weight, low=low, high=high)
    columns, described = {}, {}
    for key, lane_columns in by_lane.items():
        column, reduced = reduce_with_stats(lane_columns, lanes.reduction(key, weights.get(key)), stats=stats)
        columns[key] = column
        if reduced is not None:
            described[key] = reduced
    if not rows:
        return Window(align([column.step for column in columns.values()])[0], None, columns, described)
    step, places = align([part.step for part in rows])
    t_ns = np.zeros(len(step), np.uint64)
    for part, place in zip(rows, places, strict=True):
        t_ns[place] = np.maximum(t_ns[place], part.t_ns)
    return Window(step, t_ns, columns, described)


def join_windows(parts: Sequence[Window]) -> Window:
    """Join windows that follow each other in steps."""
    if len(parts) == 1:
        return parts[0]
    parts = [part for part in parts if len(part.step)] or list(parts[:1])
    columns = {
        key: merge_columns([part.columns[key] for part in parts if key in part.columns])
        for key in dict.fromkeys(key for part in parts for key in part.columns)
    }
    stats = {
        key: join_reduced([part.stats[key] for part in parts if key in part.stats])
        for key in dict.fromkeys(key for part in parts for key in part.stats)
    }
    times = [part.t_ns for part in parts if part.t_ns is not None]
    step = np.concatenate([part.step for part in parts])
    return Window(step, np.concatenate(times) if len(times) == len(parts) else None, columns, stats)


def take_reduced(reduced: Reduced, places: Ints) -> Reduced:
    """Return the points at `places`."""
    stats = Stats(*(getattr(reduced.stats, field.name)[places] for field in fields(Stats)))
    return Reduced(reduced.x[places], reduced.value[places], stats)


def join_reduced(parts: Sequence[Reduced]) -> Reduced:
    """Join points that follow each other in x."""
    if len(parts) == 1:
        return parts[0]
    stats = Stats(
        *(np.concatenate([getattr(part.stats, field.name) for part in parts]) for field in fields(Stats))
    )
    return Reduced(
        np.concatenate([part.x for part in parts]), np.concatenate([part.value for part in parts]), stats
    )
