"""Reads back what a process said, from the spools under a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runfold.protocol.blocks import RowBlock
from runfold.protocol.file_records import FileRecord
from runfold.protocol.identity import Identity
from runfold.protocol.records import (
    AlertRecord,
    ConfigRecord,
    ConsoleRecord,
    ExitRecord,
    MetricRecord,
    PreemptingRecord,
    RecordKind,
    RowMap,
    RunRecord,
    SignalRecord,
    SummaryRecord,
)
from runfold.spool import SpoolReader, list_writers

_PAYLOADS: dict[int, Any] = {
    RecordKind.ALERT: AlertRecord,
    RecordKind.CONFIG: ConfigRecord,
    RecordKind.CONSOLE: ConsoleRecord,
    RecordKind.EXIT: ExitRecord,
    RecordKind.FILE: FileRecord,
    RecordKind.METRIC: MetricRecord,
    RecordKind.PREEMPTING: PreemptingRecord,
    RecordKind.RUN: RunRecord,
    RecordKind.SIGNAL: SignalRecord,
    RecordKind.SUMMARY: SummaryRecord,
}


@dataclass
class Spooled:
    """One writer's spool, read whole."""

    identity: Identity
    is_closed: bool
    #: (seq, step, flags, {path: value}) of each call of log(), in order.
    rows: list[tuple[int, int, int, dict[tuple[str, ...], Any]]] = field(default_factory=list)
    #: (kind, payload) of each other record, in order.
    records: list[tuple[RecordKind, Any]] = field(default_factory=list)
    #: How many rows travelled in columns, as against maps.
    column_rows_count: int = 0
    gaps: list[Any] = field(default_factory=list)
    writer_id: str = ""

    def payloads(self, kind: RecordKind) -> list[Any]:
        """Return the payloads of one kind."""
        return [payload for found, payload in self.records if found == kind]

    @property
    def exit(self) -> ExitRecord | None:
        """The EXIT record, None when there is none; there is never more than one."""
        found = self.payloads(RecordKind.EXIT)
        assert len(found) <= 1, "an end is told once"
        return found[0] if found else None

    @property
    def steps(self) -> list[int]:
        """Steps of the rows, in order."""
        return [step for _, step, _, _ in self.rows]

    @property
    def values(self) -> list[dict[str, Any]]:
        """Values of the rows by dotted name, in order."""
        return [{".".join(path): value for path, value in cells.items()} for _, _, _, cells in self.rows]


def read_spool(directory: Path) -> Spooled:
    """Return what one spool holds; its process has ended, or says nothing meanwhile."""
    reader = SpoolReader(directory)
    try:
        spooled = Spooled(reader.identity, reader.header.closed, writer_id=directory.name)
        seq = 1
        while (batch := reader.read(seq, max_bytes=1 << 20)) is not None:
            for block in batch.blocks:
                _add_block(spooled, block)
            for record in batch.others:
                if record.kind == RecordKind.ROW_MAP:
                    row = RowMap.unpack(record.payload)
                    spooled.rows.append((record.seq, row.step, record.flags, dict(row.values)))
                elif record.kind in _PAYLOADS:
                    payload = _PAYLOADS[record.kind].unpack(record.payload)
                    spooled.records.append((RecordKind(record.kind), payload))
            spooled.gaps += batch.gaps
            seq = batch.hi + 1
    finally:
        reader.close()
    spooled.rows.sort(key=lambda row: row[0])
    return spooled


def read_spools(runfold_dir: Path) -> list[Spooled]:
    """Return all spools under a folder, oldest first."""
    root = runfold_dir / "spool"
    targets = [target for target in root.iterdir() if target.is_dir()] if root.is_dir() else []
    found = [read_spool(directory) for target in targets for directory in list_writers(target)]
    return sorted(found, key=lambda spooled: spooled.identity.started_unix_ns)


def _add_block(spooled: Spooled, block: RowBlock) -> None:
    steps = memoryview(block.steps).cast("q").tolist()
    flags = [block.flags] * block.n if isinstance(block.flags, int) else list(block.flags)
    columns = [
        [bool(value) for value in column] if kind == "?" else column
        for kind, column in zip(
            block.kinds,
            [
                memoryview(column).cast("d" if kind == "d" else "q").tolist()
                for kind, column in zip(block.kinds, block.columns, strict=True)
            ],
            strict=True,
        )
    ]
    for at, (seq, step, flag) in enumerate(zip(block.seq_list(), steps, flags, strict=True)):
        cells = {path: column[at] for path, column in zip(block.paths, columns, strict=True)}
        spooled.rows.append((seq, step, flag, cells))
    spooled.column_rows_count += block.n
