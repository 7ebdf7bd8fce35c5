"""Downloads: contents of the server become files, several at once, each verified before it is in its place.

In: names, digests and sizes, as a manifest or a run's files tell them. Out: files below a folder. What
was cut off is gone on with. Used for artifacts, and for files of runs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError, UnavailableError
from runfold.api.paths import route
from runfold.batches import SMALL_BYTES, batches
from runfold.blob_cache import BlobCache
from runfold.errors import CommError
from runfold.file_copies import copy_hashed, hash_state, write_all, write_whole
from runfold.parallel import THREADS, in_parallel
from runfold.progress import Progress, no_progress
from runfold.target_folder import TargetFolder

#: Pauses before attempts to go on; counted anew whenever something came.
_PAUSES_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download.

    Attributes:
        name: Where it goes below the folder, parts separated by "/".
        sha256: Of its content, hex.
        size: Bytes.
    """

    name: str
    sha256: str
    size: int


class DigestError(CommError):
    """What came is not what was asked for, also the second time: nothing was put into its place."""


def download(
    connection: Connection,
    wanted: Iterable[Wanted],
    root: Path,
    *,
    cache: BlobCache | None = None,
    threads: int = THREADS,
    label: str = "",
) -> list[Path]:
    """Bring files below `root`; what is there already with the right content is left as it is.

    Args:
        cache: Where contents are looked for first, and kept; None: nowhere.
        label: What the progress bar says; it is shown on a terminal, when it takes more than a moment.

    Returns:
        The places, in the order of `wanted`.

    Raises:
        CommError: The server can't be reached, has it not, or sends something else (DigestError).
        FileNameError, TargetError: A name can't be written there; nothing was downloaded.
        OSError: The disk is full, or the like. What was finished stays.
    """
    files = list(wanted)
    target = TargetFolder(root)
    target.check_names(file.name for file in files)
    small = [file for file in files if file.size <= SMALL_BYTES]
    large = [file for file in files if file.size > SMALL_BYTES]
    with Progress(label, sum(file.size for file in files), len(files)) as progress:

        def bring(batch: Sequence[Wanted]) -> None:
            _bring_small(connection, batch, target, cache, progress.add)

        in_parallel(
            lambda file: _bring(connection, file, target, cache, progress.add), large, threads=threads
        )
        in_parallel(bring, batches(small, lambda file: file.size), threads=threads)
    if cache is not None:
        cache.trim()
    return [target.root / file.name for file in files]


