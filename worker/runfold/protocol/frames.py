"""Frames: a batch of records lo..hi of one writer, as one msgpack map. One frame is one entry in Redis.

Blocks, other records and gaps cover lo..hi exactly once; the decoder checks that, and every length,
before anybody uses a column. Version 1 decodes for ever; keys that this version does not know are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import msgpack

from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.errors import DecodeError, LimitError, ProtocolError, VersionError
from runfold.protocol.limits import (
    MAX_ELEMENTS,
    MAX_FRAME_BYTES,
    MAX_RECORD_BYTES,
    MAX_RUN_PATH_BYTES,
    MAX_SEQ,
    WRITER_ID_BYTES,
)
from runfold.protocol.records import Record
from runfold.protocol.values import SCAN_ABOVE_BYTES, scan, unpack_unchecked

__all__ = [
    "FRAME_VERSION",
    "Envelope",
    "Frame",
    "Gap",
    "RowBlock",
    "decode_frame",
    "encode_frame",
    "peek_frame",
]

FRAME_VERSION = 1
#: The deepest part: frame, blocks, block, paths, path.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """Records lo..hi of `writer`, which belongs to the run `run_path` (entity/project/run_id)."""

    writer: bytes
    run_path: str
    lo: int
    hi: int
    blocks: tuple[RowBlock, ...] = ()
    others: tuple[Record, ...] = ()
    gaps: tuple[Gap, ...] = ()
    #: Reserved for authentication.
    auth: bytes = b""

    def after(self, seq: int) -> Self | None:
        """Return what is above `seq`; None when nothing is. For a frame of which a part is already stored."""
        if seq < self.lo:
            return self
        if seq >= self.hi:
            return None
        blocks = (block.after(seq) for block in self.blocks)
        return replace(
            self,
            lo=seq + 1,
            blocks=tuple(block for block in blocks if block is not None),
            others=tuple(record for record in self.others if record.seq > seq),
            gaps=tuple(replace(gap, lo=max(gap.lo, seq + 1)) for gap in self.gaps if gap.hi > seq),
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """What can be read of a frame that does not decode: whose it is, and which records it held."""

    writer: bytes
    run_path: str
    lo: int
    hi: int


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of `frame`.

    Raises:
        LimitError: More than MAX_FRAME_BYTES.
    """
    data: bytes = msgpack.packb(
        {
            "v": FRAME_VERSION,
            "w": frame.writer,
            "r": frame.run_path,
            "lo": frame.lo,
            "hi": frame.hi,
            "b": [block.to_map() for block in frame.blocks],
            "o": [(other.seq, other.t_ns, other.kind, other.flags, other.payload) for other in frame.others],
            "g": [(gap.lo, gap.hi, gap.why) for gap in frame.gaps],
            "x": frame.auth,
        },
        unicode_errors="replace",
    )
    if len(data) > MAX_FRAME_BYTES:
        raise LimitError(f"a frame of {len(data)} bytes", field="frame", limit=MAX_FRAME_BYTES)
    return data


def decode_frame(data: bytes | memoryview) -> Frame:
    """Return the frame in `data`.

    Raises:
        LimitError: Over a limit; found before anything is built.
        VersionError: Made by a newer version.
        DecodeError: Not a frame, or its parts do not cover lo..hi exactly once.
    """
    found = _unpack(data)
    version = found.get("v")
    if type(version) is not int or version < 1:
        raise DecodeError(f"frame version {version!r:.40}", field="v")
    if version > FRAME_VERSION:
        raise VersionError(f"frame version {version}; this is {FRAME_VERSION}", field="v")
    envelope = _envelope(found)
    frame = Frame(
        writer=envelope.writer,
        run_path=envelope.run_path,
        lo=envelope.lo,
        hi=envelope.hi,
        blocks=tuple(map(RowBlock.from_map, _list(found, "b"))),
        others=tuple(map(_record, _list(found, "o"))),
        gaps=tuple(map(_gap, _list(found, "g"))),
        auth=_auth(found.get("x", b"")),
    )
    _check_coverage(frame)
    return frame


def peek_frame(data: bytes | memoryview) -> Envelope | None:
    """Return whose records `data` holds when that much can be read, else None. Never raises."""
    try:
        return _envelope(_unpack(data))
    except ProtocolError:
        return None


