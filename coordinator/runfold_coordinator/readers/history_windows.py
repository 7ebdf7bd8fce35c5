"""What the readers of rows and of columns share: the windows of steps that a page is looked for in, read.

In: lanes, keys and bounds in run steps. Out: [low, high) bounds, and reduced rows that have all keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.rows import NO_ROWS, LaneRows
from runfold_coordinator.readers.lane_rows import read_lane, reduce_lanes
from runfold_coordinator.readers.run_lanes import RUNTIME, STEP, TIMESTAMP, RunLanes
from runfold_coordinator.readers.step_windows import read_spans
from runfold_coordinator.store.store import Store

#: Cells that a window of rows may hold, over all lanes and keys: 8 bytes each, and as much again on the way.
MAX_WINDOW_CELLS = 2_000_000
#: Rows that one page may look at in vain (rows without all of `keys`) before it is returned as it is.
MAX_ROWS_IN_VAIN = 2_000_000
#: Keys that every row has without anybody logging them.
OWN_KEYS = (STEP, TIMESTAMP, RUNTIME)


@dataclass(slots=True)
class HistoryWindows:
    """The windows of one page. Not thread-safe."""

    store: Store
    lanes: RunLanes
    #: None: all.
    keys: list[str] | None
    page_size: int
    #: Rows that the page has so far: for who reads to say.
    found: int = 0
    #: The step from which there may be more, once `between` has ended; None: there is nothing more.
    resume_at: int | None = None

    def between(
        self, low: int | None, high: int | None, rows: int, *, enough: int
    ) -> Iterator[tuple[int, int]]:
        """Yield windows [start, end) until the history ends or the page has looked at enough rows.

        Args:
            rows: Of the first window, over all lanes; while little is found the windows grow to their bound.
            enough: Rows of a page after which no window is begun.
        """
        width = max(1, len(self.keys) if self.keys is not None else len(self.lanes.keys))
        at_most = max(1, MAX_WINDOW_CELLS // width)
        rows = min(rows, at_most)
        spans = read_spans(self.store, self.lanes, low)
        at = spans.first_step(-(1 << 62) if low is None else low)
        looked_at = 0
        while at is not None and (high is None or at < high):
            if looked_at > MAX_ROWS_IN_VAIN or self.found >= enough:
                self.resume_at = at
                return
            end = spans.window_end(at, rows)
            end = end if high is None else min(end, high)
            looked_at += rows
            yield at, end
            if self.found * 2 < self.page_size:
                rows = min(rows * 2, at_most)
            at = spans.first_step(end)

    def read(self, low: int, high: int) -> LaneRows:
        """Return the rows of a window that have all keys, reduced."""
        logged = self.logged_keys()
        names: set[str] | None = None
        if logged is not None:
            weights = (self.lanes.weight_key(key) for key in logged if key in self.lanes.keys)
            names = {*logged, *(key for key in weights if key is not None)}
        parts = [read_lane(self.store, lane, low=low, high=high, keys=names) for lane in self.lanes.lanes]
        return _with_all(reduce_lanes(self.lanes, parts, logged), logged) if parts else NO_ROWS

    def logged_keys(self) -> list[str] | None:
        """Return the keys less those that rows have by themselves, unless somebody logged these too."""
        if self.keys is None:
            return None
        return [key for key in self.keys if key in self.lanes.keys or key not in OWN_KEYS]

    def own_keys(self) -> list[str]:
        """Return what is wanted of what rows have by themselves."""
        return [key for key in OWN_KEYS if self.keys is None or key in self.keys]


def find_keys(lanes: RunLanes, names: Sequence[str]) -> list[str] | None:
    """Return the canonical keys of these names; None where nobody logged one: no row has them all."""
    found = [lanes.find_key(name) or (name if name in OWN_KEYS else None) for name in names]
    return None if None in found else [key for key in found if key is not None]


def at_steps(rows: LaneRows, places: Any) -> LaneRows:
    """Return the rows at ascending `places`."""
    step = rows.step[places]
    columns = {}
    for key, column in rows.columns.items():
        _, is_kept = find(step, column.step)
        kept = column.take(np.flatnonzero(is_kept))
        if len(kept):
            columns[key] = kept
    return LaneRows(step, rows.t_ns[places], columns)


def _with_all(rows: LaneRows, keys: Sequence[str] | None) -> LaneRows:
    if not keys:
        return rows
    kept = np.ones(len(rows.step), np.bool_)
    for key in keys:
        column = rows.columns.get(key)
        has = np.zeros(len(rows.step), np.bool_)
        if column is not None:
            places, _ = find(rows.step, column.step)
            has[places] = True
        kept &= has
    return at_steps(rows, np.flatnonzero(kept))
