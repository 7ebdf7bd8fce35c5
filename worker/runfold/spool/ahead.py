"""Slow work on segments, done beside the writer by short-lived threads: making the next, leaving the last."""

from __future__ import annotations

import _thread
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from runfold.spool.segment import Segment, create_file

#: Written at once; the interpreter is not held up meanwhile.
_ZEROS: Final = bytes(256 * 1024)


class FileAhead:
    """At most one file in preparation. Used by one writer; only the file system work is in the thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = threading.Event()
        self._done.set()
        self._capacity = 0
        self._fd: int | None = None

    @property
    def is_idle(self) -> bool:
        """True when no file is ready or in preparation."""
        return self._done.is_set() and self._fd is None

    def prepare(self, capacity: int) -> None:
        """Start to allocate; does nothing when no thread can be started (interpreter exit)."""
        self._done.clear()
        self._capacity = capacity
        try:
            # Not threading.Thread: that waits for the thread to run, here in the middle of a log() call.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            self._done.set()

    def _run(self) -> None:
        try:
            fd = create_file(self._path, self._capacity, allocate=True)
            _bring_into_memory(fd, self._capacity)
            self._fd = fd
        except OSError:
            # The writer will meet the same reason when it needs the space, and reports it there.
            self._fd = None
        finally:
            self._done.set()

    def take(self, capacity: int) -> int | None:
        """Return the descriptor of a file of `capacity`, waiting for one in preparation; else None."""
        self._done.wait()
        fd, self._fd = self._fd, None
        if fd is not None and self._capacity != capacity:
            os.close(fd)
            self._path.unlink(missing_ok=True)
            return None
        return fd

    def discard(self) -> None:
        """Remove what was prepared."""
        fd = self.take(self._capacity)
        if fd is not None:
            os.close(fd)
            self._path.unlink(missing_ok=True)


def close_beside(segment: Segment) -> None:
    """Close a segment that nobody uses any more: to unmap 16 MiB takes a millisecond."""
    try:
        _thread.start_new_thread(_close, (segment,))
    except RuntimeError:
        _close(segment)


def _close(segment: Segment) -> None:
    with suppress(OSError):
        segment.close()


def _bring_into_memory(fd: int, capacity: int) -> None:
    """Have the file's pages in memory before rows go there: else each costs the log() call that meets it.

    A page that the file system has to allocate takes microseconds, now and then milliseconds.
    """
    with suppress(OSError):
        for at in range(0, capacity, len(_ZEROS)):
            os.pwrite(fd, _ZEROS[: capacity - at], at)
