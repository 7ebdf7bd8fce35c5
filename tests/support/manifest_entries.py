"""Entries of manifests for tests."""

from __future__ import annotations

from runfold.protocol.content_sum import ContentSum, md5_of_text
from runfold.protocol.manifest import Entry


def file_entry(content: bytes) -> Entry:
    """Return the entry of a file with this content."""
    found = ContentSum(content)
    return Entry(found.md5, len(content), sha256=found.sha256)


def entry_of(sha256: str, size: int = 1) -> Entry:
    """Return the entry of a file of which only the SHA-256 matters."""
    return Entry(md5_of_text(sha256), size, sha256=sha256)
