"""Source: one file as it was when it was opened, to be read any number of times. In: a path. Out: bytes.

The open descriptor keeps it: a file that is replaced by rename, as checkpoints are, stays what it was,
and one that is only appended to is taken up to the size that it had.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from runfold.uploads.failures import SourceError, StoppedError

#: Read at once.
CHUNK_BYTES = 1 << 20


class Source:
    """An open file. One thread at a time. `close` is idempotent."""

    def __init__(self, path: str | Path) -> None:
        """Open it.

        Raises:
            SourceError: It is not there, is no regular file, or may not be read.
        """
        self.path = Path(path)
        try:
            # NONBLOCK: a pipe that nobody writes to must not hold anybody up.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise SourceError(f"{self.path} is not there", is_gone=True) from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{self.path} can't be read: {error}") from error
        self.opened_unix_s = time.time()
        about = os.fstat(self._fd)
        if not stat.S_ISREG(about.st_mode):
            self.close()
            raise SourceError(f"{self.path} is no file")
        #: Bytes of it that are meant.
        self.size = about.st_size
        #: What changes when the content may have changed.
        self.mark = mark_of(about)
        self.modified_unix_s = about.st_mtime
        self._hash, self._hashed_bytes = hashlib.sha256(), 0

    def digest(self, should_stop: Callable[[], bool] = lambda: False) -> str:
        """Return the SHA-256 of it, hex.

        Raises:
            SourceError: It became shorter, or can't be read.
            StoppedError: `should_stop` said so.
        """
        found = self.digest_some(should_stop, lambda: False)
        assert found is not None, "nobody asked for a part"
        return found

    def digest_some(self, should_stop: Callable[[], bool], is_enough: Callable[[], bool]) -> str | None:
        """Return the SHA-256 as `digest` does; None when `is_enough` said so before: call again to go on."""
        for chunk in self.chunks(self._hashed_bytes):
            if should_stop():
                raise StoppedError(f"{self.path} was being read")
            self._hash.update(chunk)
            self._hashed_bytes += len(chunk)
            if self._hashed_bytes < self.size and is_enough():
                return None
        return self._hash.hexdigest()

    def chunks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield `length` bytes from `offset`, all that are left by default, in pieces of at most 1 MiB.

        Raises:
            SourceError: It became shorter, or can't be read.
        """
        end = self.size if length is None else offset + length
        while offset < end:
            try:
                chunk = os.pread(self._fd, min(CHUNK_BYTES, end - offset), offset)
            except OSError as error:
                raise SourceError(f"{self.path} can't be read: {error}") from error
            if not chunk:
                raise SourceError(f"{self.path} became shorter while it was read")
            offset += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


#: Inode, size and time of the last change (ns).
Mark = tuple[int, int, int]


def mark_of(about: os.stat_result) -> Mark:
    """Return what two states of a file share as long as nobody wrote to it or replaced it."""
    return about.st_ino, about.st_size, about.st_mtime_ns
