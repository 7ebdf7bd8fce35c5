"""A signal on which this process writes the stacks of its threads into its spool, for the node agent to read.

faulthandler does so in C, whatever Python is doing: waiting in a collective, too. Only a signal that nobody
uses is taken, and it stays taken: its default action would end the process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

#: In the spool's directory. Whoever wants stacks empties it first.
FILE_NAME: Final = "stacks.txt"

#: What this process has registered: signal and file. A fork's child inherits both, until it says something.
_registered: tuple[int, int] | None = None


def usable() -> int | None:
    """Return the signal for stacks; None where there is none, or somebody else uses it."""
    highest = getattr(signal, "SIGRTMAX", None)
    if highest is None:
        return None
    signum = int(highest) - 4
    if _registered is not None:
        return signum if _registered[0] == signum else None
    return None if signum in handled_signals(os.getpid()) else signum


def handled_signals(pid: int) -> frozenset[int]:
    """Return the signals that a process catches or ignores; all when that can't be seen."""
    found: set[int] = set()
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, mask = line.partition(":")
            if name in ("SigCgt", "SigIgn"):
                found.update(_bits(int(mask, 16)))
    except (OSError, ValueError):
        return frozenset(range(1, 65))
    return frozenset(found)


def register(signum: int, directory: Path) -> None:
    """Have this signal write stacks into the directory, instead of any before. Never raises."""
    global _registered
    try:
        import faulthandler

        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(directory / FILE_NAME, flags, 0o600)
        try:
            faulthandler.register(signum, file=fd, all_threads=True, chain=False)
        except BaseException:
            os.close(fd)
            raise
    except (OSError, RuntimeError, ValueError, AttributeError, ImportError):
        return  # without stacks, then
    before, _registered = _registered, (signum, fd)
    if before is not None:
        os.close(before[1])


def _bits(mask: int) -> list[int]:
    return [bit + 1 for bit in range(64) if mask >> bit & 1]
