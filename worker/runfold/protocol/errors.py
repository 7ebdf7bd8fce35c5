"""What a decoder raises. Every decoder of this package raises ProtocolError or nothing, whatever its input.

ProtocolError (a ValueError)
├── LimitError     over a stated limit: count it, declare it, go on
├── VersionError   made by a newer version: keep it raw
└── DecodeError    not what it claims to be: dead letter
"""

from __future__ import annotations


class ProtocolError(ValueError):
    """Does not fit the wire; `field` names the part, `limit` the number that was broken."""

    def __init__(self, message: str, *, field: str | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit


class LimitError(ProtocolError):
    """Larger, deeper or more than a stated limit."""


class VersionError(ProtocolError):
    """A version that this code does not know."""


class DecodeError(ProtocolError):
    """Bytes that are not what they claim to be."""
