"""WriterFold: everything that one writer said, in seq order, to its rows and its summary.

In: blocks and records as spools and frames hold them. Out: summary, rows, and what a refold needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from runfold.protocol.blocks import RowBlock
from runfold.protocol.errors import ProtocolError
from runfold.protocol.history.definitions import MetricDefinition
from runfold.protocol.history.leaf import LeafBatch, digest_numbers
from runfold.protocol.history.rows import BlockTake, CommittedRow, RowFold
from runfold.protocol.history.seq_order import BlockSlice, in_seq_order
from runfold.protocol.history.summary import (
    RUNTIME,
    STEP,
    TIMESTAMP,
    SummaryTree,
    runtime_s,
    timestamp_unix_s,
)
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import ExitRecord, MetricRecord, Record, RecordKind, RowMap, SummaryRecord

#: What happened to the summary beside the rows; called at refold in the order of seq.
Event = tuple[int, Callable[[SummaryTree], None]]


class WriterFold:
    """Rows and summary of one writer, folded as its records come. Not thread-safe.

    Late rows are taken into the summary as well as running statistics allow and set `is_late`; exact again is
    what `refold.summary_in_step_order` makes of a fold that kept its rows.
    """

    def __init__(self, started_unix_ns: int, *, keep_rows: bool = False) -> None:
        self.started_unix_ns = started_unix_ns
        self.rows = RowFold()
        self.summary = SummaryTree()
        #: True once a row has come below the writer's current step.
        self.is_late = False
        #: Everything folded so far, kept only on request.
        self.kept_rows: list[CommittedRow] | None = [] if keep_rows else None
        self.kept_events: list[Event] = []

    def feed(self, blocks: Iterable[RowBlock], others: Iterable[Record]) -> None:
        """Take the next batch, contiguous with what was fed before. Undecodable records are passed over."""
        self.feed_pieces(in_seq_order(blocks, others))

    def feed_pieces(self, pieces: Iterable[BlockSlice | Record]) -> None:
        """Take what comes next, in the order of seq."""
        for item in pieces:
            if isinstance(item, BlockSlice):
                self._feed_slice(item)
                continue
            try:
                self._feed_record(item)
            except ProtocolError:
                continue  # the coordinator keeps it as a dead letter; here nothing can be said of it

    def finish(self, seq: int, duration_s: float | None) -> None:
        """Take the end of the writer: close its pending row, show the whole duration."""
        self._take_rows(self.rows.finish(seq))
        if duration_s is not None:
            self._event(seq, lambda summary: summary.finish(duration_s))

    def _feed_record(self, record: Record) -> None:
        seq, payload = record.seq, record.payload
        match record.kind:
            case RecordKind.ROW_MAP:
                row = RowMap.unpack(payload)
                self._take_rows(self.rows.call(seq, row.step, record.flags, record.t_ns, row.values))
            case RecordKind.METRIC:
                path = self.rows.define(MetricRecord.unpack(payload))
                if path is not None:
                    self._configure(seq, path, self.rows.definitions.get(path) or MetricDefinition())
            case RecordKind.SUMMARY:
                changes = SummaryRecord.unpack(payload).changes
                self._event(seq, lambda summary: summary.apply(changes))
            case RecordKind.EXIT:
                said = ExitRecord.unpack(payload)
                self.finish(
                    seq,
                    runtime_s(record.t_ns, self.started_unix_ns)
                    if said.runtime_s is None
                    else said.runtime_s,
                )

    def _configure(self, seq: int, path: KeyPath, definition: MetricDefinition) -> None:
        self._event(seq, lambda summary: summary.configure(path, definition))

    def _event(self, seq: int, event: Callable[[SummaryTree], None]) -> None:
        event(self.summary)
        if self.kept_rows is not None:
            self.kept_events.append((seq, event))

    def _take_rows(self, rows: Iterable[CommittedRow]) -> None:
        for row in rows:
            self.is_late = self.is_late or row.late
            if self.kept_rows is not None:
                self.kept_rows.append(row)
            observe_committed(self.summary, row, self.started_unix_ns)

    def _feed_slice(self, piece: BlockSlice) -> None:
        start = piece.start
        if self.kept_rows is None and piece.stop - start > 1:
            start = self._feed_whole(piece)
        block = piece.block
        for at in range(start, piece.stop):
            cells = block.cells(at)
            self._take_rows(
                self.rows.call(block.seqs[at], block.steps[at], block.flags[at], block.t_ns[at], cells)
            )

    def _feed_whole(self, piece: BlockSlice) -> int:
        """Take as many rows of the slice as possible at once; return the first that was not taken."""
        block, start, stop = piece.block, piece.start, piece.stop
        steps = block.steps[start:stop]
        columns = [column[start:stop] for column in block.columns]
        taken = self.rows.take_block(
            block.paths,
            block.kinds,
            columns,
            steps,
            flags=block.flags[start],
            increasing=all(map(operator.lt, steps, islice(steps, 1, None))),
            first_seq=piece.seq,
        )
        if taken is None:
            return start
        if taken.before is not None:
            self._take_rows([taken.before])
        self._observe_block(BlockSlice(block, start, start + taken.count), taken)
        return start + taken.count

    def _observe_block(self, piece: BlockSlice, taken: BlockTake) -> None:
        for path, definition in taken.expanded:
            self.summary.configure(path, definition)
        block, rows = piece.block, slice(piece.start, piece.stop)
        steps = block.steps[rows]
        bounds = (steps[0], steps[-1])
        for path, kind, column in zip(block.paths, block.kinds, block.columns, strict=True):
            values = column[rows]
            if kind == "?":
                self.summary.leaf(path).observe_batch(LeafBatch(bool(values[0]), bool(values[-1]), *bounds))
            else:
                self._observe_numbers(path, list(values), kind, bounds)
        for path, value in taken.inserted:
            kind = "d" if isinstance(value, float) else "q"
            self._observe_numbers(path, [value] * taken.count, kind, bounds)
        t_ns, started = block.t_ns[rows], self.started_unix_ns
        self._observe_numbers(STEP, list(steps), "q", bounds)
        if TIMESTAMP not in block.paths:
            self._observe_numbers(TIMESTAMP, list(map(timestamp_unix_s, t_ns)), "d", bounds)
        runtimes = [runtime_s(t, started) for t in t_ns]
        self._observe_numbers(RUNTIME, runtimes, "d", bounds)
        self.summary.observe_runtime_shown(runtimes[-1])

    def _observe_numbers(self, path: KeyPath, values: list[Any], kind: str, bounds: tuple[int, int]) -> None:
        leaf = self.summary.leaf(path)
        leaf.observe_batch(digest_numbers(values, kind, *bounds, leaf.total))


def observe_committed(summary: SummaryTree, row: CommittedRow, started_unix_ns: int) -> None:
    """Take one committed row into a summary."""
    for path, definition in row.expanded:
        summary.configure(path, definition)
    summary.observe_row(
        row.step,
        row.cells.items(),
        timestamp=timestamp_unix_s(row.t_ns),
        runtime=runtime_s(row.t_ns, started_unix_ns),
    )
