"""What the training process asks of pipes and pseudo-terminals, and of the process at their other end."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import termios
from pathlib import Path


def read_some(fd: int, size: int = 65536) -> bytes:
    """Read once; b"" at the end, of a pseudo-terminal too."""
    try:
        return os.read(fd, size)
    except OSError as error:
        if error.errno == errno.EIO:  # how a pseudo-terminal says that nobody has it open
            return b""
        raise


def write_all(fd: int, data: bytes) -> None:
    """Write everything, as long as it takes."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(fd, select.POLLOUT)
            writable.poll()


def waiting_bytes(fd: int) -> int:
    """Return how much can be read now; 0 where that can't be told."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def state_of(pid: int) -> str:
    """Return the state of a process as /proc says it ("R", "S", "T", ...); "" where it can't be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return stat[stat.rindex(b")") + 2 :][:1].decode()