def fetch(
    connection: Connection,
    sha256: str,
    size: int,
    fd: int,
    *,
    on_bytes: Callable[[int], None] = no_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write a content into an open file, going on behind what it holds, and verify it.

    Args:
        fd: Opened to read and write.

    Raises:
        CommError: The server can't be reached, has it not, or sends something else (DigestError).
    """
    for is_last in (False, True):
        partial = _Partial(sha256, size, fd, on_bytes)
        attempt = 0
        while partial.offset < size:
            before = partial.offset
            try:
                partial.go_on(connection)
            except UnavailableError as error:
                attempt = attempt + 1 if partial.offset == before else 1
                if attempt > len(_PAUSES_S):
                    raise
                sleep(max(_PAUSES_S[attempt - 1], error.after_s))
        if partial.is_right():
            return
        if is_last:
            raise DigestError(f"the server's content of {sha256} has another digest")


class _Partial:
    """A content as far as it came, with the hash so far."""

    def __init__(self, sha256: str, size: int, fd: int, on_bytes: Callable[[int], None]) -> None:
        self._sha256, self._size, self._fd, self._on_bytes = sha256, size, fd, on_bytes
        self._total, self.offset = hash_state(fd, size) if size else (hashlib.sha256(), 0)
        os.ftruncate(fd, self.offset)
        os.lseek(fd, self.offset, os.SEEK_SET)
        on_bytes(self.offset)

    def go_on(self, connection: Connection) -> None:
        """Ask for the rest once; UnavailableError when less of it comes."""
        with connection.stream(route("blobs", self._sha256), offset=self.offset) as body:
            if body.offset != self.offset:  # something on the way knows no ranges
                self._begin_anew()
            for piece in body.pieces():
                kept = piece[: self._size - self.offset]
                write_all(self._fd, kept)
                self._total.update(kept)
                self.offset += len(kept)
                self._on_bytes(len(kept))
        if self.offset < self._size:
            raise UnavailableError(f"{self._sha256}: the answer ended at byte {self.offset} of {self._size}")

    def is_right(self) -> bool:
        """Say whether the digest is the one; else forget what came."""
        if self._total.hexdigest() == self._sha256:
            return True
        self._begin_anew()
        return False

    def _begin_anew(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._on_bytes(-self.offset)
        self._total, self.offset = hashlib.sha256(), 0


def read_content(connection: Connection, sha256: str, *, limit_bytes: int) -> bytes:
    """Return a content of which the size is not known, verified.

    Raises:
        CommError: The server can't be reached, has it not, or sends something else (DigestError), or more.
    """
    for pause_s in (*_PAUSES_S, None):
        found = bytearray()
        try:
            with connection.stream(route("blobs", sha256)) as body:
                for piece in body.pieces():
                    found += piece
                    if len(found) > limit_bytes:
                        raise CommError(f"{sha256} is larger than {limit_bytes:,} bytes")
        except UnavailableError as error:
            if pause_s is None:
                raise
            time.sleep(max(pause_s, error.after_s))
            continue
        if hashlib.sha256(found).hexdigest() == sha256:
            return bytes(found)
        break
    raise DigestError(f"the server's content of {sha256} has another digest")


def _bring(
    connection: Connection,
    file: Wanted,
    target: TargetFolder,
    cache: BlobCache | None,
    on_bytes: Callable[[int], None],
) -> None:
    if target.holds(file.name, file.sha256, file.size):
        on_bytes(file.size)
    else:
        _write(connection, file, target, cache, on_bytes)


def _write(
    connection: Connection,
    file: Wanted,
    target: TargetFolder,
    cache: BlobCache | None,
    on_bytes: Callable[[int], None],
) -> None:
    target.write(file.name, file.sha256, lambda fd: _fill(connection, file, fd, cache, on_bytes))


def _bring_small(
    connection: Connection,
    files: Sequence[Wanted],
    target: TargetFolder,
    cache: BlobCache | None,
    on_bytes: Callable[[int], None],
) -> None:
    absent = [file for file in files if not target.holds(file.name, file.sha256, file.size)]
    on_bytes(sum(file.size for file in files) - sum(file.size for file in absent))
    sizes = {file.sha256: file.size for file in absent}
    asked = [sha256 for sha256 in sizes if cache is None or not cache.has(sha256, sizes[sha256])]
    found = _read_many(connection, asked) if len(asked) > 1 else {}
    for file in absent:
        content = found.get(file.sha256)
        if content is None:  # alone, in the cache, or what the server did not give
            _write(connection, file, target, cache, on_bytes)
            continue
        if cache is not None:
            cache.put(file.sha256, content)
        target.write(file.name, file.sha256, functools.partial(write_whole, data=content))
        on_bytes(file.size)


def _read_many(connection: Connection, digests: list[str]) -> dict[str, bytes]:
    """Return contents by digest, verified; what can't be had so is left out."""
    try:
        answer = connection.post("/blobs/read", {"digests": digests})
    except NotFoundError:
        return {}  # a server that has no such route
    return {sha256: data for sha256, data in answer if hashlib.sha256(data).hexdigest() == sha256}


def _fill(
    connection: Connection, file: Wanted, fd: int, cache: BlobCache | None, on_bytes: Callable[[int], None]
) -> None:
    if cache is None:
        fetch(connection, file.sha256, file.size, fd, on_bytes=on_bytes)
        return
    for _ in range(2):
        source = _cached(connection, file, cache, on_bytes)
        if source is None:
            break
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            if copy_hashed(source, fd)[0] == file.sha256:
                return
        finally:
            os.close(source)
        cache.forget(file.sha256)  # damaged on disk
        on_bytes(-file.size)
        os.ftruncate(fd, 0)
    fetch(connection, file.sha256, file.size, fd, on_bytes=on_bytes)


def _cached(
    connection: Connection, file: Wanted, cache: BlobCache, on_bytes: Callable[[int], None]
) -> int | None:
    """Return a descriptor of the content in the cache, brought there if need be; None where it can't be."""
    source = cache.open(file.sha256, file.size)
    if source is not None:
        on_bytes(file.size)
        return source
    brought = 0

    def count(size: int) -> None:
        nonlocal brought
        brought += size
        on_bytes(size)

    try:
        source = cache.fill(
            file.sha256, file.size, lambda fd: fetch(connection, file.sha256, file.size, fd, on_bytes=count)
        )
    except OSError:
        # A cache that is full or read-only is no reason to go without the file.
        on_bytes(-brought)
        cache.give_up(file.sha256)
        return None
    on_bytes(file.size - brought)  # another process brought it
    return source
