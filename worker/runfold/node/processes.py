"""Whether the processes behind the writers live: pidfd where the kernel has it, else /proc or psutil.

In: (pid, start) pairs. Out: the keys of those that ended, within about 0.1 s.
A pid alone proves nothing, since pids are used again: start times are compared wherever they are known.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import time
from collections.abc import Callable, Hashable
from pathlib import Path

#: Start times of one process as two observers see them (rounding of psutil's seconds).
_START_TOLERANCE_S = 2.0
#: Without pidfd, processes are looked at this often.
LOOK_EVERY_S = 0.1
#: Descriptors that are left to readers and sockets when choosing pidfd.
MAX_PIDFDS = 4096


def start_of(pid: int) -> float | None:
    """Return when a process started: clock ticks since boot on Linux, unix seconds elsewhere.

    None: no such process, or it is a zombie. 0: it exists, and its start can't be seen.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _start_by_psutil(pid)
    except OSError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; where the kernel has none, the boot time in unix seconds."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"boot-{int(psutil.boot_time())}"


@functools.cache
def pid_namespace() -> int | None:
    """Return the number of this process's PID namespace; None where there are none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def is_alive(pid: int, start: float | None) -> bool:
    """Return True if this process, and not a later one with its pid, is running.

    Args:
        start: What `start_of` or psutil's `create_time` said of it; None or 0 when unknown, then the pid
            alone decides.
    """
    found = start_of(pid)
    return found is not None and (not start or _same_start(found, start))


class ProcessWatch:
    """Watches processes by key. Not thread-safe; `close` gives the descriptors back.

    `wait` is also the agent's sleep: a death ends it at once.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, use_pidfd: bool = True) -> None:
        self._clock = clock
        self._use_pidfd = use_pidfd and hasattr(os, "pidfd_open") and hasattr(select, "poll")
        self._poll = select.poll() if hasattr(select, "poll") else None
        self._by_fd: dict[int, Hashable] = {}
        self._fds: dict[Hashable, int] = {}
        self._looked: dict[Hashable, tuple[int, float | None]] = {}
        self._looked_s = -1e9

    def watch(self, key: Hashable, pid: int, start: float | None) -> bool:
        """Begin to watch; return False if that process is gone already."""
        if not is_alive(pid, start):
            return False
        fd = self._open(pid)
        if fd is None:
            self._looked[key] = (pid, start)
            return is_alive(pid, start)
        if not is_alive(pid, start):  # it ended, and its pid was taken, before the descriptor was opened
            os.close(fd)
            return False
        assert self._poll is not None, "a pidfd is only opened where poll exists"
        self._poll.register(fd, select.POLLIN)
        self._by_fd[fd] = key
        self._fds[key] = fd
        return True

    def wait(self, timeout_s: float) -> list[Hashable]:
        """Sleep until a watched process ends or the time is over; return and forget the keys that ended."""
        deadline = self._clock() + timeout_s
        while True:
            left_s = max(0.0, deadline - self._clock())
            ended = self._wait_once(min(left_s, LOOK_EVERY_S) if self._looked else left_s)
            if ended or self._clock() >= deadline:
                return ended

    def forget(self, key: Hashable) -> None:
        """Stop watching; unknown keys are ignored."""
        self._looked.pop(key, None)
        fd = self._fds.pop(key, None)
        if fd is not None:
            assert self._poll is not None, "a pidfd is only opened where poll exists"
            self._poll.unregister(fd)
            del self._by_fd[fd]
            os.close(fd)

    def close(self) -> None:
        """Forget everything."""
        for key in [*self._fds, *self._looked]:
            self.forget(key)

    def _open(self, pid: int) -> int | None:
        if not self._use_pidfd or len(self._fds) >= MAX_PIDFDS:
            return None
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno in (
                errno.ENOSYS,
                errno.EPERM,
                errno.EINVAL,
            ):  # old kernel, or a sandbox forbids it
                self._use_pidfd = False
            return None

    def _wait_once(self, timeout_s: float) -> list[Hashable]:
        ended: list[Hashable] = []
        if self._poll is not None:
            ready = self._poll.poll(timeout_s * 1000)
            ended = [self._by_fd[fd] for fd, _ in ready]
        else:
            time.sleep(timeout_s)
        now = self._clock()
        if self._looked and now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            ended += [key for key, (pid, start) in self._looked.items() if not is_alive(pid, start)]
        for key in ended:
            self.forget(key)
        return ended


def _start_by_psutil(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return 0


def _same_start(found: float, said: float) -> bool:
    """Compare as ticks, and as unix seconds: the boot time is known to the second."""
    if not found or found == said:
        return True
    boot_unix_s = _boot_unix_s()
    unix_s = found if boot_unix_s is None else boot_unix_s + found / os.sysconf("SC_CLK_TCK")
    return abs(unix_s - said) < _START_TOLERANCE_S


@functools.cache
def _boot_unix_s() -> float | None:
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), None)
