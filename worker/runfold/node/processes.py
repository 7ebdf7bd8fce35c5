"""Whether the processes behind the writers live: pidfd where the kernel has it, else /proc or psutil.

In: (pid, start) pairs. Out: the keys of those that ended, within about 0.1 s; how, where the kernel tells.
A pid alone proves nothing, since pids are used again: start times are compared wherever they are known.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from .exit_status import End, end_of_reaped, end_of_zombie, is_status_readable, stat_of

#: Start times of one process as two observers see them (rounding of psutil's seconds).
_START_TOLERANCE_S = 2.0
#: Without pidfd, processes are looked at this often.
LOOK_EVERY_S = 0.1
#: Parents of parents that are looked at.
MAX_ANCESTORS = 16
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


def ancestors_of(pid: int) -> list[tuple[int, float]]:
    """Return (pid, start) of a process's parent, that one's parent, and so on, as far as they can be seen."""
    found: list[tuple[int, float]] = []
    while len(found) < MAX_ANCESTORS:
        fields = stat_of(pid)
        pid = int(fields[1]) if fields is not None else 0
        start = start_of(pid) if pid > 1 else None
        if not start:
            break
        found.append((pid, start))
    return found


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


@dataclass(slots=True)
class _Watched:
    pid: int
    start: float | None
    #: Its status can be read from /proc while it is a zombie.
    is_readable: bool
    #: None: it is looked at now and then.
    pidfd: int | None = None
    #: It is gone; kept until its parent has looked at it, and the kernel tells its status.
    has_ended: bool = False


class ProcessWatch:
    """Watches processes by key. Not thread-safe; `close` gives the descriptors back.

    `wait` is also the agent's sleep: a death ends it at once. How a process ended is known when `wait` tells
    of it, or a moment later, or never.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, use_pidfd: bool = True) -> None:
        self._clock = clock
        self._use_pidfd = use_pidfd and hasattr(os, "pidfd_open") and hasattr(select, "poll")
        self._poll = select.poll() if hasattr(select, "poll") else None
        self._by_fd: dict[int, Hashable] = {}
        self._watched: dict[Hashable, _Watched] = {}
        self._ends: dict[Hashable, End] = {}
        #: How many have no pidfd.
        self._looked_count = 0
        self._looked_s = -1e9

    def watch(self, key: Hashable, pid: int, start: float | None) -> bool:
        """Begin to watch; return False if that process is gone already."""
        self.forget(key)
        if not is_alive(pid, start):
            if (end := end_of_zombie(pid, start, is_readable=False)) is not None:
                self._ends[key] = end
            return False
        found = _Watched(pid, start, is_status_readable(pid), self._open(pid))
        if found.pidfd is None:
            self._looked_count += 1
        else:
            assert self._poll is not None, "a pidfd is only opened where poll exists"
            self._poll.register(found.pidfd, select.POLLIN)
            self._by_fd[found.pidfd] = key
        self._watched[key] = found
        if not is_alive(pid, start):  # it ended, and its pid was taken, before the descriptor was opened
            self._let_go(key)
            return False
        return True

    def wait(self, timeout_s: float) -> list[Hashable]:
        """Sleep until a watched process ends or the time is over; return the keys that ended."""
        deadline = self._clock() + timeout_s
        while True:
            left_s = max(0.0, deadline - self._clock())
            ended = self._wait_once(min(left_s, LOOK_EVERY_S) if self._looked_count else left_s)
            if ended or self._clock() >= deadline:
                return ended

    def end_of(self, key: Hashable) -> End | None:
        """Return how a process ended; None while that is not known."""
        return self._ends.get(key)

    def may_tell_later(self, key: Hashable) -> bool:
        """Return whether `end_of` may still come to know of a process that is gone."""
        return key in self._watched

    def forget(self, key: Hashable) -> None:
        """Stop watching; unknown keys are ignored."""
        self._let_go(key)
        self._ends.pop(key, None)

    def close(self) -> None:
        """Forget everything."""
        for key in [*self._watched, *self._ends]:
            self.forget(key)

    def _let_go(self, key: Hashable) -> None:
        found = self._watched.pop(key, None)
        if found is None:
            return
        if found.pidfd is None:
            self._looked_count -= 1
            return
        assert self._poll is not None, "a pidfd is only opened where poll exists"
        self._poll.unregister(found.pidfd)
        del self._by_fd[found.pidfd]
        os.close(found.pidfd)

    def _open(self, pid: int) -> int | None:
        if not self._use_pidfd or len(self._by_fd) >= MAX_PIDFDS:
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
            ready = [self._by_fd[fd] for fd, _ in self._poll.poll(timeout_s * 1000)]
            ended = [key for key in ready if not self._watched[key].has_ended]
            for key in ready:
                self._learn_end(key, self._watched[key])
        else:
            time.sleep(timeout_s)
        now = self._clock()
        if self._looked_count and now - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now
            for key, found in list(self._watched.items()):
                if found.pidfd is None and not is_alive(found.pid, found.start):
                    ended.append(key)
                    self._learn_end(key, found)
        return ended

    def _learn_end(self, key: Hashable, found: _Watched) -> None:
        """Ask how it ended, and let go of it unless the kernel may tell later: when its parent has looked."""
        has_parent_looked = found.has_ended
        found.has_ended = True
        end = end_of_zombie(found.pid, found.start, is_readable=found.is_readable)
        may_tell = False
        if end is None and found.pidfd is not None:
            end, may_tell = end_of_reaped(found.pidfd)
        if end is not None:
            self._ends[key] = end
        if (
            end is None
            and may_tell
            and not has_parent_looked
            and self._poll is not None
            and found.pidfd is not None
        ):
            # From now on only its parent's look wakes us (POLLHUP, which can't be masked).
            self._poll.modify(found.pidfd, 0)
        else:
            self._let_go(key)


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
