"""How fast each writer steps: the median time of a step over its newest rows, read a few rows at a time.

In: writers of one run as the catalogue has them. Out: seconds a step by writer_pk. What was read is kept, so
that asking every second reads what is new only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import Chunk
from runfold_coordinator.store.history_reads import part_fetcher
from runfold_coordinator.store.model import I64, U64, WriterRow
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

#: Steps that the median is over.
STEPS = 32
#: Rows looked at in one chunk: where a step has many log() calls, these hold fewer steps.
ROWS = 1024
#: Newest chunks that are looked at, all writers together, but for two of each: a trainer whose steps take a
#: second has one row in each.
CHUNKS = 512
#: Writers remembered; those asked for longest ago go first.
MAX_WRITERS = 20_000


@dataclass(slots=True)
class _Tail:
    """A writer's newest steps: (step, t_ns of its first row), both ascending; rows up to `seq` are in it."""

    seq: int = 0
    points: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=STEPS + 1))
    #: What the points make.
    step_s: float | None = None


class StepPace:
    """Remembers the newest steps of writers. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._tails: OrderedDict[int, _Tail] = OrderedDict()

    def step_times(self, writers: Sequence[WriterRow]) -> dict[int, float]:
        """Return seconds a step by writer_pk; a writer with fewer than two steps is left out."""
        with self._lock:
            behind = []
            for writer in writers:
                tail = self._tails.setdefault(writer.writer_pk, _Tail())
                self._tails.move_to_end(writer.writer_pk)
                if writer.row_count and writer.last_seq > tail.seq:
                    behind.append(writer)
            self._read(behind)
            found = {writer.writer_pk: self._tails[writer.writer_pk].step_s for writer in writers}
            while len(self._tails) > max(MAX_WRITERS, len(writers)):
                self._tails.popitem(last=False)
        return {pk: seconds for pk, seconds in found.items() if seconds is not None}

    def _read(self, writers: Sequence[WriterRow]) -> None:
        if not writers:
            return
        last_seq = {writer.writer_pk: writer.last_seq for writer in writers}
        with self._store.snapshot() as connection:
            wanted: list[int] = []
            most = max(2, min(STEPS + 1, CHUNKS // max(1, len(writers))))
            for some in in_slices(writers):
                pks = [writer.writer_pk for writer in some]
                wanted += self._newest_chunks(connection, pks, most)
            for chunk_pks in in_slices(wanted):
                for row in _chunks(connection, chunk_pks):
                    chunk = Chunk(row.directory, part_fetcher(connection, row))
                    add_rows(self._tails[row.writer_pk], chunk.seq, chunk.step, chunk.t_ns)
        for writer_pk, seq in last_seq.items():
            tail = self._tails[writer_pk]
            # What comes next is read from here on; records that are no rows count too.
            tail.seq = max(seq, tail.seq)
            tail.step_s = step_time_s(tail.points)

    def _newest_chunks(self, connection: sa.Connection, writer_pks: Sequence[int], most: int) -> list[int]:
        """Return those of each writer's `most` newest chunks that hold rows not read yet."""
        c, inner = t.chunks.c, t.chunks.alias().c
        since = (
            sa.select(inner.seq_lo)
            .where(inner.writer_pk == t.writers.c.writer_pk)
            .order_by(inner.seq_lo.desc())
            .limit(1)
            .offset(most - 1)
            .correlate(t.writers)
            .scalar_subquery()
        )
        rows = connection.execute(
            sa.select(c.chunk_pk, c.writer_pk, c.seq_hi, c.n)
            .select_from(t.writers.join(t.chunks, c.writer_pk == t.writers.c.writer_pk))
            .where(t.writers.c.writer_pk.in_(writer_pks), c.seq_lo >= sa.func.coalesce(since, 0))
            # Rows of cold files are a day old: nothing of a run that goes on.
            .where(c.cold_file_pk.is_(None))
            .order_by(c.writer_pk, c.seq_hi.desc())
        )
        wanted, covered = [], dict.fromkeys(writer_pks, 0)
        for row in rows:
            if row.seq_hi > self._tails[row.writer_pk].seq and covered[row.writer_pk] <= STEPS:
                wanted.append(row.chunk_pk)
                covered[row.writer_pk] += row.n
        return wanted


def _chunks(connection: sa.Connection, chunk_pks: Sequence[int]) -> Sequence[Any]:
    c = t.chunks.c
    return connection.execute(
        sa.select(c.chunk_pk, c.writer_pk, c.directory, c.data)
        .where(c.chunk_pk.in_(chunk_pks))
        .order_by(c.writer_pk, c.seq_hi)
    ).all()


def add_rows(tail: _Tail, seq: U64, step: I64, t_ns: U64) -> None:
    """Add the steps that a chunk's newest rows begin; a step that was begun before begins no more."""
    seq, step, t_ns = seq[-ROWS:], step[-ROWS:], t_ns[-ROWS:]
    highest = np.maximum.accumulate(step)
    begins = np.ones(len(step), bool)
    begins[1:] = step[1:] > highest[:-1]
    begins &= seq > np.uint64(tail.seq)
    if tail.points:
        begins &= step > tail.points[-1][0]
    at = np.flatnonzero(begins)[-STEPS - 1 :]
    tail.points.extend(zip(step[at].tolist(), t_ns[at].tolist(), strict=True))


def step_time_s(points: Sequence[tuple[int, int]]) -> float | None:
    """Return the median time of a step, where a writer logs every n-th step a part of the time between.

    Pairs over which its clock went backwards are left out. None with fewer than two steps.
    """
    times = [
        (t_ns - before_ns) / (step - before) / 1e9
        for (before, before_ns), (step, t_ns) in zip(points, list(points)[1:], strict=False)
        if t_ns > before_ns
    ]
    return median(times) if times else None
