"""A scan stops before a batch holds more than a frame may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.spool_oracle import SCHEMAS, Delivered, append_row, make
from runfold.protocol.frames import Frame, decode_frame, encode_frame
from runfold.protocol.records import RecordKind
from runfold.protocol.rows import RowSchema
from runfold.spool import SpoolReader
from runfold.spool.scan import find_record

BIG: dict[str, Any] = {"first_segment_bytes": 16 << 20, "max_segment_bytes": 16 << 20}


def read_as_frames(reader: SpoolReader, max_bytes: int) -> Delivered:
    delivered = Delivered()
    while batch := reader.read(delivered.hi + 1, max_bytes=max_bytes):
        delivered.add(batch)
        frame = Frame(
            bytes(16),
            "e/p/r",
            batch.lo,
            batch.hi,
            tuple(batch.blocks),
            tuple(batch.others),
            tuple(batch.gaps),
        )
        assert decode_frame(encode_frame(frame)) == frame
    return delivered


def test_many_small_records_fit_the_frames_that_they_become(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap", **BIG)
    for _ in range(170_000):
        assert writer.append_record(RecordKind.RUN, b"\x80")
    delivered = read_as_frames(SpoolReader(writer.directory), 16 << 20)
    assert delivered.hi == 170_001
    writer.close()


def test_many_wide_schemas_fit_the_frames_that_they_become(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap", **BIG)
    schemas = [
        RowSchema([(f"{number}", f"key-{key}") for key in range(10_000)], "d" * 10_000)
        for number in range(16)
    ]
    for schema in schemas:
        assert append_row(writer, schema)
    assert append_row(writer, SCHEMAS[0])
    delivered = read_as_frames(SpoolReader(writer.directory), 16 << 20)
    assert len(delivered.rows) == 17
    writer.close()


def test_schemas_of_long_keys_fit_the_frames_that_they_become(tmp_path: Path) -> None:
    writer = make(tmp_path, "mmap", **BIG)
    schemas = [
        RowSchema([(f"{number:04}{key:04}" * 400,) for key in range(1_000)], "d" * 1_000)
        for number in range(6)
    ]
    for schema in schemas * 2:
        assert append_row(writer, schema)
    delivered = read_as_frames(SpoolReader(writer.directory), 16 << 20)
    assert len(delivered.rows) == 12
    writer.close()


def test_nothing_is_found_in_nothing() -> None:
    for size in (0, 1, 31, 32, 64, 4096):
        assert find_record(memoryview(bytes(size)), 0, 0, 1, 10) is None
        assert find_record(memoryview(b"\xff" * size), 0, 0, 1, 10) is None
        assert find_record(memoryview(bytes(size)), size + 100, 0, 1, 10) is None
