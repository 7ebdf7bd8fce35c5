"""A spool of version 1 can be read for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

from contracts.spool_oracle import rows_of
from golden import samples
from runfold.protocol.records import RecordKind
from runfold.spool import SpoolReader

V1 = Path(samples.__file__).parent / "v1" / "spool"
#: Kinds that came into version 1 after its spool was written.
YOUNGER = {kind for kind in RecordKind if kind > RecordKind.CONSOLE}


def test_the_spool_of_version_1_is_read(tmp_path: Path) -> None:
    shutil.copytree(V1, tmp_path / "spool")
    reader = SpoolReader(tmp_path / "spool" / samples.WRITER.hex())
    assert reader.header.is_whole
    assert reader.header.closed
    assert reader.identity == samples.IDENTITY
    rows, others, seq = [], [], 1
    while batch := reader.read(seq):
        assert batch.gaps == []
        rows += [row for block in batch.blocks for row in rows_of(block)]
        others += batch.others
        seq = batch.hi + 1
    assert [(schema, step, tuple(values)) for _, schema, step, values in rows] == [
        (schema, step, values) for schema, _, step, values in samples.SPOOL_ROWS
    ]
    kinds = [kind for kind in samples.PAYLOADS if kind not in {RecordKind.WRITER, *YOUNGER}]
    assert [record.kind for record in others] == [RecordKind.WRITER, *kinds]
    assert [record.seq for record in others] == [1, *range(42, 42 + len(kinds))]
    for record in others:
        kind = RecordKind(record.kind)
        assert type(samples.PAYLOADS[kind]).unpack(record.payload) == samples.PAYLOADS[kind]
    assert reader.head_seq() == seq - 1
    reader.close()
