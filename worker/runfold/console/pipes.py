"""What the training process asks of pipes and pseudo-terminals, and of the process at their other end."""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
from pathlib import Path


def can_be_read(fd: int) -> bool:
    """Whether a read would return at once, with bytes or the end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def pass_on(reading: int, writing: int) -> bool:
    """Read once and write all of it, as long as that takes; False at the end, and where nobody takes it."""
    try:
        data = os.read(reading, 65536)
        write_all(writing, data)
    except OSError:  # EIO is how a pseudo-terminal says that nobody has it open
        return False
    return bool(data)


def write_all(writing: int, data: bytes) -> None:
    """Write all of it, as long as that takes. OSError where nobody takes it."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(writing, left) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(writing, select.POLLOUT)
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
