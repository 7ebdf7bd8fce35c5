"""What a content is known by: SHA-256, by which it is kept and verified, and MD5, which is W&B's name for it.

Pure. MD5 guards nothing: two contents with one MD5 are two contents here.
"""

from __future__ import annotations

import base64
import hashlib
import re

#: Base64 of 16 bytes, and of nothing else: 4 bits of the last digit are unused.
_BASE64_OF_16 = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_HEX_OF_16 = re.compile(r"[0-9a-f]{32}")


class ContentSum:
    """Both sums of one content, in one pass over it. Not thread-safe."""

    __slots__ = ("_md5", "_sha256")

    def __init__(self, data: bytes = b"") -> None:
        self._sha256 = hashlib.sha256(data)
        self._md5 = hashlib.md5(data, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        self._md5.update(data)

    @property
    def sha256(self) -> str:
        """Lower-case hex, 64 characters."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """Base64, 24 characters, as W&B writes it."""
        return base64.b64encode(self._md5.digest()).decode()


def md5_of(data: bytes) -> str:
    """Return the MD5 of bytes, base64."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def md5_of_text(text: str) -> str:
    """Return the MD5 of a text's UTF-8, base64."""
    return md5_of(text.encode())


def is_md5(text: str) -> bool:
    """Return whether `text` is an MD5 in base64."""
    return _BASE64_OF_16.fullmatch(text) is not None


def is_md5_hex(text: str) -> bool:
    """Return whether `text` is an MD5 in lower-case hex: the digest of a whole manifest."""
    return _HEX_OF_16.fullmatch(text) is not None
