"""The manifest of an artifact's version: which file has which content. Travels and is kept as a blob of JSON.

It has two sums over its entries in the order of their names. `digest` is W&B's, an MD5 over names and
digests: what people see, compare and look up. `content_digest` is a SHA-256 over what is really kept: only
where that is equal, two versions are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from runfold.protocol.content_sum import is_md5
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
        digest: MD5 of the content in base64, as in W&B. Of a reference: whatever tells its versions apart (an
            ETag, a checksum, the address itself).
        size: Bytes; None where a reference does not tell.
        ref: Where the content is, for a reference that is not kept here; None: it is a blob of this server.
        extra: What a reference needs to be fetched again: a version id, an ETag.
        sha256: Of the content, hex: the name of its blob. Of a reference, where this machine has read it.
    """

    digest: str
    size: int | None = None
    ref: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @property
    def key(self) -> str:
        """What tells this content from any other: its SHA-256, or a reference's digest."""
        return self.sha256 or self.digest

    @property
    def blob(self) -> str:
        """The digest of its blob; asked of files only."""
        assert self.sha256 is not None, "a file is kept by its SHA-256"
        return self.sha256

    def to_map(self) -> dict[str, Any]:
        """Return the map that is kept."""
        found: dict[str, Any] = {"digest": self.digest, "size": self.size}
        if self.sha256 is not None:
            found["sha256"] = self.sha256
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
        sha256 = found.get("sha256")
        if sha256 is not None and not (isinstance(sha256, str) and is_digest(sha256)):
            raise DecodeError("a SHA-256 is 64 characters of lower-case hex", field="sha256")
        if ref is None:
            if sha256 is None or size is None:
                raise DecodeError("a file has a SHA-256 and a size", field="sha256")
            if not is_md5(digest):
                raise DecodeError("the digest of a file is an MD5 in base64", field="digest")
            return cls(digest, size, sha256=sha256)
        extra = found.get("extra") or {}
        if not isinstance(ref, str) or len(ref) > MAX_REFERENCE_BYTES or not isinstance(extra, dict):
            raise DecodeError("a reference is a URI", field="ref")
        return cls(digest, size, ref, extra, sha256)


class EntrySums:
    """Sums over entries that pass by in the order of their names."""

    __slots__ = ("_content", "_digest")

    def __init__(self) -> None:
        # The first line and the form of the others are W&B's.
        self._digest = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
        self._content = hashlib.sha256(b"runfold-manifest-v1\n")

    def add(self, name: str, entry: Entry) -> None:
        """Take the next entry."""
        self._digest.update(f"{name}:{entry.digest}\n".encode(errors="replace"))
        self._content.update(json.dumps([name, entry.key, entry.ref], ensure_ascii=True).encode() + b"\n")

    @property
    def digest(self) -> str:
        """MD5 in hex over names and digests, as W&B's client computes it."""
        return self._digest.hexdigest()

    @property
    def content_digest(self) -> str:
        """SHA-256 in hex over names, contents and addresses."""
        return self._content.hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files by name."""

    entries: Mapping[str, Entry]

    @property
    def sums(self) -> EntrySums:
        """Both sums over the entries."""
        total = EntrySums()
        for name in sorted(self.entries):
            total.add(name, self.entries[name])
        return total

    @property
    def digest(self) -> str:
        """MD5 in hex, W&B's: equal for equal names and digests."""
        return self.sums.digest

    @property
    def size(self) -> int:
        """Bytes of all files and of the references that tell theirs."""
        return sum(entry.size or 0 for entry in self.entries.values())

    @property
    def blobs(self) -> dict[str, int]:
        """Size by SHA-256 of what lies on the server."""
        return {entry.blob: entry.size or 0 for entry in self.entries.values() if entry.ref is None}

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
