"""The EXIT record of a process that ends with a status which only the C library gets to know.

The writer leaves a note: where the record goes, and all of it but the status, which the C library appends to
the note as the very last thing. Whoever reads the spool then completes the record. No process is needed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit
from runfold.protocol.records import ExitRecord, RecordKind
from runfold.protocol.rows import RECORD_HEADER
from runfold.protocol.values import pack_value, unpack_value
from runfold.spool.format import (
    AT_CLOSED,
    AT_FINAL_SEQ,
    AT_HEAD_SEQ,
    CLOSED_WORD,
    HEADER_NAME,
    SEGMENT_HEADER_BYTES,
    crc_seed,
    open_private,
    record_bytes,
    segment_name,
)

NOTE_NAME = "exit"
#: A status takes up to two bytes more than the 0 that stands for it.
ROOM_FOR_STATUS_BYTES = 8
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class LastRecord:
    """Where the record goes, and what it says but for `code`."""

    first_seq: int
    position: int
    seq: int
    t_ns: int
    payload: bytes


def leave_note(directory: Path, last: LastRecord) -> int:
    """Write the note; return a descriptor to append the status to. OSError when there is no space."""
    data = pack_value([last.first_seq, last.position, last.seq, last.t_ns, last.payload])
    fd = open_private(directory / NOTE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    try:
        os.write(fd, len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def complete(directory: Path, writer: bytes) -> bool:
    """Append the record if the note says how the process ended. Harmless when repeated, or done by two."""
    note = directory / NOTE_NAME
    try:
        data = note.read_bytes()
        last, status = _read(data)
        if last is None or status is None:
            return False
        payload = replace(ExitRecord.unpack(last.payload), code=status).pack()
        record = bytearray(record_bytes(len(payload)))
        RECORD_HEADER.pack_into(record, 0, 0, 0, last.seq, last.t_ns, RecordKind.EXIT, 0, len(payload))
        record[RECORD_HEADER.size : RECORD_HEADER.size + len(payload)] = payload
        record[:4] = len(record).to_bytes(4, "little")
        record[4:8] = crc32(memoryview(record)[8:], crc_seed(writer)).to_bytes(4, "little")
        _write(directory / segment_name(last.first_seq), [(last.position + 8, record[8:])])
        _write(directory / segment_name(last.first_seq), [(last.position, record[:8])])
        hit("spool.last_record_written")
        words = ((AT_HEAD_SEQ, last.seq), (AT_FINAL_SEQ, last.seq), (AT_CLOSED, CLOSED_WORD))
        _write(directory / HEADER_NAME, [(at, word.to_bytes(8, "little")) for at, word in words])
        note.unlink()
    except (OSError, ProtocolError):
        return False
    return True


def _read(data: bytes) -> tuple[LastRecord | None, int | None]:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    said = unpack_value(data[_LENGTH_BYTES:end])
    if not isinstance(said, list) or [type(part) for part in said] != [int, int, int, int, bytes]:
        return None, None
    last = LastRecord(*said)
    if last.first_seq < 1 or last.seq < last.first_seq or last.position < SEGMENT_HEADER_BYTES:
        return None, None
    return last, data[end] if len(data) > end else None


def _write(path: Path, pieces: list[tuple[int, bytes | bytearray]]) -> None:
    fd = open_private(path, os.O_WRONLY)
    try:
        for at, data in pieces:
            os.pwrite(fd, data, at)
    finally:
        os.close(fd)
