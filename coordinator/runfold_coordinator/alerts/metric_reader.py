"""New values of a metric since the last look: each rank's own, or reduced over the ranks.

Only the newest attempt counts. Reduced values are taken at steps that every rank which logs the metric has
passed; a rank that logs nothing for a while holds up nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from runfold_coordinator.aggregate.align import align
from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.reduce import reduce_columns
from runfold_coordinator.alerts.metric_watch import Floats, Ints
from runfold_coordinator.readers.run_lanes import Lane, RunLanes
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import Cells
from runfold_coordinator.store.store import Store

#: Of more new rows of a writer than this (a spool delivered late) only the newest are looked at.
MAX_ROWS = 100_000
#: A rank that logged no new value for so long is not waited for.
HOLD_S = 30.0


@dataclass(frozen=True, slots=True)
class LaneValues:
    """New values of a lane (None: reduced), ascending in step."""

    lane: int | str | None
    step: Ints
    t_unix_s: Floats
    value: Floats


@dataclass(slots=True)
class _LaneTail:
    """Values of a lane that are not reduced yet."""

    step: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    t_unix_s: Floats = field(default_factory=lambda: np.empty(0))
    value: Floats = field(default_factory=lambda: np.empty(0))
    heard_s: float = 0.0
    top_step: int = -1


class MetricReader:
    """Follows one metric of one run. Not thread-safe."""

    def __init__(self, store: Store, name: str, *, each_rank: bool) -> None:
        self._store = store
        self._name = name
        self._each_rank = each_rank
        self._attempt = 0
        #: Highest seq read, by writer_pk.
        self._read_to: dict[int, int] = {}
        self._tails: dict[int | str, _LaneTail] = {}
        self._reduced_to = -(2**63)

    def read(self, lanes: RunLanes, now_s: float) -> tuple[list[LaneValues], bool]:
        """Return the new values, and whether a new attempt began before them."""
        newest = max((seat.placement.attempt for seat in lanes.seats), default=0)
        is_new_attempt = newest != self._attempt
        if is_new_attempt:
            self._attempt, self._reduced_to = newest, -(2**63)
            self._read_to.clear()
            self._tails.clear()
        key = lanes.find_key(self._name)
        if key is None:
            return [], is_new_attempt
        current = lanes.only(attempt=newest)
        found = self._read_lanes(current, key)
        if self._each_rank:
            return found, is_new_attempt
        if len(current.lanes) == 1:
            return [LaneValues(None, v.step, v.t_unix_s, v.value) for v in found], is_new_attempt
        return self._reduce(current, key, found, now_s), is_new_attempt

    def _read_lanes(self, lanes: RunLanes, key: str) -> list[LaneValues]:
        seats = {seat.writer.writer_pk: seat for seat in lanes.seats}
        behind = {
            pk: max(self._read_to.get(pk, 0), seat.writer.last_seq - MAX_ROWS)
            for pk, seat in seats.items()
            if seat.writer.last_seq > self._read_to.get(pk, 0)
        }
        if not behind:
            return []
        pieces: dict[int, list[Cells]] = {}
        for cells in self._store.read_cells(
            lanes.run.run_pk, key, writer_pks=behind, seq_after=min(behind.values())
        ):
            pieces.setdefault(cells.writer_pk, []).append(cells)
        found = []
        for lane in lanes.lanes:
            of_lane = [
                _as_numbers(cells, behind[pk], seats[pk].placement.step_offset)
                for pk in (seat.writer.writer_pk for seat in lane.seats)
                for cells in pieces.get(pk, ())
            ]
            values = _join(lane.name, of_lane)
            if len(values.step):
                found.append(values)
        for pk in behind:
            # As far as it was there: rows that came since the lanes were read are read again.
            seen = max((int(cells.seq[-1]) for cells in pieces.get(pk, ())), default=0)
            self._read_to[pk] = max(seen, seats[pk].writer.last_seq)
        return found

    def _reduce(
        self, lanes: RunLanes, key: str, found: Collection[LaneValues], now_s: float
    ) -> list[LaneValues]:
        for new in found:
            tail = self._tails.setdefault(_named(new.lane), _LaneTail())
            tail.step = np.concatenate([tail.step, new.step])
            tail.t_unix_s = np.concatenate([tail.t_unix_s, new.t_unix_s])
            tail.value = np.concatenate([tail.value, new.value])
            tail.heard_s, tail.top_step = now_s, max(tail.top_step, int(new.step[-1]))
        if not self._tails:
            return []
        upto = self._settled_step(lanes.lanes, now_s)
        columns, times = [], []
        for lane in lanes.lanes:
            tail = self._tails.get(lane.name) or _LaneTail()
            taken = tail.step <= upto
            kept = _last_of_each_step(
                tail.step[taken], tail.t_unix_s[taken], tail.value[taken], self._reduced_to
            )
            columns.append(Column(kept.step, "d", kept.value))
            times.append(kept)
            tail.step, tail.t_unix_s, tail.value = (
                tail.step[~taken],
                tail.t_unix_s[~taken],
                tail.value[~taken],
            )
        self._reduced_to = max(self._reduced_to, upto)
        reduced = reduce_columns(columns, lanes.reduction(key))
        if not len(reduced):
            return []
        step, places = align([each.step for each in times])
        t_unix_s = np.zeros(len(step))
        for each, place in zip(times, places, strict=True):
            t_unix_s[place] = np.maximum(t_unix_s[place], each.t_unix_s)
        at = np.searchsorted(step, reduced.step)
        values = np.array([float(value) for value in reduced.objects()])
        return [LaneValues(None, reduced.step.astype(np.int64), t_unix_s[at], values)]

    def _settled_step(self, lanes: Sequence[Lane], now_s: float) -> int:
        """Return the step up to which no rank is still expected to log the metric."""
        tops = []
        for lane in lanes:
            tail = self._tails.get(lane.name)
            lives = any(seat.writer.state not in TERMINAL for seat in lane.seats)
            if tail is not None and lives and now_s - tail.heard_s < HOLD_S:
                tops.append(tail.top_step)
        return min(tops) if tops else max(tail.top_step for tail in self._tails.values())


def _named(lane: int | str | None) -> int | str:
    assert lane is not None, "lanes have names; only what is reduced has none"
    return lane


def _as_numbers(cells: Cells, after_seq: int, offset: int) -> LaneValues:
    """Return the numbers among the cells after a seq, in run steps."""
    if isinstance(cells.values, list):
        kept = np.array([isinstance(v, int | float) and not isinstance(v, bool) for v in cells.values], bool)
        value = np.array([_float(v) for v, is_kept in zip(cells.values, kept, strict=True) if is_kept], float)
    else:
        kept = np.ones(len(cells.seq), bool)
        value = cells.values.astype(np.float64)
    new = (cells.seq > after_seq)[kept]
    step = cells.step[kept][new] + offset
    return LaneValues(None, step, cells.t_ns[kept][new].astype(np.float64) / 1e9, value[new])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _join(lane: int | str, pieces: Sequence[LaneValues]) -> LaneValues:
    if not pieces:
        return LaneValues(lane, np.empty(0, np.int64), np.empty(0), np.empty(0))
    step = np.concatenate([piece.step for piece in pieces])
    order = np.argsort(step, kind="stable")
    t_unix_s = np.concatenate([piece.t_unix_s for piece in pieces])
    value = np.concatenate([piece.value for piece in pieces])
    return LaneValues(lane, step[order], t_unix_s[order], value[order])


def _last_of_each_step(step: Ints, t_unix_s: Floats, value: Floats, after: int) -> LaneValues:
    """Return one value a step, the one logged last, of steps after `after`; ascending."""
    order = np.argsort(step, kind="stable")
    step, t_unix_s, value = step[order], t_unix_s[order], value[order]
    last = np.append(step[1:] != step[:-1], True)[: len(step)] & (step > after)
    return LaneValues(None, step[last], t_unix_s[last], value[last])
