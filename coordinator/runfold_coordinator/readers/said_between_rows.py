"""What a writer said between its rows: definitions, manual values, the end; and where that lies among rows
by step.

In: records of one writer, and its rows as its calls closed them. Out: events, each with the step it follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.history.definitions import MetricDefinition, MetricDefinitions
from runfold.protocol.history.summary import SummaryTree, runtime_s
from runfold.protocol.keypath import KeyPath, decode_path
from runfold.protocol.records import ExitRecord, MetricRecord, RecordKind, SummaryRecord
from runfold_coordinator.aggregate.call_rows import NEVER, CallRows
from runfold_coordinator.aggregate.column import Ints
from runfold_coordinator.aggregate.summary_fold import UNLOGGABLE, Event, EventApply, Expansion
from runfold_coordinator.store import tables
from runfold_coordinator.store.model import INSERTED, Block, Column
from runfold_coordinator.store.store import Store

#: The step before all steps.
NOWHERE = -(1 << 63)
EVENT_KINDS = (int(RecordKind.METRIC), int(RecordKind.SUMMARY), int(RecordKind.EXIT))


def read_events(store: Store, writer_pk: int, after: int, upto: int, started_unix_ns: int) -> list[Event]:
    """Return what the writer said beside rows with after < seq <= upto; what does not decode says nothing."""
    c = tables.records.c
    found = store.fetch(
        sa.select(c.seq, c.t_ns, c.kind, c.payload)
        .where(c.writer_pk == writer_pk, c.seq > after, c.seq <= upto, c.kind.in_(EVENT_KINDS))
        .order_by(c.seq)
    )
    events = []
    for row in found:
        try:
            events.append(_event(row.seq, row.t_ns, row.kind, bytes(row.payload), started_unix_ns))
        except ProtocolError:
            continue  # ingest keeps it as a dead letter
    return events


def _event(seq: int, t_ns: int, kind: int, payload: bytes, started_unix_ns: int) -> Event:
    if kind == RecordKind.METRIC:
        said = MetricRecord.unpack(payload).to_map()

        def define(tree: SummaryTree, definitions: MetricDefinitions) -> None:
            path = definitions.apply(said)
            if path is not None:
                tree.configure(path, definitions.get(path) or MetricDefinition())

        return Event(seq, define, definition=said)
    if kind == RecordKind.SUMMARY:
        changes = SummaryRecord.unpack(payload).changes
        return Event(seq, lambda tree, _: tree.apply(changes))
    duration_s = ExitRecord.unpack(payload).runtime_s
    shown = runtime_s(t_ns, started_unix_ns) if duration_s is None else duration_s
    return Event(seq, lambda tree, _: tree.finish(shown), is_end=True)


class SaidBetweenRows:
    """A first pass over rows in the order of seq, so that a second one may go by step.

    Finds for each event the step that it follows, and which keys globs applied to, at the row in which each
    key was first seen.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self.definitions = MetricDefinitions()
        self.expansions: list[Expansion] = []
        self._events = list(events)
        self._places: list[int] = []
        self._newest_step = NOWHERE
        #: Events whose definition has been applied.
        self._applied = 0
        self._bounds = np.array([event.seq for event in events if event.definition is not None], np.int64)
        self._seen: set[tuple[str, int]] = set()
        #: Steps of rows that only late calls made, with the first one's seq.
        self._late: dict[int, int] = {}

    def take(self, blocks: Sequence[Block], rows: CallRows) -> None:
        """Take the next window, and the rows that its calls closed."""
        while len(self._places) < len(self._events):
            at = int(np.searchsorted(rows.commit_seq, self._events[len(self._places)].seq, "right"))
            if at == len(rows.step):
                break
            self._places.append(int(rows.step[at - 1]) if at else self._newest_step)
        if len(rows.step):
            self._newest_step = int(rows.step[-1])
        self._see(blocks, rows)

    def take_late(self, blocks: Sequence[Block]) -> None:
        """Take late calls above all closed rows: each makes a row that is closed at once."""
        self._see(blocks, None)
        for block in blocks:
            for step, seq in zip(block.step.tolist(), block.seq.tolist(), strict=True):
                self._late[step] = min(seq, self._late.get(step, seq))

    def _see(self, blocks: Sequence[Block], rows: CallRows | None) -> None:
        for (key, epoch), (seq, step) in sorted(
            self._sights(blocks, rows).items(), key=lambda s: (s[1], s[0])
        ):
            self._seen.add((key, epoch))
            self._define_before(seq)
            path = decode_path(key)
            found = self.definitions.see(path)
            if found is not None:
                self.expansions.append(Expansion(step, path, found))

    def finish(self) -> list[tuple[int, Event]]:
        """Return each event with the highest step whose row comes before it."""
        self._define_before(NEVER)
        places = list(self._places)
        late = sorted(self._late.items())
        for event in self._events[len(places) :]:
            place = self._newest_step
            for step, seq in late:
                if seq > event.seq:
                    break
                place = max(place, step)
            places.append(place)
        return list(zip(places, self._events, strict=True))

    def _sights(
        self, blocks: Sequence[Block], rows: CallRows | None
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Return where each key is first seen after each change of the definitions: (seq, step)."""
        sights: dict[tuple[str, int], tuple[int, int]] = {}
        for block in blocks:
            for key in block.columns.keys() - UNLOGGABLE:
                for column in block.columns[key]:
                    at, step = _seen_at(block, column, rows)
                    epochs = np.searchsorted(self._bounds, at)
                    for epoch in np.unique(epochs).tolist():
                        if (key, epoch) not in self._seen:
                            inside = np.flatnonzero(epochs == epoch)
                            first = inside[np.argmin(at[inside])]
                            sight = (int(at[first]), int(step[first]))
                            sights[key, epoch] = min(sights.get((key, epoch), sight), sight)
        return sights

    def _define_before(self, seq: int) -> None:
        """Apply definitions said before `seq`, and keep what each came to: globs had their say before it."""
        while self._applied < len(self._events) and self._events[self._applied].seq < seq:
            event = self._events[self._applied]
            if event.definition is not None:
                path = self.definitions.apply(event.definition)
                definition = MetricDefinition() if path is None else self.definitions.get(path)
                self._events[self._applied] = Event(event.seq, _configure(path, definition))
            self._applied += 1


def _configure(path: KeyPath | None, definition: MetricDefinition | None) -> EventApply:
    def apply(tree: SummaryTree, _: MetricDefinitions) -> None:
        if path is not None:
            tree.configure(path, definition or MetricDefinition())

    return apply


def _seen_at(block: Block, column: Column, rows: CallRows | None) -> tuple[Ints, Ints]:
    """Return for each logged cell when its row was closed, or its late call made, as seq; and its step."""
    seq, step, flags = block.seq.view(np.int64), block.step, block.flags
    if column.rows is not None:
        seq, step, flags = seq[column.rows], step[column.rows], flags[column.rows]
    is_call = flags & INSERTED == 0
    if not is_call.all():
        seq, step = seq[is_call], step[is_call]
    if rows is None or not len(rows.step):
        return seq, step
    row = np.minimum(np.searchsorted(rows.step, step), len(rows.step) - 1)
    in_order = (rows.step[row] == step) & (seq >= rows.first_seq[row]) & (seq <= rows.commit_seq[row])
    return np.where(in_order, rows.commit_seq[row], seq), step
