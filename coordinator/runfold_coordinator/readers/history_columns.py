"""Reduced rows of a run as columns, a page at a time: what `HistoryReader` gives as dicts, for clients that
build their own. In: a run and bounds. Out: `ColumnsPage`; no value is touched one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runfold.protocol.keypath import KeyPath, decode_path
from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.merge import merge_columns
from runfold_coordinator.aggregate.rows import NO_ROWS, LaneRows
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.history_reader import (
    MAX_ROWS_IN_VAIN,
    MAX_WINDOW_CELLS,
    OWN_KEYS,
    at_steps,
    with_all,
)
from runfold_coordinator.readers.lane_rows import read_lane, reduce_lanes
from runfold_coordinator.readers.reduced_window import Window, join_windows
from runfold_coordinator.readers.run_lanes import STEP, TIMESTAMP, RunLanes
from runfold_coordinator.readers.series_reader import rows_in
from runfold_coordinator.readers.step_windows import read_spans
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class PathColumn:
    """One key: `rows` None where every row has a value, else the ascending row indices of `values`."""

    path: KeyPath
    values: NDArray[Any] | Sequence[Any]
    rows: NDArray[np.uint32] | None


@dataclass(frozen=True, slots=True)
class ColumnsPage:
    """Columns over `length` rows in order of step. Of columns at one place in a row the later one stays."""

    length: int
    columns: list[PathColumn]
    next_cursor: str | None


class HistoryColumns:
    """Scans histories. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def scan(
        self,
        run: RunRow,
        *,
        keys: Sequence[str] | None = None,
        min_step: int | None = None,
        max_step: int | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        rank: int | None = None,
        label: str | None = None,
        attempt: int | None = None,
        superseded: bool = False,
    ) -> ColumnsPage:
        """Return the next page of rows with min_step <= step < max_step.

        The arguments are those of `HistoryReader.scan`, and so are the rows.

        Raises:
            ValueError: The cursor is not one of this scan's.
        """
        lanes = load_history(self._store, run)
        if rank is not None or label is not None or attempt is not None:
            lanes = lanes.only(rank=rank, label=label, attempt=attempt)
        wanted = None if keys is None else [_found(lanes, key) for key in keys]
        low = min_step if cursor is None else int(cursor)
        if wanted is not None and None in wanted:
            return ColumnsPage(0, [], None)  # a key that nobody logged: no row has them all
        names = None if wanted is None else [key for key in wanted if key is not None]
        scan = _Scan(self._store, lanes.with_superseded() if superseded else lanes, names, limit)
        return scan.page(low, max_step)


@dataclass(slots=True)
class _Scan:
    store: Store
    lanes: RunLanes
    keys: list[str] | None
    page_size: int

    def page(self, low: int | None, high: int | None) -> ColumnsPage:
        found: list[LaneRows] = []
        count = looked_at = 0
        width = max(1, len(self.keys) if self.keys is not None else len(self.lanes.keys))
        at_most = max(1, MAX_WINDOW_CELLS // width)
        at_once = min(self.page_size * max(1, len(self.lanes.lanes)), at_most)
        spans = read_spans(self.store, self.lanes, low)
        at = spans.first_step(-(1 << 62) if low is None else low)
        while at is not None and (high is None or at < high):
            # A window costs whole chunks: one that is half a page is not worth another to fill it up.
            if count * 2 >= self.page_size or looked_at > MAX_ROWS_IN_VAIN:
                return self._joined(found, at)
            end = spans.window_end(at, at_once)
            end = end if high is None else min(end, high)
            rows = self._read(at, end)
            left = self.page_size - count
            if len(rows.step) > left:
                return self._joined([*found, at_steps(rows, np.arange(left))], int(rows.step[left]))
            found.append(rows)
            count += len(rows.step)
            looked_at += at_once
            at_once = min(at_once * 2, at_most)  # of the next one, when little is found
            at = spans.first_step(end)
        return self._joined(found, None)

    def _read(self, low: int, high: int) -> LaneRows:
        """Return the rows of a window that have all keys, reduced."""
        logged = self._logged_keys()
        names: set[str] | None = None
        if logged is not None:
            weights = (self.lanes.weight_key(key) for key in logged if key in self.lanes.keys)
            names = {*logged, *(key for key in weights if key is not None)}
        parts = [read_lane(self.store, lane, low=low, high=high, keys=names) for lane in self.lanes.lanes]
        return with_all(reduce_lanes(self.lanes, parts, logged), logged) if parts else NO_ROWS

    def _logged_keys(self) -> list[str] | None:
        if self.keys is None:
            return None
        return [key for key in self.keys if key in self.lanes.keys or key not in OWN_KEYS]

    def _joined(self, found: list[LaneRows], resume_at: int | None) -> ColumnsPage:
        cursor = None if resume_at is None else str(resume_at)
        found = [rows for rows in found if len(rows.step)]
        if not found:
            return ColumnsPage(0, [], cursor)
        window = join_windows([Window(rows.step, rows.t_ns, rows.columns, {}) for rows in found])
        shown = [*self._logged(window), *self._own(window)]
        columns = [
            PathColumn(path, column.values, rows_in(window.step, column.step)) for path, column in shown
        ]
        return ColumnsPage(len(window.step), columns, cursor)

    @property
    def _wanted_own(self) -> list[str]:
        return [key for key in OWN_KEYS if self.keys is None or key in self.keys]

    def _logged(self, window: Window) -> list[tuple[KeyPath, Column]]:
        """Return the logged columns in order of their paths, without those that rows have by themselves."""
        own = self._wanted_own
        found = []
        for key in window.columns if self.keys is None else window.columns.keys() & set(self.keys):
            path = decode_path(key)
            if path[0] not in own or (path[0] == TIMESTAMP and len(path) > 1):
                found.append((path, window.columns[key]))
        return sorted(found, key=lambda entry: entry[0])

    def _own(self, window: Window) -> Iterator[tuple[KeyPath, Column]]:
        """Yield what every row has by itself; a `_timestamp` that the user logged stays."""
        assert window.t_ns is not None, "rows have times"
        for key in self._wanted_own:
            if key == STEP:
                yield (key,), Column(window.step, "q", window.step)
            elif key == TIMESTAMP:
                own = Column(window.step, "d", window.t_ns.astype(np.float64) / 1e9)
                logged = window.columns.get(key)
                yield (key,), own if logged is None else merge_columns([own, logged])
            else:
                yield (key,), Column(window.step, "d", self.lanes.clock.seconds(window.t_ns))


def _found(lanes: RunLanes, name: str) -> str | None:
    return lanes.find_key(name) or (name if name in OWN_KEYS else None)
