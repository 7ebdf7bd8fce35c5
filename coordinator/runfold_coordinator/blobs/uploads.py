"""Uploads: blobs that come in pieces, over any number of requests, restarts and senders.

In: pieces at growing offsets of a digest. Out: the blob, once all of it is here and hashes to its digest.
What has come lies in a file named by the digest; whoever knows the content may go on where another stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runfold.protocol import failpoints
from runfold.protocol.content_sum import ContentSum
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import (
    FULL_ERRNOS,
    BlobError,
    BlobMismatchError,
    BlobSpaceError,
    UploadOffsetError,
)

MIB = 1024 * 1024
#: Uploads whose hash so far is remembered; of others the file is read again at the end.
KEPT_HASHES = 1000
#: Uploads that are brought into place at a time.
FINISHERS = 4
#: An upload that got nothing for so long is removed.
KEEP_PARTIAL_S = 86400.0
#: A small blob that is being written takes less.
_KEEP_UNFINISHED_S = 3600.0
#: An upload that goes on has a claim to the room it still needs; who pauses longer has none.
CLAIM_S = 600.0


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Uploads: those of which a piece is coming, those that wait for their next one, those being finished."""

    receiving: int
    waiting: int
    finishing: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has come: the bytes that are here, and whether the blob is in place."""

    offset: int
    is_complete: bool


class Uploads:
    """The uploads under way. Thread-safe."""

    def __init__(self, blobs: Blobs, *, keep_free_bytes: int = 0) -> None:
        """Take the blobs to add to.

        Args:
            keep_free_bytes: Disk space that uploads leave to the database.
        """
        self._blobs = blobs
        self._folder = blobs.place.incoming
        self._keep_free_bytes = keep_free_bytes
        self._lock = threading.Lock()
        #: Digests of which a piece is being written.
        self._busy: set[str] = set()
        self._finishing: dict[str, Future[None]] = {}
        #: (length, hash of so much) by digest.
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        #: (bytes still to come, monotonic time of the last piece) by digest: without it, several that don't
        #: all fit would fill the disk together, and none would ever be whole.
        self._claims: dict[str, tuple[int, float]] = {}
        #: Why an upload failed after who sent its end had been told to wait.
        self._failed: OrderedDict[str, BlobError] = OrderedDict()
        self._pool = ThreadPoolExecutor(FINISHERS, thread_name_prefix="runfold-upload")

    def close(self) -> None:
        """Wait for what is being brought into place. Nothing is lost of what is not."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def under_way(self) -> UnderWay:
        """Tell how many uploads there are; one that paused for long is none until it goes on."""
        with self._lock:
            since_s = time.monotonic() - CLAIM_S
            claimed = {digest for digest, (_, at_s) in self._claims.items() if at_s >= since_s}
            waiting = claimed - self._busy - set(self._finishing)
            return UnderWay(len(self._busy), len(waiting), len(self._finishing))

    def progress(self, digest: str) -> Progress:
        """Tell how far the upload of a digest has come.

        Raises:
            StoreUnavailableError: Not known.
        """
        if self._is_in_place(digest):
            return Progress(self._blobs.size(digest) or 0, is_complete=True)
        return Progress(self._length(digest), is_complete=False)

    def begin(self, digest: str, offset: int, size: int) -> Piece | None:
        """Start to write a piece of a blob of `size` bytes; None: all of its bytes are here already.

        Raises:
            UploadOffsetError: The upload goes on elsewhere, or is busy.
            BlobSpaceError: What is still to come doesn't fit on the disk.
            BlobMismatchError: It was complete, and was not what it should be.
            StoreUnavailableError, OSError: Not now.
        """
        if self._is_in_place(digest):
            return None
        with self._lock:
            if digest in self._finishing:
                return None
            if digest in self._busy:
                raise UploadOffsetError(digest, self._length(digest), is_busy=True)
            failed = self._failed.pop(digest, None)
            if failed is not None and offset:
                raise failed
            length = self._length(digest)
            if length > size:  # of another who said another size: one of the two is wrong
                self._forget(digest)
                length = 0
            if offset != length:
                raise UploadOffsetError(digest, length)
            if length == size > 0:
                return None
            self._claim(digest, size - length, is_new=not length)
            known_length, known_hash = self._hashes.pop(digest, (0, None))
            if not length:
                known_hash = ContentSum()
            elif known_length != length:
                known_hash = None
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path(digest), flags, 0o600)
            self._busy.add(digest)
        return Piece(self, digest, fd, at=length, size=size, known_hash=known_hash)

    def finish(self, digest: str, size: int) -> Future[None]:
        """Bring a blob whose bytes are all here into place. Asking again, while it is done or after, is fine.

        The Future raises what `Blobs.adopt` raises; BlobMismatchError where the bytes have another digest
        (they are forgotten); UploadOffsetError where they are not all here.
        """
        with self._lock:
            found = self._finishing.get(digest)
            if found is None:
                found = self._finishing[digest] = self._pool.submit(self._finish, digest, size)
            return found

    def check_space(self, wanted_bytes: int) -> None:
        """Raise BlobSpaceError where so many bytes would leave the database too few."""
        free = shutil.disk_usage(self._folder).free - self._keep_free_bytes
        if wanted_bytes > free:
            raise BlobSpaceError(
                f"the server's disk is full: {wanted_bytes} bytes are wanted, {max(0, free)} are free"
            )

    def _claim(self, digest: str, wanted_bytes: int, *, is_new: bool) -> None:
        """Claim room; a new upload takes none that others need to end."""
        now_s = time.monotonic()
        claims = {each: found for each, found in self._claims.items() if now_s - found[1] < CLAIM_S}
        claims.pop(digest, None)
        self.check_space(wanted_bytes + (sum(left for left, _ in claims.values()) if is_new else 0))
        self._claims = claims | {digest: (wanted_bytes, now_s)}

    def remove_old(self, now_unix_s: float) -> int:
        """Remove what nobody goes on with; return how many files went."""
        removed = 0
        for path in list(self._folder.iterdir()):
            digest, keep_s = path.stem, KEEP_PARTIAL_S if path.suffix == ".part" else _KEEP_UNFINISHED_S
            with self._lock, contextlib.suppress(FileNotFoundError):
                is_old = now_unix_s - path.lstat().st_mtime > keep_s
                if is_old and digest not in self._busy and digest not in self._finishing:
                    self._hashes.pop(digest, None)
                    path.unlink()
                    removed += 1
        return removed

    def _finish(self, digest: str, size: int) -> None:
        path = self._path(digest)
        try:
            if not self._blobs.missing([digest]):
                path.unlink(missing_ok=True)
                return
            md5 = self._check(digest, size, path)
            failpoints.hit("blobs.after_hash")
            self._blobs.adopt(digest, size, path, md5)
        except BlobMismatchError as error:
            with self._lock:
                self._failed[digest] = error
                while len(self._failed) > KEPT_HASHES:
                    self._failed.popitem(last=False)
            raise
        finally:
            with self._lock:
                self._finishing.pop(digest, None)
                self._claims.pop(digest, None)

    def _check(self, digest: str, size: int, path: Path) -> str:
        """Return the file's MD5; raise unless it is the blob."""
        length = self._length(digest)
        if length < size:
            raise UploadOffsetError(digest, length)
        with self._lock:
            hashed_length, found = self._hashes.pop(digest, (0, None))
        if found is None or hashed_length != length:
            with open(path, "rb") as file:
                found = _summed(file)
        if length != size or found.sha256 != digest:
            path.unlink(missing_ok=True)
            raise BlobMismatchError(f"what was sent as {digest} is {found.sha256}")
        return str(found.md5)

    def end_piece(self, digest: str, length: int, size: int, known_hash: Any) -> None:
        """Take that a piece was written, up to `length`; for Piece."""
        with self._lock:
            self._busy.discard(digest)
            if digest in self._claims:
                self._claims[digest] = (max(0, size - length), time.monotonic())
            if known_hash is not None:
                self._hashes[digest] = (length, known_hash)
                while len(self._hashes) > KEPT_HASHES:
                    self._hashes.popitem(last=False)

    def note_received(self, byte_count: int) -> None:
        """Count what a piece has brought; for Piece."""
        self._blobs.counts.add(received_bytes=byte_count)

    def _is_in_place(self, digest: str) -> bool:
        if self._blobs.missing([digest]):
            return False
        with self._lock:  # a crash right after its row has left the pieces
            if digest not in self._busy and digest not in self._finishing:
                self._forget(digest)
        return True

    def _forget(self, digest: str) -> None:
        self._hashes.pop(digest, None)
        self._path(digest).unlink(missing_ok=True)

    def _length(self, digest: str) -> int:
        try:
            found = self._path(digest).lstat()
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.part"


