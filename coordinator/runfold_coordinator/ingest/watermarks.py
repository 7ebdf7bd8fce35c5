"""Where each writer stands: its run, the highest seq committed, its counts. Rows of the tables, cached.

A rollback empties the cache, so that what is in it is always what the database says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from runfold.protocol.frames import Envelope, Frame
from runfold.protocol.history.rows import RowFold
from runfold.protocol.history.saved_values import pack_saved, unpack_saved
from runfold.protocol.rows import STEP_GIVEN
from runfold.protocol.values import pack_value
from runfold_coordinator.ingest.row_chunks import Rows
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.writes import Transaction

#: Writers and runs kept; above, the cache starts anew.
CACHE_ENTRIES = 50_000
#: The databases' integers are signed.
MAX_INT = 2**63 - 1


@dataclass(slots=True)
class RunMark:
    """What ingest keeps of a run."""

    run_pk: int
    run_path: str
    last_step: int = -1
    last_record_unix_ns: int = 0
    new_rows: int = 0


@dataclass(slots=True)
class WriterMark:
    """What ingest keeps of a writer. `last_seq` moves in the transaction that stores the records."""

    writer_pk: int
    writer_id: str
    run: RunMark
    last_seq: int = 0
    started_unix_ns: int = 0
    row_count: int = 0
    gap_count: int = 0
    dead_letter_count: int = 0
    given_step_min: int | None = None
    given_step_max: int | None = None
    auto_step_min: int | None = None
    auto_step_max: int | None = None
    last_record_unix_ns: int = 0
    role: str = "process"
    #: Created in this transaction.
    is_new: bool = False
    row_fold: RowFold | None = None
    #: Columns of `writers` that this batch sets, beside the counts.
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def step_max(self) -> int | None:
        steps = [step for step in (self.given_step_max, self.auto_step_max) if step is not None]
        return max(steps, default=None)

    def count_rows(self, rows: Rows) -> None:
        """Take rows into the counts and the ranges of steps."""
        self.row_count += len(rows)
        self.run.new_rows += len(rows)
        self.note_time(int(rows.t_ns.max()))
        given = (rows.flags & STEP_GIVEN).astype(np.bool_)
        if given.all():
            self._note_given(int(rows.step.min()), int(rows.step.max()))
        elif not given.any():
            self._note_auto(int(rows.step.min()), int(rows.step.max()))
        else:
            said, counted = rows.step[given], rows.step[~given]
            self._note_given(int(said.min()), int(said.max()))
            self._note_auto(int(counted.min()), int(counted.max()))

    def _note_given(self, low: int, high: int) -> None:
        self.given_step_min = low if self.given_step_min is None else min(low, self.given_step_min)
        self.given_step_max = high if self.given_step_max is None else max(high, self.given_step_max)
        self.run.last_step = max(self.run.last_step, high)

    def _note_auto(self, low: int, high: int) -> None:
        self.auto_step_min = low if self.auto_step_min is None else min(low, self.auto_step_min)
        self.auto_step_max = high if self.auto_step_max is None else max(high, self.auto_step_max)
        self.run.last_step = max(self.run.last_step, high)

    def note_time(self, t_ns: int) -> None:
        """Take a record's wall clock; the first one stands for the start until the identity says it."""
        t_ns = min(t_ns, MAX_INT)
        self.last_record_unix_ns = max(self.last_record_unix_ns, t_ns)
        self.run.last_record_unix_ns = max(self.run.last_record_unix_ns, t_ns)

    def to_row(self) -> dict[str, Any]:
        """Return the columns that every batch updates."""
        return {
            "writer_pk": self.writer_pk,
            "last_seq": self.last_seq,
            "row_count": self.row_count,
            "gap_count": self.gap_count,
            "dead_letter_count": self.dead_letter_count,
            "given_step_min": self.given_step_min,
            "given_step_max": self.given_step_max,
            "auto_step_min": self.auto_step_min,
            "auto_step_max": self.auto_step_max,
            "last_record_unix_ns": self.last_record_unix_ns,
        }


_WRITER_COLUMNS = (
    "writer_pk",
    "writer_id",
    "last_seq",
    "started_unix_ns",
    "row_count",
    "gap_count",
    "dead_letter_count",
    "given_step_min",
    "given_step_max",
    "auto_step_min",
    "auto_step_max",
    "last_record_unix_ns",
    "role",
)


