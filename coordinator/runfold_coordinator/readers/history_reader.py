"""Rows of a run, a page at a time: one reduced row a step, or the rows of each writer as it logged them.

In: a run and bounds. Out: `HistoryPage`. What is in memory is bounded by the page and its lanes, never by
the run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold.protocol.history.summary import timestamp_unix_s
from runfold.protocol.keypath import decode_path
from runfold_coordinator.aggregate.rows import LaneRows
from runfold_coordinator.aggregate.run_clock import RunClock
from runfold_coordinator.readers.answers import HistoryPage
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.history_windows import HistoryWindows, find_keys
from runfold_coordinator.readers.lane_rows import nest_rows, put
from runfold_coordinator.readers.run_lanes import RUNTIME, STEP, TIMESTAMP, RunLanes, Seat
from runfold_coordinator.store.model import INSERTED, Block, RunRow
from runfold_coordinator.store.store import Store

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
        start = _parse_cursor(cursor)
        wanted = None if keys is None else find_keys(lanes, keys)
        if keys is not None and wanted is None:
            return HistoryPage([], None)
        low = start[0] if start is not None else min_step
        scan = _Scan(HistoryWindows(self._store, shown, wanted, limit), lanes)
        return scan.per_writer(low, max_step, start) if per_writer else scan.reduced(low, max_step)


@dataclass(slots=True)
class _Scan:
    windows: HistoryWindows
    #: The lanes of the windows with what is superseded cut off.
    visible: RunLanes

    def reduced(self, low: int | None, high: int | None) -> HistoryPage:
        windows, page_size = self.windows, self.windows.page_size
        rows: list[dict[str, Any]] = []
        at_once = page_size * max(1, len(windows.lanes.lanes))
        for start, end in windows.between(low, high, at_once, enough=page_size):
            found = windows.read(start, end)
            page = self._dicts(found)
            rows += page
            windows.found = len(rows)
            if len(rows) > page_size:
                extra = len(rows) - page_size
                cursor = int(found.step[len(page) - extra])
                return HistoryPage(rows[:page_size], str(cursor))
            if len(rows) == page_size:
                return HistoryPage(rows, str(end))
        return HistoryPage(rows, _text(windows.resume_at))

    def _dicts(self, rows: LaneRows) -> list[dict[str, Any]]:
        nested = nest_rows(rows, self.windows.keys)
        wants, clock = self.windows.own_keys(), self.windows.lanes.clock
        for row, step, t_ns in zip(nested, rows.step.tolist(), rows.t_ns.tolist(), strict=True):
            _add_own(row, wants, step, t_ns, clock)
        return nested

    def per_writer(self, low: int | None, high: int | None, after: tuple[int, ...] | None) -> HistoryPage:
        windows, page_size = self.windows, self.windows.page_size
        rows: list[tuple[Place, dict[str, Any]]] = []
        for start, end in windows.between(low, high, page_size, enough=page_size):
            found: list[tuple[Place, dict[str, Any]]] = []
            for seat, shown in zip(self.windows.lanes.seats, self.visible.seats, strict=True):
                found += self._logged(seat, shown.placement.cut_step, start, end)
            found.sort(key=lambda entry: entry[0])
            rows += [entry for entry in found if after is None or entry[0] > after]
            windows.found = len(rows)
            if len(rows) >= page_size:
                page = rows[:page_size]
                return HistoryPage([row for _, row in page], ":".join(map(str, page[-1][0])))
        return HistoryPage([row for _, row in rows], _text(windows.resume_at))

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
        wants, clock = self.windows.own_keys(), self.windows.lanes.clock
        found: list[tuple[Place, dict[str, Any]]] = []
        for block in self.windows.store.read_blocks(
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
                _add_own(row, wants, step, t_ns, clock)
                row.update(who, _seq=seq)
                if cut is not None and step >= cut:
                    row["_superseded"] = True
                found.append(((step, rank, writer.writer_pk, seq), row))
        return found

    def _said(self, block: Block) -> list[dict[str, Any] | None]:
        """Return the nested cells of a block's rows; None for a row that lacks one of the keys."""
        rows: list[dict[str, Any] | None] = [{} for _ in range(len(block.seq))]
        logged = self.windows.logged_keys()
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


def _add_own(row: dict[str, Any], wanted: Collection[str], step: int, t_ns: int, clock: RunClock) -> None:
    """Add what every row has by itself; a `_timestamp` that the user logged stays."""
    if STEP in wanted:
        row[STEP] = step
    if TIMESTAMP in wanted and TIMESTAMP not in row:
        row[TIMESTAMP] = timestamp_unix_s(t_ns)
    if RUNTIME in wanted:
        row[RUNTIME] = clock.runtime_s(t_ns)


def _text(step: int | None) -> str | None:
    return None if step is None else str(step)


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
