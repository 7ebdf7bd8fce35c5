"""Reads of console lines: which writers keep any, and their records from either end, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.records import ConsoleRecord, RecordKind
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.reading import Reading

#: Records fetched at once: one, then two, four, ..., since most pages need few of each writer. Each is up to
#: 256 kB, mostly.
MOST_RECORDS = 64


@dataclass(frozen=True, slots=True)
class ConsoleSource:
    """A writer that may hold console lines; `writer_id` is the process's, whoever keeps its lines."""

    writer_pk: int
    run_pk: int
    writer_id: str
    rank: int | None
    label: str | None
    #: Highest seq stored.
    last_seq: int


@dataclass(frozen=True, slots=True)
class StoredLines:
    """One CONSOLE record as stored."""

    seq: int
    t_ns: int
    record: ConsoleRecord


def console_sources(reading: Reading, run_pk: int, writer_id: str | None = None) -> list[ConsoleSource]:
    """Return who may hold lines of a run, in order of start: consoles, and processes (Run.write_logs).

    Args:
        writer_id: Only of this process.
    """
    c = t.writers.c
    statement = sa.select(
        c.writer_pk, c.writer_id, c.role, c.console_of, c.identity, c.last_seq, c.run_pk
    ).where(c.run_pk == run_pk, c.role.in_(("console", "process")))
    if writer_id is not None:
        statement = statement.where(sa.or_(c.writer_id == writer_id, c.console_of == writer_id))
    found = []
    for row in reading.fetch(statement.order_by(c.started_unix_ns, c.writer_id)):
        identity = unpack_stored(row.identity)
        found.append(
            ConsoleSource(
                writer_pk=row.writer_pk,
                run_pk=row.run_pk,
                writer_id=row.console_of or row.writer_id,
                rank=identity.get("rank"),
                label=identity.get("label"),
                last_seq=row.last_seq,
            )
        )
    return found


def lines_from(reading: Reading, source: ConsoleSource, seq: int) -> Iterator[StoredLines]:
    """Yield a writer's records of lines from this seq on, oldest first."""
    limit = 1
    while True:
        found = _fetch(reading, source, t.records.c.seq >= seq, t.records.c.seq.asc(), limit)
        yield from (_decoded(row) for row in found)
        if len(found) < limit:
            return
        seq = found[-1].seq + 1
        limit = min(limit * 2, MOST_RECORDS)


def lines_back(reading: Reading, source: ConsoleSource) -> Iterator[StoredLines]:
    """Yield a writer's records of lines, newest first."""
    limit, before = 1, source.last_seq + 1
    while True:
        found = _fetch(reading, source, t.records.c.seq < before, t.records.c.seq.desc(), limit)
        yield from (_decoded(row) for row in found)
        if len(found) < limit:
            return
        before = found[-1].seq
        limit = min(limit * 2, MOST_RECORDS)


def _fetch(
    reading: Reading,
    source: ConsoleSource,
    where: sa.ColumnElement[bool],
    order: sa.UnaryExpression[int],
    limit: int,
) -> list[Any]:
    c = t.records.c
    return reading.fetch(
        sa.select(c.seq, c.t_ns, c.payload)
        # The index "records_by_run" holds all of these: a million other records of a process cost nothing.
        .where(
            c.run_pk == source.run_pk,
            c.kind == int(RecordKind.CONSOLE),
            c.writer_pk == source.writer_pk,
            c.seq <= source.last_seq,
            where,
        )
        .order_by(order)
        .limit(limit)
    )


def _decoded(row: Any) -> StoredLines:
    try:
        record = ConsoleRecord.unpack(bytes(row.payload))
    except ProtocolError:  # ingest checks; a record of a newer version may still be no record to us
        record = ConsoleRecord()
    return StoredLines(row.seq, row.t_ns, record)