class Watermarks:
    """Cache of one partition's writers and runs. Not thread-safe: for the ingest thread's transactions."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._writers: dict[bytes, WriterMark] = {}
        self._runs: dict[str, RunMark] = {}

    def forget(self) -> None:
        """After a rollback."""
        self._writers.clear()
        self._runs.clear()

    def load(
        self, tx: Transaction, frames: Iterable[Frame | Envelope], now_unix_s: float
    ) -> dict[bytes, WriterMark]:
        """Return the marks of the frames' writers, creating writers and runs that are new."""
        wanted = {frame.writer: frame.run_path for frame in frames}
        if len(self._writers) > CACHE_ENTRIES or len(self._runs) > CACHE_ENTRIES:
            self.forget()
        missing = [writer for writer in wanted if writer not in self._writers]
        for some in in_slices(missing):
            self._load_writers(tx, some)
        new = {writer: path for writer, path in wanted.items() if writer not in self._writers}
        if new:
            self._create_writers(tx, new, now_unix_s)
        return {writer: self._writers[writer] for writer in wanted}

    def _load_writers(self, tx: Transaction, writers: Sequence[bytes]) -> None:
        c = t.writers.c
        run = t.runs.c
        statement = (
            sa.select(
                *(c[name] for name in _WRITER_COLUMNS),
                c.row_fold,
                run.run_pk,
                run.entity,
                run.project,
                run.run_id,
                run.last_step,
                run.last_record_unix_ns.label("run_last_record_unix_ns"),
            )
            .join(t.runs, run.run_pk == c.run_pk)
            .where(c.writer_id.in_([writer.hex() for writer in writers]))
        )
        for row in tx.connection.execute(statement):
            path = f"{row.entity}/{row.project}/{row.run_id}"
            mark = self._runs.setdefault(
                path, RunMark(row.run_pk, path, row.last_step, row.run_last_record_unix_ns)
            )
            facts = {name: getattr(row, name) for name in _WRITER_COLUMNS}
            fold = None if row.row_fold is None else RowFold.from_state(unpack_saved(bytes(row.row_fold)))
            self._writers[bytes.fromhex(row.writer_id)] = WriterMark(run=mark, row_fold=fold, **facts)

    def _create_writers(self, tx: Transaction, new: dict[bytes, str], now_unix_s: float) -> None:
        for path in dict.fromkeys(new.values()):
            if path not in self._runs:
                self._runs[path] = _find_or_create_run(tx, path, now_unix_s)
        first = tx.new_ids(len(new))
        rows = []
        for writer_pk, (writer, path) in enumerate(new.items(), first):
            mark = WriterMark(writer_pk, writer.hex(), self._runs[path], is_new=True)
            self._writers[writer] = mark
            rows.append(
                mark.to_row()
                | {
                    "writer_id": mark.writer_id,
                    "run_pk": mark.run.run_pk,
                    "partition": self._partition,
                    "started_unix_ns": 0,
                    "head_seq": 0,
                    "last_seen_unix_s": now_unix_s,
                    "state": "running",
                    "reason": "",
                    "unreachable": False,
                }
            )
        tx.insert(t.writers, rows)

    def save(self, tx: Transaction, marks: Iterable[WriterMark], now_unix_s: float) -> None:
        """Write the marks back."""
        marks = list(marks)
        tx.update_by_pk(t.writers, [mark.to_row() for mark in marks])
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for mark in marks:
            if mark.row_fold is not None:
                mark.changes["row_fold"] = pack_saved(mark.row_fold.to_state())
            if mark.changes:
                row = {"writer_pk": mark.writer_pk} | mark.changes
                by_columns.setdefault(tuple(sorted(row)), []).append(row)
                mark.changes.clear()
        for rows in by_columns.values():
            tx.update_by_pk(t.writers, rows)
        runs = {mark.run.run_pk: mark.run for mark in marks}
        c = t.runs.c
        tx.connection.execute(
            sa.update(t.runs)
            .where(c.run_pk == sa.bindparam("b_pk"))
            .values(
                row_count=c.row_count + sa.bindparam("b_rows"),
                version=c.version + 1,
                last_step=sa.bindparam("b_step"),
                last_record_unix_ns=sa.bindparam("b_t_ns"),
                updated_unix_s=sa.bindparam("b_now"),
            ),
            [
                {
                    "b_pk": run.run_pk,
                    "b_rows": run.new_rows,
                    "b_step": run.last_step,
                    "b_t_ns": run.last_record_unix_ns,
                    "b_now": now_unix_s,
                }
                for run in runs.values()
            ],
        )
        for run in runs.values():
            run.new_rows = 0
            tx.touch(run.run_pk)


def _find_or_create_run(tx: Transaction, path: str, now_unix_s: float) -> RunMark:
    entity, project, run_id = (clean_text(part) for part in path.split("/", 2))
    c = t.runs.c
    found = tx.connection.execute(
        sa.select(c.run_pk, c.last_step, c.last_record_unix_ns).where(
            c.entity == entity, c.project == project, c.run_id == run_id
        )
    ).one_or_none()
    if found is not None:
        return RunMark(found.run_pk, path, found.last_step, found.last_record_unix_ns)
    mark = RunMark(tx.new_ids(), path)
    row = {
        "run_pk": mark.run_pk,
        "entity": entity,
        "project": project,
        "run_id": run_id,
        "mode": "grouped",
        "tags_json": [],
        "config_json": {},
        "summary_json": {},
        "state": "running",
        "reason": "",
        "unreachable": False,
        "started_unix_ns": 0,
        "updated_unix_s": now_unix_s,
        "last_record_unix_ns": 0,
        "last_step": -1,
        "row_count": 0,
        "version": 0,
        "projection": pack_value({}),
    }
    tx.insert(t.runs, [row])
    return mark
