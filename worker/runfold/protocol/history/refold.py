"""Folds a writer's rows again in step order, after late calls have changed rows that were already folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from runfold.protocol.history.rows import CommittedRow, merge_cells
from runfold.protocol.history.summary import SummaryTree
from runfold.protocol.history.writer_fold import Event, observe_committed


def rows_in_step_order(rows: Iterable[CommittedRow]) -> list[CommittedRow]:
    """Merge late rows into the rows of their steps: one row a step, ascending; the highest seq wins per key.

    Args:
        rows: As RowFold gave them, in that order.
    """
    by_step: dict[int, CommittedRow] = {}
    for row in rows:
        there = by_step.get(row.step)
        if there is None:
            by_step[row.step] = replace(row, cells=dict(row.cells))
            continue
        merge_cells(there.cells, row.cells.items())
        there.seq, there.t_ns = row.seq, row.t_ns
        there.expanded += row.expanded
    ordered = [by_step[step] for step in sorted(by_step)]
    # A step that only late calls logged counts as committed together with the row after it: events keep their
    # places among the rows that came in order.
    following = None
    for row in reversed(ordered):
        if row.late and following is not None:
            row.commit_seq = following
        elif not row.late:
            following = row.commit_seq
    return ordered


def summary_in_step_order(
    rows: Iterable[CommittedRow], events: Sequence[Event], started_unix_ns: int
) -> SummaryTree:
    """Return the summary of a writer's merged rows.

    Args:
        rows: As RowFold gave them, in that order.
        events: Definitions, manual values and the end, by seq: each comes before the rows committed after it.
    """
    summary = SummaryTree()
    waiting = iter(events)
    event = next(waiting, None)
    for row in rows_in_step_order(rows):
        while event is not None and event[0] < row.commit_seq:
            event[1](summary)
            event = next(waiting, None)
        observe_committed(summary, row, started_unix_ns)
    while event is not None:
        event[1](summary)
        event = next(waiting, None)
    return summary
