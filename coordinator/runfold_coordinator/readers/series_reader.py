"""Sampled histories of a run, as tables of columns: for charts, and for `history()`.

In: a run, keys, a number of samples. Out: `Table`. The reduction is over all points; the sampling comes after
it and keeps extremes. Windows of steps bound what is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.column import Axis, Column, Ints
from runfold_coordinator.aggregate.merge import merge_columns
from runfold_coordinator.readers.answers import Table, TableColumn
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.reduced_window import Window, join_windows, read_window
from runfold_coordinator.readers.rollup_series import read_rollup_points
from runfold_coordinator.readers.run_lanes import RUNTIME, STEP, TIMESTAMP, RunLanes
from runfold_coordinator.readers.step_windows import read_spans
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: Cells of all keys and lanes that are held at a time: 8 bytes each, a few times over while they are reduced.
MAX_WINDOW_CELLS = 2_000_000
#: A metric of one lane with at least so many rows is read by its stored extremes.
ROLLUP_MIN_ROWS = 100_000
#: Statistics in the order in which they stand beside a key: "loss:mean", ...
STATISTICS = ("mean", "std", "min", "max", "count", "argmin", "argmax")


class SeriesReader:
    """Reads sampled histories. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(
        self,
        run: RunRow,
        *,
        keys: Sequence[str] | None = None,
        samples: int = 500,
        x_axis: str = STEP,
        stats: bool = False,
        rank: int | None = None,
        label: str | None = None,
        attempt: int | None = None,
    ) -> Table:
        """Return at most `samples` rows in order of step; the sampling keeps each key's extremes.

        Args:
            keys: Display names or canonical keys: only rows that have them all, and `x_axis`. None: all keys.
            x_axis: "_step", "_timestamp", "_runtime" or a metric; the table's first column.
            stats: For each numeric key k also k:mean, k:std, k:min, k:max, k:count, k:argmin, k:argmax over
                the writers; argmin and argmax are ranks (labels where there are none).
            rank: Only writers of this rank; `label` and `attempt` likewise.
        """
        lanes = load_history(self._store, run)
        if rank is not None or label is not None or attempt is not None:
            lanes = lanes.only(rank=rank, label=label, attempt=attempt)
        wanted = _Wanted.of(lanes, keys, x_axis)
        if wanted is None:
            return Table(0, [TableColumn(x_axis, np.empty(0, np.int64))])
        parts: list[Window] = []
        for window in self._windows(lanes, wanted, samples, stats=stats):
            parts.append(_with_times(window, lanes, wanted).with_all(wanted.required).sample(samples))
            # However long the run, no more is held than an answer and a half.
            if sum(len(part.step) for part in parts) > samples * 3 // 2:
                parts = [join_windows(parts).sample(samples)]
        return _table(lanes, wanted, join_windows(parts).sample(samples) if parts else None)

    def _windows(self, lanes: RunLanes, wanted: _Wanted, samples: int, *, stats: bool) -> Iterator[Window]:
        row_count = sum(seat.writer.row_count for seat in lanes.seats)
        if wanted.is_one_metric and not stats and len(lanes.lanes) == 1 and row_count >= ROLLUP_MIN_ROWS:
            column = read_rollup_points(self._store, lanes, wanted.required[0])
            if column is not None and len(column) >= samples:  # else they are coarser than what is asked
                yield Window(column.step, None, {wanted.required[0]: column}, {})
                return
        width = max(1, len(lanes.keys) if wanted.needs_times else len(wanted.required))
        if row_count * width <= MAX_WINDOW_CELLS:
            yield self._read(lanes, wanted, None, None, stats=stats)
            return
        for low, high in read_spans(self._store, lanes).windows(MAX_WINDOW_CELLS // width):
            yield self._read(lanes, wanted, low, high, stats=stats)

    def _read(
        self, lanes: RunLanes, wanted: _Wanted, low: int | None, high: int | None, *, stats: bool
    ) -> Window:
        keys = None if wanted.is_everything else [key for key in wanted.required if key in lanes.keys]
        return read_window(
            self._store, lanes, keys, low=low, high=high, times=wanted.needs_times, stats=stats
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a table shall hold. `names`: canonical key to the name as asked, in order, the x axis first."""

    names: dict[str, str]
    #: Keys that a row must have; empty when everything is wanted.
    required: tuple[str, ...]
    is_everything: bool

    @property
    def needs_times(self) -> bool:
        return self.is_everything or TIMESTAMP in self.names or RUNTIME in self.names

    @property
    def is_one_metric(self) -> bool:
        return len(self.required) == 1 and set(self.names) == {STEP, *self.required} and not self.needs_times

    @classmethod
    def of(cls, lanes: RunLanes, keys: Sequence[str] | None, x_axis: str) -> _Wanted | None:
        """Return None when a key is wanted that nobody logged: no row can have it."""
        names: dict[str, str] = {}
        for name in [x_axis, *(keys or ())]:
            key = name if name == STEP else lanes.find_key(name)
            if key is None and name not in (TIMESTAMP, RUNTIME):
                return None
            names.setdefault(key or name, name)
        required = tuple(key for key in names if key != STEP)
        if keys is None:
            shown = lanes.display_names()
            names |= {key: key for key in (STEP, TIMESTAMP, RUNTIME) if key not in names}
            names |= {key: shown[key] for key in sorted(shown) if key not in names}
        return cls(names, required, is_everything=keys is None)


def _with_times(window: Window, lanes: RunLanes, wanted: _Wanted) -> Window:
    """Add the columns that rows have by themselves; a `_timestamp` that the user logged stays."""
    if window.t_ns is None:
        return window
    columns = dict(window.columns)
    if TIMESTAMP in wanted.names:
        own = Column(window.step, "d", window.t_ns.astype(np.float64) / 1e9)
        columns[TIMESTAMP] = merge_columns([own, columns[TIMESTAMP]]) if TIMESTAMP in columns else own
    if RUNTIME in wanted.names:
        columns[RUNTIME] = Column(window.step, "d", lanes.clock.seconds(window.t_ns))
    return replace(window, columns=columns)


def _table(lanes: RunLanes, wanted: _Wanted, window: Window | None) -> Table:
    if window is None:
        return Table(0, [TableColumn(name, np.empty(0, np.int64)) for name in wanted.names.values()])
    columns = []
    for key, name in wanted.names.items():
        if key == STEP:
            columns.append(TableColumn(name, window.step))
            continue
        column = window.columns.get(key)
        if column is None:
            continue
        columns.append(TableColumn(name, column.values, rows_in(window.step, column.step)))
        columns += statistics_columns(window, key, name, [lane.name for lane in lanes.lanes])
    return Table(len(window.step), columns)


def statistics_columns(window: Window, key: str, name: str, lanes: Sequence[Any]) -> list[TableColumn]:
    """Return the columns "name:mean" and so on; `lanes` names what argmin and argmax number."""
    reduced = window.stats.get(key)
    if reduced is None:
        return []
    rows = rows_in(window.step, reduced.x)
    columns = []
    for statistic in STATISTICS:
        values = getattr(reduced.stats, statistic)
        if statistic.startswith("arg"):
            values = name_lanes(values, lanes)
        columns.append(TableColumn(f"{name}:{statistic}", values, rows))
    return columns


def name_lanes(places: Ints, lanes: Sequence[Any]) -> NDArray[Any] | list[Any]:
    """Return the lanes' names: an int64 array where all are ranks, else a list."""
    if all(isinstance(name, int) for name in lanes):
        return np.array(lanes, np.int64)[places] if len(lanes) else places
    return [lanes[place] for place in places.tolist()]


def rows_in(step: Axis, at: Axis) -> NDArray[np.uint32] | None:
    """Return the rows that points stand in, None where every row has one."""
    return None if len(at) == len(step) else find(step, at)[0].astype(np.uint32)
