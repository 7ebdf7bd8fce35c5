"""A long metric by its stored extremes: real points, few of them, among which are the extremes of every 256
rows.

In: rollups of one key of one lane. Out: a column of candidates for sampling; None where rollups can't tell,
as rows came late or a step was logged again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from runfold_coordinator.aggregate.column import EMPTY, Column, Floats, Ints
from runfold_coordinator.aggregate.merge import merge_cells, merge_columns
from runfold_coordinator.aggregate.rows import in_run_steps
from runfold_coordinator.readers.run_lanes import RunLanes, Seat
from runfold_coordinator.store.model import Rollup
from runfold_coordinator.store.store import Store

#: Points of each kind of extreme that are looked at for a sample.
MAX_STRETCHES = 4096
#: Stretches of 256 rows with NaN of which one is looked up; the others are drawn by their numbers only.
MAX_NAN_LOOKUPS = 32
#: Ints beyond this are not exact in a rollup's float64.
MAX_EXACT_INT = float(1 << 53)


def read_rollup_points(store: Store, lanes: RunLanes, key: str) -> Column | None:
    """Return candidate points of a run's only lane, strictly increasing, the first and the last point among
    them.
    """
    (lane,) = lanes.lanes
    pieces: dict[int, list[Rollup]] = {seat.writer.writer_pk: [] for seat in lane.seats}
    run_pks = lanes.run_pks
    pks = None if lanes.is_whole and len(run_pks) == 1 else list(pieces)
    for run_pk in run_pks:
        for rollup in store.read_rollups(run_pk, key, writer_pks=pks):
            if rollup.writer_pk in pieces:
                pieces[rollup.writer_pk].append(rollup)
    parts = []
    for seat in lane.seats:
        found = _points_of(store, key, seat, pieces[seat.writer.writer_pk])
        if found is None:
            return None
        parts.append(found)
    for earlier, later in pairwise(parts):
        if len(earlier) and len(later) and earlier.step[-1] >= later.step[0]:
            return None
    return merge_columns(parts)


def _points_of(store: Store, key: str, seat: Seat, pieces: Sequence[Rollup]) -> Column | None:
    """Return one writer's candidates, in run steps; None where its rollups overlap or were overwritten."""
    if not pieces:
        return EMPTY
    kinds = {piece.kind for piece in pieces}
    if len(kinds) > 1 or not kinds <= {"d", "q"}:
        return None
    pieces = sorted(pieces, key=lambda piece: int(piece.seq_first[0]))
    low = np.concatenate([piece.step_min for piece in pieces])
    high = np.concatenate([piece.step_max for piece in pieces])
    rises = all(piece.is_rising.all() for piece in pieces)
    if not rises or not (low[1:] > high[:-1]).all():
        return None
    cut = seat.placement.cut_step
    own_cut = None if cut is None else cut - seat.placement.step_offset
    whole = len(low) if own_cut is None else int(np.searchsorted(high, own_cut))
    last = None if own_cut is None else own_cut - 1
    if whole == 0:
        return _read(store, key, seat, low[0], last)
    is_known = _joined(pieces, "count")[:whole] > 0
    lowest, highest = _joined(pieces, "min")[:whole], _joined(pieces, "max")[:whole]
    at_low = _thin(np.where(is_known, lowest, np.inf), smallest=True)
    at_high = _thin(np.where(is_known, highest, -np.inf), smallest=False)
    step = np.concatenate([_joined(pieces, "argmin_step")[at_low], _joined(pieces, "argmax_step")[at_high]])
    value = np.concatenate([lowest[at_low], highest[at_high]])
    is_known = np.concatenate([is_known[at_low], is_known[at_high]])
    order = np.argsort(step[is_known], kind="stable")
    step, value = step[is_known][order], value[is_known][order]
    is_new = np.ones(len(step), np.bool_)
    is_new[1:] = step[1:] > step[:-1]  # a bucket whose lowest point is its highest
    (kind,) = kinds
    if kind == "q" and len(value) and np.abs(value).max() >= MAX_EXACT_INT:
        return None
    column = Column(step[is_new], kind, value[is_new] if kind == "d" else value[is_new].astype(np.int64))
    looked_up = [
        _read(store, key, seat, int(low[at]), int(high[at]))
        for at in _to_look_up(_joined(pieces, "nan_count")[:whole])
    ]
    ends = [
        _read(store, key, seat, at, at)
        for at in (_joined(pieces, "step_first")[0], _joined(pieces, "step_last")[whole - 1])
    ]
    tail = [] if whole == len(low) else [_read(store, key, seat, low[whole], last)]
    return merge_columns([in_run_steps(column, seat.placement), *looked_up, *ends, *tail])


def _thin(values: Floats, *, smallest: bool) -> Ints:
    """Return places that hold the extremes of equal stretches, at most MAX_STRETCHES of them."""
    width = -(-len(values) // MAX_STRETCHES)
    if width <= 1:
        return np.arange(len(values))
    filled = np.full(-(-len(values) // width) * width, np.inf if smallest else -np.inf)
    filled[: len(values)] = values
    rows = filled.reshape(-1, width)
    at = rows.argmin(axis=1) if smallest else rows.argmax(axis=1)
    places: Ints = np.minimum(np.arange(len(rows)) * width + at, len(values) - 1)
    return places


def _to_look_up(nan_count: Ints) -> list[int]:
    """Return some buckets that hold a NaN, spread over all that do."""
    places = np.flatnonzero(nan_count)
    if len(places) > MAX_NAN_LOOKUPS:
        places = places[np.linspace(0, len(places) - 1, MAX_NAN_LOOKUPS).astype(np.int64)]
    listed: list[int] = places.tolist()
    return listed


def _read(store: Store, key: str, seat: Seat, low: int, high: int | None) -> Column:
    cells = store.read_cells(
        seat.writer.run_pk,
        key,
        writer_pks=[seat.writer.writer_pk],
        step_min=int(low),
        step_max=None if high is None else int(high),
    )
    return in_run_steps(merge_cells(list(cells)), seat.placement)


def _joined(pieces: Sequence[Rollup], name: str) -> Ints:
    joined: Ints = np.concatenate([getattr(piece, name) for piece in pieces])
    return joined
