"""Copies of files that are hashed on the way: what is kept is what the digest is of. Memory: one piece."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol.content_sum import ContentSum

PIECE_BYTES = 1024 * 1024
#: ioctl_ficlone(2): the file shares the other one's blocks until either is written to.
_FICLONE = 0x40049409
#: What a file system answers that has no such thing, or not between these two files.
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES}
)


@dataclass(frozen=True, slots=True)
class Summed:
    """What a content is known by: SHA-256 in hex, MD5 in base64, and how many bytes it has."""

    sha256: str
    md5: str
    size: int


def open_to_read(path: Path | str) -> int:
    """Return a descriptor of a regular file. OSError otherwise: a pipe would be waited on for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def copy_hashed(source_fd: int, target_fd: int) -> tuple[str, int]:
    """Copy a file into an empty one, sharing its blocks where the file system can.

    Returns:
        SHA-256 in hex and size in bytes of what the copy holds, whatever happens to the source meanwhile.

    Raises:
        OSError: One of them can't be read or written; the copy then holds a part of it.
    """
    if is_cloned(source_fd, target_fd):
        return hash_file(target_fd)
    total = hashlib.sha256()
    size = _copy(source_fd, target_fd, total.update)
    return total.hexdigest(), size


def copy_summed(source_fd: int, target_fd: int) -> Summed:
    """Copy a file as `copy_hashed` does, and sum it up on the way; raises as that does."""
    if is_cloned(source_fd, target_fd):
        return sum_file(target_fd)
    total = ContentSum()
    size = _copy(source_fd, target_fd, total.update)
    return Summed(total.sha256, total.md5, size)


def _copy(source_fd: int, target_fd: int, take: Callable[[bytes], None]) -> int:
    size = 0
    while piece := os.pread(source_fd, PIECE_BYTES, size):
        write_all(target_fd, piece)
        take(piece)
        size += len(piece)
    return size


def sum_file(fd: int) -> Summed:
    """Return both sums of an open file, read once; its offset stays."""
    total, size = ContentSum(), 0
    while piece := os.pread(fd, PIECE_BYTES, size):
        total.update(piece)
        size += len(piece)
    return Summed(total.sha256, total.md5, size)


def sum_path(path: Path | str) -> Summed:
    """Return both sums of a regular file. OSError when it can't be read."""
    fd = open_to_read(path)
    try:
        return sum_file(fd)
    finally:
        os.close(fd)


def hash_file(fd: int, limit_bytes: int = 0) -> tuple[str, int]:
    """Return SHA-256 in hex and size of an open file, or of its first bytes (0: of all); its offset stays."""
    total, size = hash_state(fd, limit_bytes)
    return total.hexdigest(), size


def hash_state(fd: int, limit_bytes: int = 0) -> tuple[hashlib._Hash, int]:
    """Return a hash that goes on behind the first bytes of an open file, and how many these are."""
    total, size = hashlib.sha256(), 0
    while piece := os.pread(fd, min(PIECE_BYTES, (limit_bytes or size + PIECE_BYTES) - size), size):
        total.update(piece)
        size += len(piece)
    return total, size


def hash_path(path: Path | str) -> tuple[str, int]:
    """Return SHA-256 in hex and size of a regular file. OSError when it can't be read."""
    fd = open_to_read(path)
    try:
        return hash_file(fd)
    finally:
        os.close(fd)


def is_cloned(source_fd: int, target_fd: int) -> bool:
    """Make the target share the source's blocks; False where the file system can't, and nothing was done."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def write_all(fd: int, data: bytes) -> None:
    """Write all of it at the file's offset: one write() stops at signals and full disks."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def write_whole(fd: int, data: bytes) -> None:
    """Make an open file hold exactly this."""
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    write_all(fd, data)
