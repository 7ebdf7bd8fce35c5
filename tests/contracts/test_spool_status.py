"""An EXIT record that waits for the status of its process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contracts.spool_oracle import LOSS, MODES, Mode, append_row, deliver, make
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.spool import SpoolReader, SpoolWriter
from runfold.spool.last_record import NOTE_NAME

pytestmark = pytest.mark.parametrize("mode", MODES)
PAYLOAD = ExitRecord(0, "sys.exit", runtime_s=1.5).pack()


def ended(tmp_path: Path, mode: Mode) -> tuple[SpoolWriter, int]:
    """Return a writer that ended, and the descriptor that its status will be written to."""
    writer = make(tmp_path, mode)
    append_row(writer, LOSS, 0)
    found: list[int] = []

    def at_last(fd: int) -> bool:
        found.append(fd)
        return True

    assert writer.close_with_status(PAYLOAD, at_last)
    return writer, found[0]


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_completes_the_record(tmp_path: Path, mode: Mode, status: int) -> None:
    writer, fd = ended(tmp_path, mode)
    before = SpoolReader(writer.directory)
    os.write(fd, bytes([status]))
    os.close(fd)
    for reader in (before, SpoolReader(writer.directory)):
        batch = reader.read(3, writer_is_dead=True)
        assert batch is not None
        assert [(record.seq, record.kind) for record in batch.others] == [(3, RecordKind.EXIT)]
        assert ExitRecord.unpack(batch.others[0].payload) == ExitRecord(status, "sys.exit", runtime_s=1.5)
        assert (reader.header.closed, reader.header.final_seq, reader.head_seq()) == (True, 3, 3)
        assert batch.gaps == []
        reader.close()
    assert not (writer.directory / NOTE_NAME).exists()


def test_without_a_status_nothing_is_told(tmp_path: Path, mode: Mode) -> None:
    writer, fd = ended(tmp_path, mode)
    os.close(fd)
    delivered = deliver(writer.directory, dead=True)
    assert sorted(delivered.others) == [1]
    assert delivered.gaps == []


@pytest.mark.parametrize("note", [b"", b"\xff\xff\xff\xff", b"\x01\0\0\0\xc0\x05", b"\x02\0\0\0\x91\x01\x05"])
def test_a_damaged_note_says_nothing(tmp_path: Path, mode: Mode, note: bytes) -> None:
    writer, fd = ended(tmp_path, mode)
    os.close(fd)
    (writer.directory / NOTE_NAME).write_bytes(note)
    assert sorted(deliver(writer.directory, dead=True).others) == [1]


def test_where_the_status_cannot_be_had_the_writer_goes_on(tmp_path: Path, mode: Mode) -> None:
    writer = make(tmp_path, mode)
    assert not writer.close_with_status(PAYLOAD, lambda _: False)
    assert append_row(writer, LOSS, 0)
    writer.close()
    assert not (writer.directory / NOTE_NAME).exists()
    assert sorted(deliver(writer.directory, dead=False).rows) == [2]
