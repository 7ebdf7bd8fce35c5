"""Disk space kept aside: on a full disk not even deleting works, so one file can be given up first."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)

#: The file comes back when this many times its size is free.
FREE_FACTOR = 4
#: What a server needs to start: the files of the database and of its Redis grow a little.
START_BYTES = 1024 * 1024


class Ballast:
    """One file of fixed size. Thread-safe: each step is one system call, and harmless when repeated."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def take(self) -> bool:
        """Allocate the file when there is room for it; return whether it is there."""
        if not self._size_bytes:
            return False
        if self._path.exists() and self._path.stat().st_size == self._size_bytes:
            return True
        if shutil.disk_usage(self._path.parent).free < FREE_FACTOR * self._size_bytes:
            return False
        fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size_bytes)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)
        return True

    def free_if_full(self) -> None:
        """Give the space up where a server that starts finds none: it writes a little before it serves."""
        if shutil.disk_usage(self._path.parent).free < START_BYTES:
            self.free()

    def free(self) -> None:
        """Give the space up: the disk is full."""
        if self._path.exists():
            self._path.unlink(missing_ok=True)
            logger.error(
                "the disk is full: the reserve is given up; free space soon",
                extra={"event": "ballast_freed", "bytes": self._size_bytes},
            )
