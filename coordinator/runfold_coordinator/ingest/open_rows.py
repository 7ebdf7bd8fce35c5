"""The row that a writer left open when it died without an exit record: completed as its end would have done.

In: writers as just judged, inside that transaction. Out: chunks of the step metrics that finish() would
insert; taken back when the writer turns out to live, or says more. A function of its records and its state.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.history.rows import RowFold
from runfold.protocol.history.saved_values import unpack_saved
from runfold.protocol.keypath import encode_path
from runfold_coordinator.ingest.row_chunks import ChunkBuilder
from runfold_coordinator.ingest.step_sync import inserted_cells
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.writes import OPEN_ROW_TIER, Transaction


@dataclass(frozen=True, slots=True)
class Ending:
    """A writer with step metrics, as judged."""

    writer_pk: int
    last_seq: int
    #: State of its RowFold, as stored.
    row_fold: bytes
    #: Terminal without having said so.
    has_died: bool


class OpenRows:
    """What is stored of open rows. Not thread-safe: for the ingest thread's transactions."""

    def __init__(self) -> None:
        #: By writer: the last seq at which its open row was completed; None: it is not.
        self._done: dict[int, int | None] = {}

    def forget(self) -> None:
        """After a rollback."""
        self._done.clear()

    def settle(self, tx: Transaction, run_pk: int, endings: Collection[Ending]) -> None:
        """Make the chunks fit the states."""
        wanted = {e.writer_pk: e.last_seq if e.has_died else None for e in endings}
        moved = [e for e in endings if self._done.get(e.writer_pk, -1) != wanted[e.writer_pk]]
        if not moved:
            return
        _delete(tx, [e.writer_pk for e in moved])
        for ending in moved:
            if ending.has_died:
                _complete(tx, run_pk, ending)
            self._done[ending.writer_pk] = wanted[ending.writer_pk]


def _delete(tx: Transaction, writer_pks: Collection[int]) -> None:
    c = t.chunks.c
    listed = sorted(writer_pks)
    for some in in_slices(listed):
        tx.connection.execute(sa.delete(t.chunks).where(c.tier == OPEN_ROW_TIER, c.writer_pk.in_(some)))


def _complete(tx: Transaction, run_pk: int, ending: Ending) -> None:
    state: Any = unpack_saved(ending.row_fold)
    cells = inserted_cells(RowFold.from_state(state).finish(ending.last_seq + 1))
    if cells:
        keys = tx.names.key_pks(tx.connection, [encode_path(found.path) for found in cells])
        builder = ChunkBuilder(tx, run_pk, ending.writer_pk, tier=OPEN_ROW_TIER)
        builder.add_inserted(cells, keys)
        tx.insert_chunks(builder.chunks)  # a row and a value: always in the chunk's own row
