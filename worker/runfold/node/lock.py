"""One agent a place and target directory: an flock, which the kernel gives back however the agent ends.

A place is a boot of a machine, and the container on it: where pids mean the same processes. Several may see
one directory (a shared home, a mounted volume), and each has an agent of its own.

A shared lock is enough to see whether an agent works here, so those who look do not get in each other's way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from .processes import boot_id, pid_namespace

#: Somebody who only looks holds the lock for microseconds: try this long before believing in another agent.
PATIENCE_S = 0.3
NOTE_BYTES = 64

_held: set[AgentLock] = set()


class AgentLock:
    """The right to ship one target directory. Not thread-safe. A fork's child does not have it."""

    def __init__(self, target_dir: Path, *, place: str | None = None, is_stand_in: bool = False) -> None:
        """Prepare; nothing is locked yet.

        Args:
            place: None means this one.
            is_stand_in: The right to ship another place's spools as long as it has no agent.
        """
        self._path = _path(target_dir, place, "stand-in" if is_stand_in else "agent")
        self._fd: int | None = None

    def acquire(self, *, patience_s: float = PATIENCE_S) -> bool:
        """Return True if the lock is ours now, False if another agent works here."""
        if self._fd is not None:
            return True
        fd = _open(self._path)
        deadline = time.monotonic() + patience_s
        while not _flock(fd, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                os.close(fd)
                return False
            time.sleep(0.01)
        self._fd = fd
        _held.add(self)
        return True

    @property
    def is_mine(self) -> bool:
        """Return True while the lock is held by this object."""
        return self._fd is not None

    def note(self, text: str) -> None:
        """Leave a line in the file for `read_note`; the lock has to be ours."""
        assert self._fd is not None, "only the holder says something about itself"
        data = text.encode()[:NOTE_BYTES].ljust(NOTE_BYTES)
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, data, 0)

    def release(self) -> None:
        """Let another agent have it; idempotent."""
        _held.discard(self)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def place_of(boot: str, namespace: int | None) -> str:
    """Return the name of a place, fit for a file's name."""
    plain = "".join(c for c in boot if c.isalnum() or c == "-")
    return f"{plain[:40]}-{namespace or 0}"


def is_held(target_dir: Path, *, place: str | None = None) -> bool:
    """Return True if an agent of this place works in this directory. Takes microseconds."""
    try:
        fd = _open(_path(target_dir, place, "agent"))
    except OSError:
        return False
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def read_note(target_dir: Path) -> str:
    """Return what the agent of this place said of itself last; empty when there is nothing."""
    try:
        return _path(target_dir, None, "agent").read_text().strip()
    except (OSError, ValueError):
        return ""


def _path(target_dir: Path, place: str | None, role: str) -> Path:
    return target_dir / f"{role}-{place or place_of(boot_id(), pid_namespace())}.lock"


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_in_child() -> None:
    """A child shares its parent's lock: holding the descriptor would keep the lock alive after the parent."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
