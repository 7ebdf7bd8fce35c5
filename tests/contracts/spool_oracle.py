"""What a spool was given, and what comes out of it: the measure for every spool test."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.records import ConfigRecord, Record, RecordKind
from runfold.protocol.rows import RowSchema
from runfold.spool import Batch, SpoolLimits, SpoolReader, SpoolWriter

Mode = Literal["mmap", "pwrite"]
MODES: list[Mode] = ["mmap", "pwrite"]
IDENTITY: dict[str, Any] = {
    "entity": "local",
    "project": "p",
    "run_id": "r",
    "mode": "grouped",
    "config": {"lr": 0.1},
    "started_unix_ns": 17,
}
LOSS = RowSchema([("loss",), ("acc",)], "dd")
EVAL = RowSchema([("eval", "n"), ("eval", "ok"), ("eval", "x")], "q?d")
SCHEMAS = [LOSS, EVAL, RowSchema([], ""), RowSchema([(f"k{index}",) for index in range(30)], "d" * 30)]


class Clock:
    """Nanoseconds that go on by one at each look."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


def limits(mode: Mode, **others: Any) -> SpoolLimits:
    """Small segments, so that a few hundred rows fill several."""
    sizes: dict[str, Any] = {
        "first_segment_bytes": 4096,
        "max_segment_bytes": 8192,
        "min_free_bytes": 0,
        "prepare_ahead": False,
    }
    return SpoolLimits(mode=mode, **(sizes | others))


def make(root: Path, mode: Mode, clock: Callable[[], int] | None = None, **others: Any) -> SpoolWriter:
    """Return a new writer below `root`."""
    return SpoolWriter.create(
        root, "local", IDENTITY, limits=limits(mode, **others), clock_ns=clock or Clock()
    )


def values_of(schema: RowSchema, seq: int) -> list[Any]:
    """Return values from which a reader can tell schema and seq."""
    kinds = {"d": seq + 0.5, "q": -seq, "?": seq % 2 == 0}
    return [kinds[kind] for kind in schema.kinds]


def append_row(writer: SpoolWriter, schema: RowSchema = LOSS, flags: int = 4) -> bool:
    """Append a row whose step and values follow from its seq."""
    seq = writer.last_seq + 1
    return writer.append_row(schema, flags, seq * 10, values_of(schema, seq))


def append_config(writer: SpoolWriter, filler: int = 0) -> bool:
    """Append a record whose payload follows from its seq."""
    seq = writer.last_seq + 1
    return writer.append_record(RecordKind.CONFIG, ConfigRecord({"seq": seq, "x": "y" * filler}).pack())


@dataclass
class Delivered:
    """Everything that a reader gave, checked for order and for being there once."""

    rows: dict[int, tuple[RowSchema, int, list[Any]]] = field(default_factory=dict)
    others: dict[int, Record] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    hi: int = 0

    def add(self, batch: Batch) -> None:
        """Take a batch; it has to begin where the last one ended and to cover lo..hi exactly once."""
        assert batch.lo == self.hi + 1
        assert batch.hi >= batch.lo
        seqs = [seq for block in batch.blocks for seq in block.seq_list()]
        seqs += [record.seq for record in batch.others]
        for gap in batch.gaps:
            assert gap.lo <= gap.hi
            assert gap.why
            seqs += range(gap.lo, gap.hi + 1)
        assert sorted(seqs) == list(range(batch.lo, batch.hi + 1))
        for block in batch.blocks:
            self.rows |= {seq: row for seq, *row in rows_of(block)}  # type: ignore[misc]
        self.others |= {record.seq: record for record in batch.others}
        self.gaps += batch.gaps
        self.hi = batch.hi

    @property
    def lost(self) -> set[int]:
        """The seqs that were declared missing."""
        return {seq for gap in self.gaps for seq in range(gap.lo, gap.hi + 1)}

    def check_contents(self) -> None:
        """Nothing may be delivered that was not said with this seq."""
        for seq, (schema, step, values) in self.rows.items():
            assert step == self._said_at(seq) * 10
            assert values == values_of(schema, self._said_at(seq))
        for seq, record in self.others.items():
            if record.kind == RecordKind.CONFIG:
                said = ConfigRecord.unpack(record.payload).set
                assert said is not None
                assert said["seq"] == self._said_at(seq)

    def _said_at(self, seq: int) -> int:
        """Return the seq that was next when this was said: a GAP record may have come in between."""
        before = self.others.get(seq - 1)
        return seq - 1 if before is not None and before.kind == RecordKind.GAP else seq


def rows_of(block: RowBlock) -> Iterator[tuple[int, RowSchema, int, list[Any]]]:
    """Yield (seq, schema, step, values) of each row of a block."""
    schema = RowSchema(block.paths, block.kinds)
    steps = memoryview(block.steps).cast("q")
    columns = []
    for kind, column in zip(block.kinds, block.columns, strict=True):
        numbers: Any = struct.unpack(f"<{block.n}{'d' if kind == 'd' else 'q'}", column)
        columns.append([bool(number) for number in numbers] if kind == "?" else numbers)
    for index, seq in enumerate(block.seq_list()):
        yield seq, schema, steps[index], [column[index] for column in columns]


def deliver(
    directory: Path, *, dead: bool = True, max_bytes: int = 1_000_000, reader: SpoolReader | None = None
) -> Delivered:
    """Read a spool to its end and check what comes."""
    delivered = Delivered()
    opened = reader or SpoolReader(directory)
    try:
        while batch := opened.read(delivered.hi + 1, max_bytes=max_bytes, writer_is_dead=dead):
            delivered.add(batch)
    finally:
        if reader is None:
            opened.close()
    delivered.check_contents()
    return delivered


def copy_of(directory: Path, number: int) -> Path:
    """Return a copy of a spool, to be damaged; the name has to stay the writer's."""
    target = directory.parent / f"copy-{number}" / directory.name
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(directory, target))


def segments(directory: Path) -> list[Path]:
    """Return the segments of a spool in order."""
    return sorted(directory.glob("*.seg"))


def damage(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def fill(writer: SpoolWriter, count: int, chance: random.Random | None = None) -> None:
    """Append `count` records of several kinds."""
    chance = chance or random.Random(1)
    for _ in range(count):
        if chance.random() < 0.1:
            assert append_config(writer, chance.randrange(60))
        else:
            assert append_row(writer, chance.choice(SCHEMAS[:3]))
