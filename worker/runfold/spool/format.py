"""The layout of a spool directory: names, the header page, the segment header, the record header.

    <writer hex>/header           4096 bytes: who writes, how far; how far acknowledged, by which server
    <writer hex>/writer.msgpack   the identity, as in the WRITER record
    <writer hex>/%016x.seg        records, named by the first seq; self-contained (schemas are repeated)

All little-endian. A record is total_len u32, crc32 u32, seq u64, t_ns u64, kind u16, flags u16, aux u32,
and a body that fills total_len up to a multiple of 8. aux is the schema's number in a row, else the exact
size of the payload. The crc covers everything after itself and starts from the crc of the writer id, so
that no record can be taken for another writer's. total_len and crc are stored last, as one aligned word.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runfold.protocol.rows import RECORD_HEADER_BYTES

HEADER_NAME: Final = "header"
IDENTITY_NAME: Final = "writer.msgpack"
AHEAD_NAME: Final = "ahead.tmp"
SEGMENT_SUFFIX: Final = ".seg"

FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = 4096
_HEADER_MAGIC: Final = b"RFSPOOL1"
#: magic, version, header bytes, writer id, pid, pid_start, boot id, created_ns; then a crc32 of these.
_HEADER_FIXED: Final = struct.Struct("<8sII16sQd16sQ")
_CRC: Final = struct.Struct("<I")

#: Words that the writer stores, each by one aligned store.
AT_HEAD_SEQ: Final = 128
AT_CLOSED: Final = 136
AT_FINAL_SEQ: Final = 144
AT_DROPPED_LO: Final = 152
AT_DROPPED_HI: Final = 160
AT_DROPPED_COUNT: Final = 168
#: Not a flag but a word that damage does not imitate.
CLOSED_WORD: Final = 0x444553_4F4C43_01

#: What the agent stores, by one pwrite: acked seq, delivered bytes, server id, and a crc32 of these.
AT_ACK: Final = 256
_ACK: Final = struct.Struct("<QQ16s")
#: Set when a reader had to rebuild the fixed part: the writer's words are then not relied on.
AT_REBUILT: Final = 320
ACK_BYTES: Final = _ACK.size + _CRC.size
NO_SERVER: Final = bytes(16)

SEGMENT_HEADER_BYTES: Final = 64
_SEGMENT_MAGIC: Final = b"RFSEGMT1"
#: magic, version, header bytes, first seq, writer id, boot id, reserved; then a crc32 of these.
_SEGMENT_FIXED: Final = struct.Struct("<8sIIQ16s16sI")


@dataclass(frozen=True, slots=True)
class FixedHeader:
    """What never changes in a header. `pid_start` is in the unit of the identity; 0 where unknown."""

    writer: bytes
    pid: int
    pid_start: float
    boot_id: bytes
    created_ns: int

    def pack(self) -> bytes:
        """Return the start of the header page."""
        fixed = _HEADER_FIXED.pack(
            _HEADER_MAGIC,
            FORMAT_VERSION,
            HEADER_BYTES,
            self.writer,
            self.pid,
            self.pid_start,
            self.boot_id,
            self.created_ns,
        )
        return fixed + _CRC.pack(zlib.crc32(fixed))

    @classmethod
    def unpack(cls, page: bytes) -> FixedHeader | None:
        """Return what a header page says; None when it is not a whole header of ours."""
        size = _HEADER_FIXED.size
        if len(page) < size + _CRC.size or _CRC.unpack_from(page, size)[0] != zlib.crc32(page[:size]):
            return None
        magic, version, _, writer, pid, pid_start, boot_id, created_ns = _HEADER_FIXED.unpack_from(page)
        if magic != _HEADER_MAGIC or version != FORMAT_VERSION:
            return None
        return cls(writer, pid, pid_start, boot_id, created_ns)


@dataclass(frozen=True, slots=True)
class Ack:
    """The highest durable seq, the server that said so, and the bytes delivered to it."""

    seq: int = 0
    server_id: bytes = NO_SERVER
    delivered_bytes: int = 0

    def pack(self) -> bytes:
        """Return the ack as it lies in the header."""
        fixed = _ACK.pack(self.seq, self.delivered_bytes, self.server_id)
        return fixed + _CRC.pack(zlib.crc32(fixed))

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Ack | None:
        """Return the ack in the header; None when it is torn or damaged."""
        if len(data) < ACK_BYTES or data[:ACK_BYTES] == bytes(ACK_BYTES):
            return cls()
        if _CRC.unpack_from(data, _ACK.size)[0] != zlib.crc32(data[: _ACK.size]):
            return None
        seq, delivered_bytes, server_id = _ACK.unpack_from(data)
        return cls(seq, server_id, delivered_bytes)


def pack_segment_header(writer: bytes, first_seq: int, boot_id: bytes) -> bytes:
    """Return the 64 bytes that a segment begins with."""
    fixed = _SEGMENT_FIXED.pack(
        _SEGMENT_MAGIC, FORMAT_VERSION, SEGMENT_HEADER_BYTES, first_seq, writer, boot_id, 0
    )
    return fixed + _CRC.pack(zlib.crc32(fixed))


def unpack_segment_header(data: bytes) -> tuple[bytes, int] | None:
    """Return (writer id, first seq); None when the header is damaged or from another format."""
    size = _SEGMENT_FIXED.size
    if len(data) < SEGMENT_HEADER_BYTES or _CRC.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        return None
    magic, version, _, first_seq, writer, _, _ = _SEGMENT_FIXED.unpack_from(data)
    if magic != _SEGMENT_MAGIC or version != FORMAT_VERSION:
        return None
    return writer, first_seq


def segment_name(first_seq: int) -> str:
    """Return the file name of the segment that begins with `first_seq`."""
    return f"{first_seq:016x}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str) -> int | None:
    """Return the first seq that a file name promises; None when it is not a segment's name."""
    stem = name.removesuffix(SEGMENT_SUFFIX)
    if stem == name or len(stem) != 16 or not set(stem) <= set("0123456789abcdef"):
        return None
    return int(stem, 16) or None


def crc_seed(writer: bytes) -> int:
    """Return what the crc of every record of `writer` starts from."""
    return zlib.crc32(writer)


def record_bytes(payload_bytes: int) -> int:
    """Return the size of a record with a payload of this size: padded to a multiple of 8."""
    return RECORD_HEADER_BYTES + (payload_bytes + 7 & ~7)


def boot_id_bytes(boot_id: object) -> bytes:
    """Return a boot id as 16 bytes; zeros when it is unknown or no UUID."""
    try:
        found = bytes.fromhex(str(boot_id).replace("-", ""))
    except ValueError:
        found = b""
    return found if len(found) == 16 else bytes(16)


def open_private(path: Path, flags: int) -> int:
    """Open `path` readable by its owner only, never through a link, not inherited by children."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
