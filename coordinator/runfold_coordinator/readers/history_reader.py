"""Rows of a run, a page at a time: one reduced row a step, or the rows of each writer as it logged them.

In: a run and bounds. Out: `HistoryPage`. What is in memory is bounded by the page and its lanes, never by
the run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold.protocol.history.summary import timestamp_unix_s
from runfold.protocol.keypath import decode_path
from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.rows import LaneRows
from runfold_coordinator.aggregate.run_clock import RunClock
from runfold_coordinator.readers.answers import HistoryPage
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.lane_rows import nest_rows, put, read_lane, reduce_lanes
from runfold_coordinator.readers.run_lanes import RUNTIME, STEP, TIMESTAMP, RunLanes, Seat
from runfold_coordinator.readers.step_windows import read_spans
from runfold_coordinator.store.model import INSERTED, Block, RunRow
from runfold_coordinator.store.store import Store

#: Cells that a window of rows may hold, over all lanes and keys: 8 bytes each, and as much again on the way.
MAX_WINDOW_CELLS = 2_000_000
#: Rows that one page may look at in vain (rows without all of `keys`) before it is returned as it is.
MAX_ROWS_IN_VAIN = 2_000_000
#: Keys that every row has without anybody logging them.
OWN_KEYS = (STEP, TIMESTAMP, RUNTIME)


#: (run step, rank, writer_pk, seq): where a row of a writer stands in the order of pages.
Place = tuple[int, int, int, int]


class HistoryReader:
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
        per_writer: bool = False,
        rank: int | None = None,
        label: str | None = None,
        attempt: int | None = None,
        superseded: bool = False,
    ) -> HistoryPage:
        """Return the next page of rows with min_step <= step < max_step, in order of step.

        Args:
            keys: Display names or canonical keys; only rows that have all of them, and only these keys of
                them.
            cursor: From the page before; None begins.
            per_writer: One row a `log()` call, with _label, _rank, _attempt, _writer, _seq; else one row a
                step.
            superseded: Also rows that a later attempt has overtaken (then per_writer rows say
                "_superseded").

        Raises:
            ValueError: The cursor is not one of this scan's.
        """
        lanes = load_history(self._store, run)
        if rank is not None or label is not None or attempt is not None:
            lanes = lanes.only(rank=rank, label=label, attempt=attempt)
        shown = lanes.with_superseded() if superseded else lanes
        wanted = None if keys is None else [_found(lanes, key) for key in keys]
        start = _parse_cursor(cursor)
        if wanted is not None and None in wanted:
            return HistoryPage([], None)  # a key that nobody logged: no row has them all
        low = start[0] if start is not None else min_step
        columns = None if wanted is None else [key for key in wanted if key is not None]
        scan = _Scan(self._store, shown, lanes, columns, limit)
        return scan.per_writer(low, max_step, start) if per_writer else scan.reduced(low, max_step)


@dataclass(slots=True)
class _Scan:
    store: Store
    lanes: RunLanes
    #: The same lanes with what is superseded cut off.
    visible: RunLanes
    keys: list[str] | None
    page_size: int
    #: Rows of the page so far, and where the next page begins if this one ends early.
    _found: int = 0
    _resume_at: str | None = None

    def reduced(self, low: int | None, high: int | None) -> HistoryPage:
        rows: list[dict[str, Any]] = []
        for start, end in self._windows(low, high, self.page_size * max(1, len(self.lanes.lanes))):
            found = self._read(start, end)
            page = self._dicts(found)
            rows += page
            self._found = len(rows)
            if len(rows) > self.page_size:
                extra = len(rows) - self.page_size
                cursor = int(found.step[len(page) - extra])
                return HistoryPage(rows[: self.page_size], str(cursor))
            if len(rows) == self.page_size:
                return HistoryPage(rows, str(end))
        return HistoryPage(rows, self._resume_at)

    def _windows(self, low: int | None, high: int | None, rows: int) -> Iterable[tuple[int, int]]:
        """Yield windows [start, end) until the history ends or the page has looked at enough rows.

        Args:
            rows: Of the first window, over all lanes; while little is found the windows grow to their bound.
        """
        width = max(1, len(self.keys) if self.keys is not None else len(self.lanes.keys))
        at_most = max(1, MAX_WINDOW_CELLS // width)
        rows = min(rows, at_most)
        spans = read_spans(self.store, self.lanes, low)
        at = spans.first_step(-(1 << 62) if low is None else low)
        looked_at = 0
        while at is not None and (high is None or at < high):
            if looked_at > MAX_ROWS_IN_VAIN:
                self._resume_at = str(at)
                return
            end = spans.window_end(at, rows)
            if high is not None:
                end = min(end, high)
            looked_at += rows
            self._resume_at = None
            yield at, end
            if self._found * 2 < self.page_size:
                rows = min(rows * 2, at_most)
            at = spans.first_step(end)

    def _read(self, low: int, high: int) -> LaneRows:
        """Return the rows of a window that have all keys, reduced."""
        names: set[str] | None = None
        if self.keys is not None:
            weights = (self.lanes.weight_key(key) for key in self.keys if key in self.lanes.keys)
            names = {*self.keys, *(key for key in weights if key is not None)}
        parts = [read_lane(self.store, lane, low=low, high=high, keys=names) for lane in self.lanes.lanes]
        if not parts:
            return LaneRows(np.empty(0, np.int64), np.empty(0, np.uint64), {})
        return with_all(reduce_lanes(self.lanes, parts, self._logged_keys()), self._logged_keys())

    def _logged_keys(self) -> list[str] | None:
        if self.keys is None:
            return None
        return [key for key in self.keys if key in self.lanes.keys or key not in OWN_KEYS]

    def _dicts(self, rows: LaneRows) -> list[dict[str, Any]]:
        nested = nest_rows(rows, self.keys)
        clock = self.lanes.clock
        wants = OWN_KEYS if self.keys is None else self.keys
        for row, step, t_ns in zip(nested, rows.step.tolist(), rows.t_ns.tolist(), strict=True):
            _add_own(row, wants, step, t_ns, clock)
        return nested

    def per_writer(self, low: int | None, high: int | None, after: tuple[int, ...] | None) -> HistoryPage:
        rows: list[tuple[Place, dict[str, Any]]] = []
        for start, end in self._windows(low, high, self.page_size):
            found: list[tuple[Place, dict[str, Any]]] = []
            for seat, shown in zip(self.lanes.seats, self.visible.seats, strict=True):
                found += self._logged(seat, shown.placement.cut_step, start, end)
            found.sort(key=lambda entry: entry[0])
            rows += [entry for entry in found if after is None or entry[0] > after]
            self._found = len(rows)
            if len(rows) >= self.page_size:
                page = rows[: self.page_size]
                return HistoryPage([row for _, row in page], ":".join(map(str, page[-1][0])))
        return HistoryPage([row for _, row in rows], self._resume_at)

    def _logged(self, seat: Seat, cut: int | None, low: int, high: int) -> list[tuple[Place, dict[str, Any]]]:
        """Return one writer's rows of a window, as logged, each with its place in the order of pages."""
        offset = seat.placement.step_offset
        hides = seat.placement.cut_step
        end = high if hides is None else min(high, hides)
        if end <= low:
            return []
        writer = seat.writer
        who = {
            "_label": writer.label,
            "_rank": writer.rank,
            "_attempt": seat.placement.attempt,
            "_writer": writer.writer_id,
        }
        rank = (1 << 62) if writer.rank is None else writer.rank
        found: list[tuple[Place, dict[str, Any]]] = []
        for block in self.store.read_blocks(
            writer.run_pk, writer.writer_pk, step_min=low - offset, step_max=end - 1 - offset
        ):
            steps = block.step + np.int64(offset)
            entries = zip(
                self._said(block),
                steps.tolist(),
                block.seq.tolist(),
                block.t_ns.tolist(),
                block.flags.tolist(),
                strict=True,
            )
            for row, step, seq, t_ns, flags in entries:
                if row is None or flags & INSERTED:
                    continue
                _add_own(row, OWN_KEYS if self.keys is None else self.keys, step, t_ns, self.lanes.clock)
                row.update(who, _seq=seq)
                if cut is not None and step >= cut:
                    row["_superseded"] = True
                found.append(((step, rank, writer.writer_pk, seq), row))
        return found

    def _said(self, block: Block) -> list[dict[str, Any] | None]:
        """Return the nested cells of a block's rows; None for a row that lacks one of the keys."""
        rows: list[dict[str, Any] | None] = [{} for _ in range(len(block.seq))]
        logged = self._logged_keys()
        for key in logged or ():
            has = np.zeros(len(rows), np.bool_)
            for column in block.columns.get(key, ()):
                has[slice(None) if column.rows is None else column.rows] = True
            for place in np.flatnonzero(~has).tolist():
                rows[place] = None
        for key in sorted(block.columns if logged is None else block.columns.keys() & set(logged)):
            path = decode_path(key)
            for column in block.columns[key]:
                places = range(len(rows)) if column.rows is None else column.rows.tolist()
                values = column.values if isinstance(column.values, list) else column.values.tolist()
                for place, value in zip(places, values, strict=True):
                    row = rows[place]
                    if row is not None:
                        put(row, path, value)
        return rows


