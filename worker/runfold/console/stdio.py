"""The process's own output: its descriptors, where they go, and what is still buffered above them."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any

STDOUT_FD, STDERR_FD = 1, 2
#: Name of the one stream that stdout and stderr make where they go to the same place.
BOTH = "output"


@dataclass(frozen=True, slots=True)
class Output:
    """One place where output goes: a name, and the descriptors that lead there."""

    name: str
    fds: tuple[int, ...]
    is_terminal: bool


def outputs() -> list[Output]:
    """Return where this process's output goes; a descriptor that is closed is left closed.

    stdout and stderr that go to one place (a terminal, `2>&1`) are one output: two pipes would lose which of
    two lines came first, and the order in which the user sees them matters more than telling them apart.
    """
    found = {fd: stat for fd in (STDOUT_FD, STDERR_FD) if (stat := _stat(fd)) is not None}
    if len(found) == 2 and len({(stat.st_dev, stat.st_ino, stat.st_rdev) for stat in found.values()}) == 1:
        return [Output(BOTH, (STDOUT_FD, STDERR_FD), os.isatty(STDOUT_FD))]
    names = {STDOUT_FD: "stdout", STDERR_FD: "stderr"}
    return [Output(names[fd], (fd,), os.isatty(fd)) for fd in found]


def is_backed_by_descriptors() -> bool:
    """Whether what Python prints goes to descriptors 1 and 2: not in notebooks, nor in a captured test."""
    for stream, fd in ((sys.stdout, STDOUT_FD), (sys.stderr, STDERR_FD)):
        if stream is None:
            continue
        try:
            if stream.fileno() != fd:
                return False
        except Exception:  # noqa: BLE001  # whatever stands in for a stream
            return False
    return True


def flush(*, of_c: bool = True) -> None:
    """Write out what Python, and with `of_c` the C library, hold back for stdout and stderr. Never raises.

    What can't be written stays in its buffer, and fails again, for the program to see, when it flushes.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if not of_c and "ctypes" not in sys.modules:
        return  # 3 ms to import it
    with contextlib.suppress(Exception):
        import ctypes

        libc: Any = ctypes.CDLL(None)
        # Only these: fflush(NULL) would wait for a thread that reads from stdin.
        for name in ("stdout", "stderr"):
            libc.fflush(ctypes.c_void_p.in_dll(libc, name))


def _stat(fd: int) -> os.stat_result | None:
    try:
        return os.fstat(fd)
    except OSError:
        return None
