"""Logged values inside saved fold states: what we wrote ourselves, so wider limits than on the wire."""

from __future__ import annotations

from typing import Any

from runfold.protocol.limits import MAX_DEPTH
from runfold.protocol.values import pack_value, unpack_value

#: A row can be merged from many records, and nests one record's values a few levels deeper.
_LIMITS: dict[str, int] = {"max_bytes": 1 << 31, "max_depth": MAX_DEPTH + 8, "max_elements": 1 << 31}

Saved = bytes | float | bool | str | None


def pack_saved(value: Any) -> bytes:
    """Pack any logged value."""
    return pack_value(value, **_LIMITS)


def unpack_saved(data: bytes) -> Any:
    """Return what pack_saved() packed."""
    return unpack_value(data, **_LIMITS)


def save_value(value: Any) -> Saved:
    """Return a value that plain msgpack carries: small scalars as they are, the rest packed to bytes."""
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return value
    return pack_saved(value)


def load_value(saved: Saved) -> Any:
    """Return what save_value() was given."""
    return unpack_saved(saved) if isinstance(saved, bytes) else saved
