"""The summary of a run that has one writer: its rows, definitions and manual values folded as W&B's client
does.

In: the store's blocks and records of the writer. Out: `WriterSummary`, which goes on where it stopped; rows
that come late make it start again, in the order of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from runfold.protocol.history.definitions import MetricDefinitions
from runfold.protocol.history.summary import SummaryTree
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.aggregate.call_rows import NEVER, CallRows, rows_of_calls
from runfold_coordinator.aggregate.rows import merge_blocks
from runfold_coordinator.aggregate.summary_fold import RowsFold
from runfold_coordinator.readers.run_lanes import RunLanes, Seat
from runfold_coordinator.readers.said_between_rows import SaidBetweenRows, read_events
from runfold_coordinator.readers.seq_windows import (
    calls_of,
    cut_blocks,
    keep_rows,
    logged_steps,
    windows_by_seq,
)
from runfold_coordinator.readers.step_windows import read_spans
from runfold_coordinator.store.model import Block
from runfold_coordinator.store.store import Store

#: Cells of a window; a few times as many bytes as 8 times this are in use while one is folded.
MAX_WINDOW_CELLS = 500_000
#: Steps stay as the writer counted them: a run's only writer is its first attempt.
ALONE = Placement(1)
#: States of a process that will say nothing more.
TERMINAL_STATES = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


class WriterSummary:
    """One writer's fold. `catch_up` takes what the store has more than last time. Not thread-safe."""

    def __init__(self, run_pk: int, writer_pk: int, started_unix_ns: int) -> None:
        self.run_pk = run_pk
        self.writer_pk = writer_pk
        self._started_unix_ns = started_unix_ns
        self._fold = RowsFold(started_unix_ns)
        #: Rows up to this seq are in the fold; what is stored above is one open row, or new.
        self._seq = 0
        #: Definitions and manual values up to this seq are in the fold.
        self._event_seq = 0
        self._frontier: int | None = None
        #: True when the writer's death closed a row: should it speak again, that was wrong.
        self._closed_by_death = False
        #: The open row and what was said since it was begun; known after a catch_up only.
        self._open_step: int | None = None
        self._open_blocks: list[Block] = []

    def is_of(self, other: WriterSummary) -> bool:
        """Tell whether both fold the same: the writer, and the moment from which `_runtime` counts."""
        return (self.writer_pk, self._started_unix_ns) == (other.writer_pk, other._started_unix_ns)

    @property
    def tree(self) -> SummaryTree:
        """The summary so far."""
        return self._fold.tree

    def catch_up(self, store: Store, lanes: RunLanes, seat: Seat) -> Self:
        """Return the fold up to the writer's watermark: this object, or a new one when rows came late."""
        writer, upto = seat.writer, seat.writer.last_seq
        has_died = writer.exit is None and writer.state in TERMINAL_STATES
        if self._closed_by_death and not (has_died and upto == self._event_seq):
            return self._anew().catch_up(store, lanes, seat)
        events = read_events(store, self.writer_pk, self._event_seq, upto, self._started_unix_ns)
        end_seq = next((event.seq for event in events if event.is_end), upto + 1 if has_died else None)
        waiting = events
        for blocks, rows in self._closed_rows(store, upto, end_seq):
            if rows.is_late.any():
                return self._anew().fold_by_step(store, lanes, upto, end_seq)
            if len(rows.step):
                places = np.searchsorted(rows.commit_seq, [event.seq for event in waiting], "right").tolist()
                # those behind the last closed row wait: the next window may have rows that come before them
                now = [(at, event) for at, event in zip(places, waiting, strict=True) if at < len(rows.step)]
                waiting = waiting[len(now) :]
                self._fold.take(merge_blocks(blocks, ALONE), now, logged_steps=logged_steps(blocks))
        for event in waiting:
            event.apply(self._fold.tree, self._fold.definitions)
        self._event_seq = upto
        return self

    def _closed_rows(
        self, store: Store, upto: int, end_seq: int | None
    ) -> Iterator[tuple[list[Block], CallRows]]:
        """Yield windows of calls with the rows that they closed, and move the watermark and the frontier."""
        stored = store.read_blocks(self.run_pk, self.writer_pk, seq_after=self._seq, seq_max=upto)
        windows = windows_by_seq(stored, MAX_WINDOW_CELLS)
        held: list[Block] = []
        window = next(windows, None)
        while window is not None:
            following = next(windows, None)
            blocks = [*held, *window]
            rows = rows_of_calls(*calls_of(blocks), self._frontier)
            if following is None and end_seq is not None and len(rows.step) and rows.commit_seq[-1] == NEVER:
                rows.commit_seq[-1] = end_seq
                self._closed_by_death = end_seq > upto
            closed = int(np.searchsorted(rows.commit_seq, NEVER))
            is_open = closed < len(rows.step)
            first_open = int(rows.first_seq[closed]) if is_open else None
            self._open_step = int(rows.step[closed]) if is_open else None
            yield cut_blocks(blocks, None, first_open), rows.head(closed)
            if closed:
                self._frontier = int(rows.step[closed - 1])
            newest = max(int(block.seq[-1]) for block in blocks)
            self._seq = newest if first_open is None else first_open - 1
            held = [] if first_open is None else cut_blocks(blocks, first_open, None)
            self._open_blocks = held
            window = following

    def fold_by_step(self, store: Store, lanes: RunLanes, upto: int, end_seq: int | None) -> Self:
        """Fold all rows in the order of steps, into an empty fold.

        What was said between rows keeps its place among those that came in order.
        """
        said = SaidBetweenRows(read_events(store, self.writer_pk, 0, upto, self._started_unix_ns))
        for blocks, closed in self._closed_rows(store, upto, end_seq):
            said.take(blocks, closed)
        last_step = self._frontier
        if self._open_step is not None:  # late calls beside the open row make rows of their own below it
            said.take_late([keep_rows(block, block.step < self._open_step) for block in self._open_blocks])
            last_step = self._open_step - 1
        waiting = said.finish()
        width = max(1, len(lanes.keys) + 3)
        for low, high in read_spans(store, lanes).windows(MAX_WINDOW_CELLS // width):
            if last_step is None or low > last_step:
                break
            stored = store.read_blocks(
                self.run_pk, self.writer_pk, seq_max=upto, step_min=low, step_max=min(high - 1, last_step)
            )
            rows = merge_blocks(list(stored), ALONE)
            now = [(step, event) for step, event in waiting if step < high]
            waiting = waiting[len(now) :]
            expansions = [e for e in said.expansions if low <= e.step < high]
            places = np.searchsorted(rows.step, [step for step, _ in now], "right").tolist()
            self._fold.take(rows, list(zip(places, [event for _, event in now], strict=True)), expansions)
        for _, event in waiting:
            event.apply(self._fold.tree, self._fold.definitions)
        self._fold.definitions = said.definitions
        self._event_seq = upto
        return self

    def _anew(self) -> Self:
        return type(self)(self.run_pk, self.writer_pk, self._started_unix_ns)

    def to_state(self) -> list[Any]:
        """Return all of it as a msgpack-able value."""
        return [
            self.run_pk,
            self.writer_pk,
            self._started_unix_ns,
            self._seq,
            self._event_seq,
            self._frontier,
            self._closed_by_death,
            self._fold.definitions.to_state(),
            self._fold.tree.to_state(),
        ]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """Rebuild what to_state() returned."""
        run_pk, writer_pk, started_unix_ns, *rest = state
        restored = cls(run_pk, writer_pk, started_unix_ns)
        restored._seq, restored._event_seq, restored._frontier, restored._closed_by_death, *folds = rest
        definitions, tree = folds
        restored._fold = RowsFold(
            started_unix_ns, SummaryTree.from_state(tree), MetricDefinitions.from_state(definitions)
        )
        return restored
