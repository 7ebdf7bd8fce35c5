"""The next segment's file, allocated by a short-lived thread before the writer needs it."""

from __future__ import annotations

import _thread
import os
import threading
from pathlib import Path

from runfold.spool.segment import create_file


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
            self._fd = create_file(self._path, self._capacity, allocate=True)
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
