"""The manifest of an artifact's version: which file has which content. Travels and is kept as a blob of JSON.

Its digest is what makes two versions the same: SHA-256 over the entries sorted by name, nothing else of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.file_names import check_file_name, is_digest

MANIFEST_VERSION = 1
#: Files of one version.
MAX_ENTRIES = 1_000_000
#: A manifest, as JSON.
MAX_MANIFEST_BYTES = 512 * 1024 * 1024
MAX_REFERENCE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a version.

    Attributes:
        digest: SHA-256 of the content in hex. Of a reference: whatever tells its versions apart (an ETag,
            a checksum, the address itself).
        size: Bytes; None where a reference does not tell.
        ref: Where the content is, for a reference that is not kept here; None: it is a blob of this server.
        extra: What a reference needs to be fetched again: a version id, an ETag.
    """

    digest: str
    size: int | None = None
    ref: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        """Return the map that is kept."""
        found: dict[str, Any] = {"digest": self.digest, "size": self.size}
        if self.ref is not None:
            found |= {"ref": self.ref, "extra": dict(self.extra)}
        return found

    @classmethod
    def from_map(cls, found: Any) -> Self:
        """Return the entry in a decoded map; DecodeError if it is none."""
        if not isinstance(found, dict):
            raise DecodeError("an entry of a manifest is a map", field="entries")
        digest, size, ref = found.get("digest"), found.get("size"), found.get("ref")
        if not isinstance(digest, str) or len(digest) > MAX_REFERENCE_BYTES:
            raise DecodeError("an entry has a digest", field="digest")
        if size is not None and (type(size) is not int or not 0 <= size < 2**63):
            raise DecodeError("a size is a number of bytes", field="size")
        if ref is None:
            if not is_digest(digest) or size is None:
                raise DecodeError("a file has a SHA-256 and a size", field="digest")
            return cls(digest, size)
        extra = found.get("extra") or {}
        if not isinstance(ref, str) or len(ref) > MAX_REFERENCE_BYTES or not isinstance(extra, dict):
            raise DecodeError("a reference is a URI", field="ref")
        return cls(digest, size, ref, extra)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files by name."""

    entries: Mapping[str, Entry]

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the entries in the order of their names: equal for equal content."""
        total = hashlib.sha256(b"runfold-manifest-v1\n")
        for name in sorted(self.entries):
            entry = self.entries[name]
            total.update(json.dumps([name, entry.digest, entry.ref], ensure_ascii=True).encode() + b"\n")
        return total.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files and of the references that tell theirs."""
        return sum(entry.size or 0 for entry in self.entries.values())

    @property
    def blobs(self) -> dict[str, int]:
        """Size by digest of what lies on the server."""
        return {entry.digest: entry.size or 0 for entry in self.entries.values() if entry.ref is None}

    def pack(self) -> bytes:
        """Return the JSON that is kept: the same bytes for the same entries."""
        entries = {name: self.entries[name].to_map() for name in sorted(self.entries)}
        return json.dumps({"v": MANIFEST_VERSION, "entries": entries}, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return the manifest in `data`; ProtocolError if it is none, or has names that no file may have."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise LimitError("the manifest is too large", field="manifest", limit=MAX_MANIFEST_BYTES)
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the manifest is no JSON: {error}", field="manifest") from error
        if not isinstance(found, dict) or found.get("v") != MANIFEST_VERSION:
            raise DecodeError("no manifest of a version that is known", field="v")
        entries = found.get("entries")
        if not isinstance(entries, dict):
            raise DecodeError("a manifest has entries", field="entries")
        if len(entries) > MAX_ENTRIES:
            raise LimitError("the manifest has too many files", field="entries", limit=MAX_ENTRIES)
        return cls({check_file_name(name): Entry.from_map(entry) for name, entry in entries.items()})