def _unpack(data: bytes | memoryview) -> dict[str, Any]:
    if len(data) > MAX_FRAME_BYTES:
        raise LimitError(f"a frame of {len(data)} bytes", field="frame", limit=MAX_FRAME_BYTES)
    if len(data) > SCAN_ABOVE_BYTES:
        scan(data, max_depth=_MAX_DEPTH, max_elements=MAX_ELEMENTS)
    found = unpack_unchecked(data)
    if not isinstance(found, dict):
        raise DecodeError("a frame is a map", field="frame")
    return found


def _envelope(found: dict[str, Any]) -> Envelope:
    writer, run_path, lo, hi = found.get("w"), found.get("r"), found.get("lo"), found.get("hi")
    if not isinstance(writer, bytes) or len(writer) != WRITER_ID_BYTES:
        raise DecodeError("a writer id has 16 bytes", field="w")
    if (
        not isinstance(run_path, str)
        or not 5 <= len(run_path) <= MAX_RUN_PATH_BYTES
        or run_path.count("/") < 2
    ):
        raise DecodeError("a run is entity/project/run_id", field="r")
    if type(lo) is not int or type(hi) is not int or not 1 <= lo <= hi <= MAX_SEQ:
        raise DecodeError("records are lo..hi, from 1", field="lo")
    return Envelope(writer, run_path, lo, hi)


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name, [])
    if not isinstance(value, list):
        raise DecodeError(f"{name} is a list", field=name)
    return value


def _record(parts: Any) -> Record:
    if not isinstance(parts, list) or len(parts) != 5:
        raise DecodeError("a record is [seq, t_ns, kind, flags, payload]", field="o")
    seq, t_ns, kind, flags, payload = parts
    if type(seq) is not int or type(t_ns) is not int or type(kind) is not int or type(flags) is not int:
        raise DecodeError("a record's seq, t_ns, kind and flags are ints", field="o")
    if not (0 <= t_ns < 2**64 and 0 <= kind < 2**16 and 0 <= flags < 2**16):
        raise DecodeError("a record's t_ns is a uint64, kind and flags are uint16", field="o")
    if not isinstance(payload, bytes):
        raise DecodeError("a record's payload is bytes", field="o")
    if len(payload) > MAX_RECORD_BYTES:
        raise LimitError(f"a record of {len(payload)} bytes", field="o", limit=MAX_RECORD_BYTES)
    return Record(seq, t_ns, kind, flags, payload)


def _gap(parts: Any) -> Gap:
    if not isinstance(parts, list) or len(parts) != 3:
        raise DecodeError("a gap is [lo, hi, why]", field="g")
    lo, hi, why = parts
    if type(lo) is not int or type(hi) is not int or not 1 <= lo <= hi <= MAX_SEQ or not isinstance(why, str):
        raise DecodeError("a gap is lo..hi and why", field="g")
    return Gap(lo, hi, why)


def _auth(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise DecodeError("x is bytes", field="x")
    return value


def _check_coverage(frame: Frame) -> None:
    """Check that every seq of lo..hi is there exactly once; linear in the rows that are listed one by one."""
    ranges: list[tuple[int, int]] = [(gap.lo, gap.hi) for gap in frame.gaps]
    listed: list[int] = [record.seq for record in frame.others]
    for block in frame.blocks:
        if isinstance(block.seqs, int):
            ranges.append((block.seqs, block.seqs + block.n - 1))
        else:
            listed += block.seq_list()
    ranges.sort()
    listed.sort()
    ranges.append((frame.hi + 1, frame.hi + 1))
    expected, used = frame.lo, 0
    for lo, hi in ranges:
        singles = lo - expected
        # Compared before the range is built: lo..hi of a hostile frame can be anything.
        if not 0 <= singles <= len(listed) - used:
            raise DecodeError("records are missing or there twice", field="lo")
        if listed[used : used + singles] != list(range(expected, lo)):
            raise DecodeError("records are missing or there twice", field="lo")
        used += singles
        expected = hi + 1
    if used != len(listed) or expected != frame.hi + 2:
        raise DecodeError("records outside lo..hi", field="lo")
