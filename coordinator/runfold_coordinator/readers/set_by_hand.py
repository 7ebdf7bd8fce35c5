"""Summary values that writers of one run set by hand: which of them stand. In: lanes. Out: (path, value)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runfold.protocol.errors import ProtocolError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.path_index import Overlay
from runfold.protocol.records import RecordKind, SummaryRecord
from runfold_coordinator.readers.run_lanes import RunLanes, Seat
from runfold_coordinator.store.model import RecordRow
from runfold_coordinator.store.store import Store


def set_by_hand(store: Store, lanes: RunLanes) -> list[tuple[KeyPath, Any]]:
    """Return what writers set by hand and did not delete: the primary's stands, before it the newest.

    Deleting takes away what was set by hand; what several writers logged stays. What was said after the step
    to which a run was rewound, or of which it was forked, is of the old branch, and does not count.
    """
    primary = lanes.run.primary_writer_pk
    by_hand: Overlay[Any] = Overlay()
    for record in sorted(
        _records(store, lanes), key=lambda r: (r.writer_pk == primary, r.t_ns, r.writer_pk, r.seq)
    ):
        try:
            changes = SummaryRecord.unpack(record.payload).changes
        except ProtocolError:
            continue  # ingest keeps it as a dead letter
        for change in changes:
            path = tuple(change[1])
            if len(change) == 2:
                by_hand.delete(path)
            elif change[2] is None or change[2] != change[2]:
                by_hand.clear(path)
            else:
                by_hand.set(path, change[2])
    return list(by_hand.items())


def _records(store: Store, lanes: RunLanes) -> Iterator[RecordRow]:
    seats = {seat.writer.writer_pk: seat for seat in lanes.seats}
    ends: dict[int, int | None] = {}
    for run_pk in lanes.run_pks:
        for record in store.records(run_pk, [RecordKind.SUMMARY]):
            seat = seats.get(record.writer_pk)
            if seat is None:
                if run_pk == lanes.run.run_pk:
                    yield record
                continue  # of a base: said by a writer that began after the fork
            if record.writer_pk not in ends:
                ends[record.writer_pk] = _end_of_branch(store, seat)
            end = ends[record.writer_pk]
            if end is None or record.seq < end:
                yield record


def _end_of_branch(store: Store, seat: Seat) -> int | None:
    """Return the seq of the first row that a rewind took back, or that is not a fork's; None: none is."""
    if seat.placement.rewound_step is None:
        return None
    step = seat.placement.rewound_step - seat.placement.step_offset
    end: int | None = None
    while True:
        # Stored pieces interleave: look whether another has an earlier one, until none has.
        found = store.read_row_times(
            seat.writer.run_pk,
            seat.writer.writer_pk,
            step_min=step,
            seq_max=None if end is None else end - 1,
        )
        first = next(iter(found), None)
        if first is None:
            return end
        end = int(first.seq[0])
