"""The highest step that counts, exactly, though old branches are cut off in the middle of what is stored.

In: writers in their seats. Out: a run step. Reads at most the pieces that a cut goes through.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from runfold_coordinator.readers.run_lanes import Seat
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store


def visible_top(store: Store, seats: Iterable[Seat]) -> int:
    """Return the highest visible run step of some writers, -1 when they have no row that counts."""
    top = -1
    for seat in seats:
        found, cut = seat.top_step, seat.placement.cut_step
        if found is None or (cut is None and found <= top) or (cut is not None and cut - 1 <= top):
            continue
        top = max(top, found if cut is None or found < cut else _top_below(store, seat, cut))
    return top


def _top_below(store: Store, seat: Seat, cut: int) -> int:
    """Return the highest run step of a writer's rows below a cut, -1 when it has none there."""
    offset, writer = seat.placement.step_offset, seat.writer
    c = t.chunks.c
    ((whole,),) = store.fetch(
        sa.select(sa.func.max(c.step_max)).where(
            c.run_pk == writer.run_pk, c.writer_pk == writer.writer_pk, c.step_max < cut - offset
        )
    )
    top = None if whole is None else int(whole)
    for piece in store.read_row_times(
        writer.run_pk,
        writer.writer_pk,
        step_min=None if top is None else top + 1,
        step_max=cut - 1 - offset,
    ):
        top = int(piece.step.max()) if top is None else max(top, int(piece.step.max()))
    return -1 if top is None else top + offset
