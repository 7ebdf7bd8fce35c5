"""The catalogue rows of runs, kept up to date as their records come. Cached; a rollback empties the cache."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import sqlalchemy as sa

from runfold.protocol.branching import FORK, REWIND
from runfold.protocol.errors import ProtocolError
from runfold.protocol.identity import Identity
from runfold.protocol.records import ConfigRecord, MetricRecord, Record, RecordKind, RunRecord
from runfold_coordinator.edits.said import Place
from runfold_coordinator.edits.stored import clean_or_none, edits_of, filter_columns
from runfold_coordinator.ingest.catalog import Projection, project
from runfold_coordinator.ingest.dead_letters import decode_record
from runfold_coordinator.ingest.writer_words import WriterWords
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.branch_tables import branches
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.writes import Transaction

#: Runs whose records stay decoded in memory.
CACHED_RUNS = 256
#: Kinds that make the projection.
KINDS = (RecordKind.WRITER, RecordKind.RUN, RecordKind.CONFIG, RecordKind.METRIC)
_PAYLOADS = (Identity, RunRecord, ConfigRecord, MetricRecord)


class RunCatalogs:
    """Projections of one partition's runs. Not thread-safe: for the ingest thread's transactions."""

    def __init__(self) -> None:
        self._runs: OrderedDict[int, dict[int, WriterWords]] = OrderedDict()
        self._changed: set[int] = set()

    def forget(self) -> None:
        """After a rollback."""
        self._runs.clear()
        self._changed.clear()

    def open_run(self, tx: Transaction, run_pk: int) -> None:
        """Load what is stored of a run; to be called before new records of it are written or heard."""
        if run_pk in self._runs:
            self._runs.move_to_end(run_pk)
            return
        self._runs[run_pk] = words = {}
        c = t.writers.c
        known = tx.connection.execute(
            sa.select(c.writer_pk, c.writer_id, c.started_unix_ns).where(c.run_pk == run_pk)
        )
        for writer in known:
            words[writer.writer_pk] = WriterWords(writer.writer_pk, writer.writer_id, writer.started_unix_ns)
        r = t.records.c
        found = tx.connection.execute(
            sa.select(r.writer_pk, r.seq, r.t_ns, r.kind, r.flags, r.payload)
            .where(r.run_pk == run_pk, r.kind.in_([int(kind) for kind in KINDS]))
            .order_by(r.writer_pk, r.seq)
        )
        for row in found:
            record = Record(row.seq, row.t_ns, row.kind, row.flags, bytes(row.payload))
            try:
                words[row.writer_pk].hear(decode_record(record), Place(row.seq, row.t_ns))
            except ProtocolError:  # stored raw by a version that knew less
                continue
        while len(self._runs) > CACHED_RUNS and not self._changed:
            self._runs.popitem(last=False)

    def hear(  # noqa: PLR0917 - a record and whose it is
        self,
        run_pk: int,
        writer_pk: int,
        writer_id: str,
        payload: Any,
        first_t_ns: int,
        place: Place = Place(0, 0),
    ) -> None:
        """Take a decoded record of an opened run, and where it was said."""
        words = self._runs[run_pk]
        writer = words.get(writer_pk)
        if writer is None:
            writer = words[writer_pk] = WriterWords(writer_pk, writer_id, first_t_ns)
            self._changed.add(run_pk)
        if isinstance(payload, _PAYLOADS):
            writer.hear(payload, place)
            self._changed.add(run_pk)

    def save(self, tx: Transaction) -> None:
        """Write the projections that changed. The rows of their runs are ours already (Watermarks.save), so
        that nobody edits them meanwhile.
        """
        edits = edits_of(tx.connection, self._changed) if self._changed else {}
        for run_pk in sorted(self._changed):
            found = project(self._runs[run_pk].values(), edits.get(run_pk, ()))
            row = {
                "run_pk": run_pk,
                "mode": found.mode,
                "primary_writer_pk": found.primary_writer_pk,
                "started_unix_ns": found.started_unix_ns,
                "program": clean_or_none(found.program),
                "host": clean_or_none(found.host),
                "sweep": clean_or_none(found.sweep),
                "projection": found.pack(),
            }
            row |= filter_columns(found.to_map())
            tx.update_by_pk(t.runs, [row])
            _keep_branches(tx, run_pk, found)
        self._changed.clear()


def _keep_branches(tx: Transaction, run_pk: int, found: Projection) -> None:
    """Keep that a run is a fork, or was rewound; harmless when repeated."""
    points = {point["kind"]: point for point in found.branches if point["kind"] in (FORK, REWIND)}
    if not points:
        return
    run = t.runs.c
    row = tx.connection.execute(sa.select(run.entity, run.project).where(run.run_pk == run_pk)).one()
    tx.connection.execute(sa.delete(branches).where(branches.c.run_pk == run_pk))
    tx.insert(
        branches,
        [
            {
                "run_pk": run_pk,
                "kind": kind,
                "base_path": f"{row.entity}/{row.project}/{clean_text(point['run_id'])}",
                "step": point["step"],
            }
            for kind, point in points.items()
        ],
    )