def with_all(rows: LaneRows, keys: Collection[str] | None) -> LaneRows:
    """Return the rows that have every one of `keys`."""
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


def at_steps(rows: LaneRows, places: Any) -> LaneRows:
    """Return the rows at ascending `places`."""
    step = rows.step[places]
    columns = {}
    for key, column in rows.columns.items():
        _, is_kept = find(step, column.step)
        kept: Column = column.take(np.flatnonzero(is_kept))
        if len(kept):
            columns[key] = kept
    return LaneRows(step, rows.t_ns[places], columns)


def _found(lanes: RunLanes, name: str) -> str | None:
    return lanes.find_key(name) or (name if name in OWN_KEYS else None)


def _add_own(row: dict[str, Any], wanted: Collection[str], step: int, t_ns: int, clock: RunClock) -> None:
    """Add what every row has by itself; a `_timestamp` that the user logged stays."""
    if STEP in wanted:
        row[STEP] = step
    if TIMESTAMP in wanted and TIMESTAMP not in row:
        row[TIMESTAMP] = timestamp_unix_s(t_ns)
    if RUNTIME in wanted:
        row[RUNTIME] = clock.runtime_s(t_ns)


def _parse_cursor(cursor: str | None) -> tuple[int, ...] | None:
    if cursor is None:
        return None
    try:
        parts = tuple(map(int, cursor.split(":")))
    except ValueError as error:
        raise ValueError(f"not a cursor of a scan: {cursor!r}") from error
    if len(parts) not in (1, 4):
        raise ValueError(f"not a cursor of a scan: {cursor!r}")
    return parts