def _summed(file: BinaryIO) -> ContentSum:
    found = ContentSum()
    while piece := file.read(MIB):
        found.update(piece)
    return found


class Piece:
    """Writes one piece. `close()` keeps what was written."""

    def __init__(
        self, uploads: Uploads, digest: str, fd: int, *, at: int, size: int, known_hash: Any
    ) -> None:
        self._uploads = uploads
        self._digest = digest
        self._fd = fd
        #: A request that is cancelled leaves a write at work while the piece is closed.
        self._lock = threading.Lock()
        self._begin = at
        self._size = size
        #: Of all bytes up to `offset`; None: not known, the file is read at the end.
        self._hash = known_hash
        self.offset = at
        os.lseek(fd, at, os.SEEK_SET)

    def write(self, data: Sequence[bytes]) -> None:
        """Write the next bytes.

        Raises:
            BlobMismatchError: They are more than was said.
            BlobSpaceError: The disk is full; the piece is taken back.
            OSError: The disk failed.
        """
        with self._lock:
            if self._fd >= 0:
                self._write(data)

    def _write(self, data: Sequence[bytes]) -> None:
        if self.offset + sum(map(len, data)) > self._size:
            raise BlobMismatchError(f"more than the {self._size} bytes that were said")
        try:
            for part in data:
                view = memoryview(part)
                while view:
                    view = view[os.write(self._fd, view) :]
                self.offset += len(part)
                if self._hash is not None:
                    self._hash.update(part)
        except OSError as error:
            self._take_back()
            if error.errno in FULL_ERRNOS:
                raise BlobSpaceError("the server's disk is full") from error
            raise

    def close(self) -> None:
        """Let others go on; again does nothing."""
        with self._lock:
            if self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
            failpoints.hit("blobs.after_piece")
            self._uploads.note_received(self.offset - self._begin)
            self._uploads.end_piece(self._digest, self.offset, self._size, self._hash)

    def _take_back(self) -> None:
        # The hash has seen bytes that are not there any more.
        self._hash = None
        self.offset = self._begin
        os.ftruncate(self._fd, self._begin)
