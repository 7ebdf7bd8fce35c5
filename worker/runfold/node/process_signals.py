"""Signals to processes of this node: to that very process, never to a later one with its pid.

In: pid and start time, as a writer said them. Out: whether the signal was sent.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import NamedTuple

from .processes import is_alive


class Process(NamedTuple):
    """A process for good: a pid alone is used again."""

    pid: int
    #: As processes.start_of says it; never 0.
    start: float


class Signals:
    """Sends signals. A test may put another in its place."""

    def is_alive(self, process: Process) -> bool:
        """Return True while this process runs."""
        return is_alive(process.pid, process.start)

    def owner_uid(self, process: Process) -> int | None:
        """Return whose process it is; None where that can't be seen."""
        try:
            return Path(f"/proc/{process.pid}").stat().st_uid
        except OSError:
            return None

    def send(self, process: Process, *signums: int) -> bool:
        """Send signals in this order; return False if the process is gone.

        Raises:
            PermissionError: It belongs to somebody else.
        """
        try:
            fd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
                raise
            fd = None  # an old kernel, or a sandbox that forbids it
        try:
            # The descriptor, once open, means one process: what is compared now stays true.
            if not self.is_alive(process):
                return False
            for signum in signums:
                if fd is None:
                    os.kill(process.pid, signum)
                else:
                    signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            return False
        finally:
            if fd is not None:
                os.close(fd)
        return True


def is_launcher_program(pid: int) -> bool:
    """Return whether a process may be a job's launcher and nothing more: a Python program, no notebook.

    A rank whose launcher died is adopted by somebody else, and torchrun's API can be called in a notebook.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    name = words[0].rpartition(b"/")[2]
    return name.startswith(b"python") and not any(b"ipykernel" in word for word in words)
