"""How a process ended, as the kernel tells others than its parent. In: pid or pidfd. Out: wait status words.

Two ways, since neither always works. Until its parent looks at it, a zombie has its status in /proc/PID/stat.
From then on its pidfd tells (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15).
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from pathlib import Path

#: struct pidfd_info of include/uapi/linux/pidfd.h, as of its first version: mask, cgroupid; pid, tgid, ppid,
#: four user and four group ids; exit_code.
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3
#: _IOWR(0xFF, 11, struct pidfd_info)
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11

#: Fields of /proc/PID/stat, counted from the state, which is the third.
_STATE, _START, _START_STACK, _EXIT_CODE = 0, 19, 25, 49


@dataclass(frozen=True, slots=True)
class End:
    """A wait status word, and who told it: "pidfd", "proc"."""

    status: int
    by: str


def stat_of(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat from the state on; None when none is to be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return stat[stat.rindex(b")") + 2 :].split()


def is_stopped(pid: int) -> bool:
    """Return whether a process lives and does not run: SIGSTOP, Ctrl-Z, or a debugger."""
    fields = stat_of(pid)
    return fields is not None and fields[_STATE] in (b"T", b"t")


def is_status_readable(pid: int) -> bool:
    """Return whether this (living) process will show its status when it is a zombie.

    Who may not see it reads 0. The start of its stack is shown to the same people, and is never 0.
    """
    fields = stat_of(pid)
    return fields is not None and len(fields) > _START_STACK and fields[_START_STACK] != b"0"


def end_of_zombie(pid: int, start: float | None, *, is_readable: bool) -> End | None:
    """Return the end of a process that its parent did not look at yet; None for any other process.

    Args:
        start: As `start_of` said it while the process lived; a later process of that pid is another one.
        is_readable: `is_status_readable` was true. Otherwise a status of 0 may mean that it is hidden.
    """
    fields = stat_of(pid)
    if fields is None or len(fields) <= _EXIT_CODE or fields[_STATE] not in (b"Z", b"X"):
        return None
    if start and int(fields[_START]) != start:
        return None
    status = int(fields[_EXIT_CODE])
    return End(status, "proc") if status or is_readable else None


def end_of_reaped(pidfd: int) -> tuple[End | None, bool]:
    """Return the end of a process that its parent has looked at, and whether the kernel may tell it later."""
    import fcntl

    data = bytearray(_INFO.pack(_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, data)
    except OSError as error:
        # ENOTTY, EINVAL: the kernel is older. ESRCH: before 6.15, of a process that was looked at.
        return None, error.errno not in (errno.ENOTTY, errno.EINVAL, errno.ESRCH, errno.ENOSYS)
    mask, *_others, exit_code = _INFO.unpack(data)
    if mask & _INFO_EXIT:
        return End(exit_code & 0xFFFF, "pidfd"), False
    return None, True
