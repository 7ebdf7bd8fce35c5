"""The manifest of a version, from those of its parts, or of another one: read and written as streams."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runfold.protocol import failpoints
from runfold.protocol.content_sum import ContentSum
from runfold.protocol.errors import DecodeError
from runfold_coordinator.artifacts.manifest_stream import (
    ManifestSums,
    packed_entries,
    read_entries,
    summed,
)
from runfold_coordinator.artifacts.merge import Entries, merge_entries, overlay_entries
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import BlobMissingError

#: Manifests read at once; of more parts, intermediate ones are made.
FAN_IN = 64

_Open = Callable[[], BinaryIO]
_Combine = Callable[[Sequence[Entries]], Entries]


@dataclass(frozen=True, slots=True)
class Merged:
    """The blob of the merged manifest, and what it says."""

    manifest: str
    sums: ManifestSums


def merge_manifests(blobs: Blobs, manifests: Sequence[str]) -> Merged:
    """Keep the manifest that has the entries of all these (blobs), and return it.

    Raises:
        PathConflictError: Two of them mean different content by one path.
        ProtocolError: Together they are over a limit.
        BlobMissingError, BlobUnavailableError, OSError, StoreUnavailableError: Not now.
    """
    distinct = list(dict.fromkeys(manifests))
    with contextlib.closing(_Files(blobs.place.incoming)) as files:
        sources: list[_Open] = [_opener(blobs, digest) for digest in distinct]
        while len(sources) > FAN_IN:
            sources = [
                files.keep(sources[start : start + FAN_IN]).open for start in range(0, len(sources), FAN_IN)
            ]
        return _adopted(blobs, files.keep(sources))


def overlay_manifests(blobs: Blobs, top: str, base: str) -> Merged:
    """Keep the manifest that has the entries of both, `top`'s where both have one; `top` was read before.

    Raises:
        LimitError: Together they are over a limit.
        BlobMissingError, BlobUnavailableError, OSError, StoreUnavailableError: Not now.
    """
    with contextlib.closing(_Files(blobs.place.incoming)) as files:
        sources = [_opener(blobs, top), _opener(blobs, base)]
        try:
            return _adopted(blobs, files.keep(sources, lambda parts: overlay_entries(*parts)))
        except DecodeError as error:  # it was a manifest when its version was made
            raise BlobMissingError(base, is_damaged=True) from error


def _opener(blobs: Blobs, digest: str) -> _Open:
    return lambda: blobs.open(digest)


def _adopted(blobs: Blobs, found: _Kept) -> Merged:
    failpoints.hit("artifacts.after_merge")
    blobs.adopt(found.digest, found.byte_count, found.path, found.md5)
    return Merged(found.digest, found.sums)


def parts_with(blobs: Blobs, manifests: Sequence[str], name: str) -> list[str]:
    """Return the manifests, each once, that have an entry of this name."""
    found = []
    for digest in dict.fromkeys(manifests):
        with blobs.open(digest) as file:
            if any(each == name for each, _ in read_entries(file)):
                found.append(digest)
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    digest: str
    md5: str
    byte_count: int
    sums: ManifestSums

    def open(self) -> BinaryIO:
        return open(self.path, "rb")


class _Files:
    """Merged manifests on their way, in a folder that is swept should we die."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []

    def keep(self, sources: Sequence[_Open], combine: _Combine = merge_entries) -> _Kept:
        path = self._folder / f"manifest-{secrets.token_hex(8)}.tmp"
        self._paths.append(path)
        sums, total, byte_count = ManifestSums(), ContentSum(), 0
        with contextlib.ExitStack() as opened:
            parts: list[Entries] = [read_entries(opened.enter_context(open_one())) for open_one in sources]
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            file = opened.enter_context(open(fd, "wb"))
            for piece in packed_entries(summed(combine(parts), sums)):
                file.write(piece)
                total.update(piece)
                byte_count += len(piece)
        return _Kept(path, total.sha256, total.md5, byte_count, sums)

    def close(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)
