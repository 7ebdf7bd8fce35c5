"""Cuts a run's history into windows of steps that hold about as many rows as a reader wants in memory.

In: the steps that each stored chunk spans. Out: [low, high) bounds. Rows are not read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from runfold_coordinator.aggregate.column import Ints
from runfold_coordinator.readers.run_lanes import RunLanes
from runfold_coordinator.store import tables
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class ChunkSpans:
    """Visible run steps [low, high] of each chunk, both inclusive, and its rows; arrays of one length."""

    low: Ints
    high: Ints
    rows: Ints

    def first_step(self, low: int) -> int | None:
        """Return the first step at or above `low` that may have a row; None when there is none."""
        above = self.high >= low
        return int(np.maximum(self.low[above], low).min()) if above.any() else None

    def window_end(self, low: int, rows: int) -> int:
        """Return `high` such that [low, high) holds about `rows` rows, at least one step.

        Rows are taken as spread evenly over the steps of their chunk.
        """
        above = self.high >= low
        start, end, count = self.low[above], self.high[above], self.rows[above]
        if not len(end):
            return low + 1
        width = (end - start).astype(np.float64) + 1
        left, right = low, int(end.max())  # the answer's last step lies in [left, right]
        while left < right:
            middle = (left + right) // 2
            inside = np.minimum(end, middle) - np.maximum(start, low) + 1
            if (count * np.clip(inside / width, 0, 1)).sum() >= rows:
                right = middle
            else:
                left = middle + 1
        return left + 1

    def windows(self, rows: int, low: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield windows [low, high) of about `rows` rows, to the end of the history."""
        at = self.first_step(-(1 << 62) if low is None else low)
        while at is not None:
            end = self.window_end(at, max(1, rows))
            yield at, end
            at = self.first_step(end)


def join_spans(parts: Sequence[ChunkSpans]) -> ChunkSpans:
    """Return the spans of several runs together."""
    empty = np.empty(0, np.int64)
    return ChunkSpans(
        np.concatenate([part.low for part in parts] or [empty]),
        np.concatenate([part.high for part in parts] or [empty]),
        np.concatenate([part.rows for part in parts] or [empty]),
    )


def _ends(lanes: RunLanes, run_pk: int) -> int | None:
    """Return the step, as writers count, from which a base has nothing for its fork; None: it is no base."""
    ends = [
        seat.placement.cut_step - seat.placement.step_offset
        for seat in lanes.seats
        if seat.writer.run_pk == run_pk
        and seat.limit_step is not None
        and seat.placement.cut_step is not None
    ]
    return max(ends) if ends and run_pk != lanes.run.run_pk else None


def read_spans(store: Store, lanes: RunLanes, low: int | None = None) -> ChunkSpans:
    """Read the spans of the run's chunks that reach `low` or beyond."""
    c = tables.chunks.c
    seats = {seat.writer.writer_pk: seat for seat in lanes.seats}
    found: list[Any] = []
    for run_pk in lanes.run_pks:
        wanted = [c.run_pk == run_pk]
        if low is not None and all(seat.placement.step_offset == 0 for seat in seats.values()):
            wanted.append(c.step_max >= low)
        beyond = _ends(lanes, run_pk)
        if beyond is not None:
            wanted.append(c.step_min < beyond)
        found += store.fetch(sa.select(c.writer_pk, c.step_min, c.step_max, c.n).where(*wanted))
    starts, ends, rows = [], [], []
    for writer_pk, step_min, step_max, n in found:
        seat = seats.get(writer_pk)
        if seat is None:
            continue
        start, end = step_min + seat.placement.step_offset, step_max + seat.placement.step_offset
        if seat.placement.cut_step is not None:
            end = min(end, seat.placement.cut_step - 1)
        if start <= end and (low is None or end >= low):
            starts.append(start)
            ends.append(end)
            rows.append(n)
    return ChunkSpans(np.array(starts, np.int64), np.array(ends, np.int64), np.array(rows, np.int64))
