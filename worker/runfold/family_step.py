"""FamilyStep: one step counter for a process and the children that log into its run. Lives in a shared page.

In: the step of whoever logged last. Out: the step that comes next. Until a child joins, nobody waits.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Name of the page in the spool's directory of the process that made the run.
FILE_NAME = "step"
_PAGE_BYTES = 4096
_AT_CHILDREN, _AT_NEXT = 0, 1
#: Longest wait for a process that holds the counter; a stopped one must not stop the others.
_PATIENCE_S = 0.02


class FamilyStep:
    """The counter, as one process sees it. The caller holds the run's lock."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the page. Raises OSError where there is none, or no space for it."""
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.posix_fallocate(self._fd, 0, _PAGE_BYTES)  # a hole in the file could end in SIGBUS
            page = mmap.mmap(self._fd, _PAGE_BYTES)
        except (OSError, ValueError) as error:
            os.close(self._fd)
            raise OSError(f"no shared step in {path}: {error}") from error
        #: [children that joined, next step]. The run's maker reads the first with every row.
        self.words = memoryview(page).cast("q")

    def publish(self, step: int) -> None:
        """Say which step comes next; for the maker, before it has children."""
        self.words[_AT_NEXT] = step

    def join(self) -> int:
        """Make this process one of the children; return the step that comes next."""
        with self.turn():
            self.words[_AT_CHILDREN] += 1
        return self.words[_AT_NEXT]

    @property
    def has_children(self) -> bool:
        """Whether somebody else may have moved the counter."""
        return self.words[_AT_CHILDREN] != 0

    @property
    def next_step(self) -> int:
        """The step that comes next."""
        return self.words[_AT_NEXT]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the counter. After 20 ms without getting it the caller goes on all the same."""
        is_held = self._hold()
        try:
            yield
        finally:
            if is_held:
                # Of the process, not of the descriptor: a fork's child shares that with its parent.
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _hold(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.0002)
