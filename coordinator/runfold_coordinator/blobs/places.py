"""Where the bytes of blobs lie: a local folder, or any URL that fsspec knows. Names are ours, never a user's.

An object is never changed: it appears whole under a name that was never used before, and goes as a whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from runfold.protocol import failpoints
from runfold_coordinator.store.folders import sync_folder

#: Objects are spread over so many folders, by the first two digits of their digest.
SHARDS = tuple(f"{shard:02x}" for shard in range(256))
#: Small objects that are brought to disk at a time: a disk syncs many together about as fast as one.
SYNC_THREADS = 8


def new_object_name(digest: str) -> str:
    """Return a name for an object with this digest that none had before.

    So that removing an old object never meets a new one of the same content.
    """
    return f"{digest[:2]}/{digest}-{secrets.token_hex(6)}"


def digest_of_object(name: str) -> str:
    """Return the digest in an object's name; "" if it is none of ours."""
    folder, _, rest = name.partition("/")
    digest = rest.partition("-")[0]
    return digest if len(digest) == 64 and digest.startswith(folder) else ""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object as the place lists it. `modified_unix_s` is None where the place doesn't tell."""

    name: str
    size: int
    modified_unix_s: float | None


class Place(Protocol):
    """Keeps objects. Thread-safe. Raises FileNotFoundError, OSError (ENOSPC too), BlobUnavailableError."""

    #: Folder on a local disk for what is on its way in.
    incoming: Path
    is_local: bool

    def take(self, source: Path, name: str) -> None:
        """Keep a file of `incoming` under a new name, durably; the file may stay (the caller removes it)."""

    def take_many(self, pieces: Sequence[tuple[str, bytes]]) -> None:
        """Keep small objects (name, bytes), durably."""

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading, from any place in it."""

    def size(self, name: str) -> int:
        """Return the bytes of an object."""

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are fine."""

    def list_shard(self, shard: str) -> Iterator[ObjectFacts]:
        """List the objects of a shard, in any order."""

    def close(self) -> None:
        """End; what is being taken in may fail, and is taken in again later. Idempotent."""


class LocalPlace:
    """Objects are files of a folder."""

    is_local = True

    def __init__(self, root: Path) -> None:
        """Open the folder, or make it.

        Raises:
            OSError: It can't be made or written.
        """
        self._root = root
        self.incoming = root / "incoming"
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (root, self.incoming):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._preparing = threading.Lock()
        self._is_prepared = False
        self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="runfold-blob-sync")

    def take(self, source: Path, name: str) -> None:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._prepare()
        failpoints.hit("blobs.after_sync")
        path = self._path(name)
        source.rename(path)
        failpoints.hit("blobs.after_rename")
        sync_folder(path.parent)
        failpoints.hit("blobs.after_folder_sync")

    def take_many(self, pieces: Sequence[tuple[str, bytes]]) -> None:
        self._prepare()
        list(self._pool.map(self._write, pieces))
        failpoints.hit("blobs.after_batch_rename")
        list(self._pool.map(sync_folder, {self._path(name).parent for name, _ in pieces}))

    def open(self, name: str) -> BinaryIO:
        return open(os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def size(self, name: str) -> int:
        return self._path(name).lstat().st_size

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def list_shard(self, shard: str) -> Iterator[ObjectFacts]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root / shard) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield ObjectFacts(f"{shard}/{entry.name}", found.st_size, found.st_mtime)

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _prepare(self) -> None:
        """Make the folders of the shards, durably, before the first blob comes."""
        with self._preparing:
            if self._is_prepared:
                return
            for shard in SHARDS:
                (self._root / shard).mkdir(mode=0o700, exist_ok=True)
            for folder in (self._root, self._root.parent):
                sync_folder(folder)
            with contextlib.suppress(PermissionError):  # the folder above ours may be closed to us
                sync_folder(self._root.parent.parent)
            self._is_prepared = True

    def _write(self, piece: tuple[str, bytes]) -> None:
        name, data = piece
        unfinished = self.incoming / f"{name[3:]}.tmp"
        try:
            with open(
                os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._path(name))
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _path(self, name: str) -> Path:
        assert digest_of_object(name), "made by new_object_name, or read from our table"
        return self._root / name
