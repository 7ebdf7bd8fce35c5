"""One segment as its writer holds it: a file, preallocated and mapped, or appended to by pwrite.

Everything here may raise OSError; the writer above turns that into counted loss.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from runfold.protocol.failpoints import hit
from runfold.spool.format import SEGMENT_HEADER_BYTES, open_private, segment_name


class Segment:
    """An open segment. `place(position, record)` makes one record visible; `close()` ends the mapping."""

    def __init__(self, fd: int, capacity: int, *, mapped: bool) -> None:
        self.fd = fd
        self.capacity = capacity
        self.map: mmap.mmap | None = None
        self.view: memoryview | None = None
        self.words: memoryview | None = None
        if mapped:
            self.map = mmap.mmap(fd, capacity)
            self.view = memoryview(self.map)
            self.words = self.view.cast("Q")

    def place(self, position: int, record: bytes | bytearray | memoryview) -> None:
        """Write a whole record, its first word last.

        Raises:
            OSError: No space; what was written of it is taken back.
        """
        if self.view is None or self.words is None:
            write_whole(self.fd, record, position)
            return
        self.view[position + 8 : position + len(record)] = record[8:]
        hit("spool.after_body")
        self.words[position >> 3] = int.from_bytes(record[:8], "little")

    def close(self, *, truncate_at: int | None = None) -> None:
        """Unmap and close; cut what was allocated but not used when `truncate_at` is given."""
        if self.words is not None and self.view is not None and self.map is not None:
            self.words.release()
            self.view.release()
            self.map.close()
            self.words = self.view = self.map = None
        try:
            if truncate_at is not None:
                os.ftruncate(self.fd, truncate_at)
        finally:
            os.close(self.fd)


def create_file(path: Path, capacity: int, *, allocate: bool) -> int:
    """Create `path` anew and return its descriptor; on failure nothing is left of it.

    Raises:
        OSError: No space, quota, read-only, over RLIMIT_FSIZE.
    """
    path.unlink(missing_ok=True)
    fd = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        hit("spool.segment_created")
        if allocate:
            os.posix_fallocate(fd, 0, capacity)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd


def publish(path: Path, fd: int, header: bytes, first_seq: int) -> None:
    """Write the segment header and give the file its name: from now on readers see it."""
    write_whole(fd, header, 0)
    hit("spool.before_rename")
    path.rename(path.with_name(segment_name(first_seq)))
    hit("spool.after_rename")


def write_whole(fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
    """Write all of `data` at `position`, or raise OSError and leave nothing of it that could be read."""
    try:
        written = os.pwrite(fd, data, position)
        if written < len(data):
            # A short write means that the space ran out in the middle; the rest raises the reason.
            written += os.pwrite(fd, data[written:], position + written)
        if written < len(data):
            _refuse_short_write()
    except OSError as error:
        if error.errno is not None and position >= SEGMENT_HEADER_BYTES:
            os.ftruncate(fd, position)
        raise


def _refuse_short_write() -> None:
    raise OSError(errno.ENOSPC, "short write")
