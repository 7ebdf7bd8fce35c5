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
from runfold_coordinator.aggregate.rows import LaneRows
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.history_windows import HistoryWindows, at_steps, find_keys
from runfold_coordinator.readers.reduced_window import Window, join_windows
from runfold_coordinator.readers.run_lanes import STEP, TIMESTAMP
from runfold_coordinator.readers.series_reader import rows_in
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
        low = min_step if cursor is None else int(cursor)
        wanted = None if keys is None else find_keys(lanes, keys)
        if keys is not None and wanted is None:
            return ColumnsPage(0, [], None)
        shown = lanes.with_superseded() if superseded else lanes
        return _Scan(HistoryWindows(self._store, shown, wanted, limit)).page(low, max_step)


@dataclass(slots=True)
class _Scan:
    windows: HistoryWindows

    def page(self, low: int | None, high: int | None) -> ColumnsPage:
        windows, page_size = self.windows, self.windows.page_size
        at_once = page_size * max(1, len(windows.lanes.lanes))
        found: list[LaneRows] = []
        # A window costs whole chunks: one that is half a page is not worth another to fill it up.
        for start, end in windows.between(low, high, at_once, enough=(page_size + 1) // 2):
            rows = windows.read(start, end)
            left = page_size - windows.found
            if len(rows.step) > left:
                return self._joined([*found, at_steps(rows, np.arange(left))], int(rows.step[left]))
            found.append(rows)
            windows.found += len(rows.step)
        return self._joined(found, windows.resume_at)

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

    def _logged(self, window: Window) -> list[tuple[KeyPath, Column]]:
        """Return the logged columns in order of their paths, without those that rows have by themselves."""
        own = self.windows.own_keys()
        found, keys = [], self.windows.keys
        for key in window.columns if keys is None else window.columns.keys() & set(keys):
            path = decode_path(key)
            if path[0] not in own or (path[0] == TIMESTAMP and len(path) > 1):
                found.append((path, window.columns[key]))
        return sorted(found, key=lambda entry: entry[0])

    def _own(self, window: Window) -> Iterator[tuple[KeyPath, Column]]:
        """Yield what every row has by itself; a `_timestamp` that the user logged stays."""
        assert window.t_ns is not None, "rows have times"
        for key in self.windows.own_keys():
            if key == STEP:
                yield (key,), Column(window.step, "q", window.step)
            elif key == TIMESTAMP:
                own = Column(window.step, "d", window.t_ns.astype(np.float64) / 1e9)
                logged = window.columns.get(key)
                yield (key,), own if logged is None else merge_columns([own, logged])
            else:
                yield (key,), Column(window.step, "d", self.windows.lanes.clock.seconds(window.t_ns))
