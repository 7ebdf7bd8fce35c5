"""Rows whose keys and types are known: a schema packs each value into one 8-byte slot, little-endian.

A row record, as it lies in a spool: header (32 bytes), step (int64), one slot per key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.keypath import KeyPath, check_path
from runfold.protocol.limits import MAX_SCHEMA_BYTES, MAX_SCHEMA_KEYS, MAX_SCHEMA_PARTS
from runfold.protocol.values import pack_value, unpack_value

#: What the caller of log() said, beside the data. The step is always resolved by the writer.
STEP_GIVEN: Final = 1
COMMIT_FALSE: Final = 2
COMMIT_TRUE: Final = 4

#: total_len, crc32, seq, t_ns, kind, flags, aux.
RECORD_HEADER: Final = struct.Struct("<IIQQHHI")
RECORD_HEADER_BYTES: Final = 32
#: Bytes of a row record beside its slots.
ROW_FIXED_BYTES: Final = RECORD_HEADER_BYTES + 8

#: A bool is an int64 of 0 or 1. "?7x" takes any truth value, numpy's too, which have no __index__.
_SLOT_FORMAT = {"d": "d", "q": "q", "?": "?7x"}
KINDS: Final = frozenset(_SLOT_FORMAT)


class RowSchema:
    """The key paths of a row and the kind of each: "d" float64, "q" int64, "?" bool. Immutable value."""

    __slots__ = ("_hash", "frame_elements", "key_bytes", "kinds", "paths", "slot_format", "struct")

    def __init__(self, paths: Iterable[KeyPath], kinds: str) -> None:
        self.paths: tuple[KeyPath, ...] = tuple(paths)
        self.kinds = kinds
        #: What a block of this schema adds to a frame: msgpack elements, and at most this many bytes of keys.
        self.frame_elements, self.key_bytes = check_columns(self.paths, kinds)
        self.slot_format = "".join(map(_SLOT_FORMAT.__getitem__, kinds))
        #: Packs the values of one row, in order, into its slots.
        self.struct = struct.Struct("<" + self.slot_format)
        self._hash = hash((self.paths, kinds))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, RowSchema):
            return NotImplemented
        return self.paths == other.paths and self.kinds == other.kinds

    def __repr__(self) -> str:
        return f"RowSchema({self.paths!r}, {self.kinds!r})"

    @property
    def record_bytes(self) -> int:
        """Size of one row record of this schema."""
        return ROW_FIXED_BYTES + 8 * len(self.paths)

    def pack_definition(self, schema_id: int) -> bytes:
        """Return the payload of the SCHEMA record that gives this schema a number."""
        return pack_value([schema_id, [list(path) for path in self.paths], self.kinds])


def unpack_definition(payload: bytes | memoryview) -> tuple[int, RowSchema]:
    """Return (schema id, schema) from the payload of a SCHEMA record; ProtocolError if it holds none."""
    parts = unpack_value(payload)
    if not isinstance(parts, list) or len(parts) != 3:
        raise DecodeError("a schema is [id, paths, kinds]", field="schema")
    schema_id, paths, kinds = parts
    if not isinstance(schema_id, int) or not 0 <= schema_id < 2**32:
        raise DecodeError("a schema id is a uint32", field="schema")
    return schema_id, RowSchema(unpack_paths(paths), kinds)


def unpack_paths(value: object) -> tuple[KeyPath, ...]:
    """Return key paths from lists of str; ProtocolError if it is anything else."""
    if not isinstance(value, list) or not all(isinstance(path, list) for path in value):
        raise DecodeError("key paths are lists of str", field="k")
    return tuple(tuple(path) for path in value)


def check_columns(paths: tuple[KeyPath, ...], kinds: object) -> tuple[int, int]:
    """Check that `paths` and `kinds` describe the columns of a row; ProtocolError if not.

    Returns:
        The msgpack elements that a block of these columns has beside its map, and the most bytes of its keys.
    """
    if not isinstance(kinds, str) or not KINDS.issuperset(kinds):
        raise DecodeError(f"kinds are made of d, q and ?, not {kinds!r:.40}", field="y")
    if len(kinds) != len(paths):
        raise DecodeError(f"{len(paths)} keys but {len(kinds)} kinds", field="y")
    if len(paths) > MAX_SCHEMA_KEYS:
        raise LimitError(f"a row of {len(paths)} keys", field="k", limit=MAX_SCHEMA_KEYS)
    size, parts = 0, 0
    for path in paths:
        if not path or not all(isinstance(part, str) for part in path):
            raise DecodeError("a key path is one or more str", field="k")
        check_path(path)
        size += sum(map(len, path))
        parts += len(path)
    if parts > MAX_SCHEMA_PARTS:
        raise LimitError(f"{parts} parts of keys in one row", field="k", limit=MAX_SCHEMA_PARTS)
    key_bytes = 4 * size
    if key_bytes > MAX_SCHEMA_BYTES:
        # Counted at four bytes a character only when that may be too much.
        key_bytes = sum(len(part.encode("utf-8", "replace")) for path in paths for part in path)
        if key_bytes > MAX_SCHEMA_BYTES:
            raise LimitError(f"keys of {key_bytes} bytes in one row", field="k", limit=MAX_SCHEMA_BYTES)
    if len(set(paths)) != len(paths):
        raise DecodeError("a key twice in one row", field="k")
    # A list and its parts for each path, and its column; each part has up to five bytes of its own.
    return 2 * len(paths) + parts, key_bytes + 5 * parts
