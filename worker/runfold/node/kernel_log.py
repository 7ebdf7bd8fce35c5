"""Which processes the kernel says that it killed for want of memory, where its log may be read (/dev/kmsg).

In: new lines of the log. Out: pids, for a while. Of use in the first PID namespace only, whose pids it tells.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from .processes import pid_namespace

#: Number of the first PID namespace: PROC_PID_INIT_INO of include/linux/proc_ns.h.
_FIRST_NAMESPACE = 0xEFFFFFFC
_KILLED = re.compile(rb"Killed process (\d+) \(")
#: A pid may belong to another process after this, seconds.
_KEPT_S = 120.0
#: Lines read at once, so that a kernel that talks without end can't hold the agent.
_MOST_LINES = 2000
_LINE_BYTES = 8192


class KernelLog:
    """Follows the kernel's log from now on. Not thread-safe."""

    def __init__(
        self,
        path: str = "/dev/kmsg",
        *,
        clock: Callable[[], float] = time.monotonic,
        namespace: int | None = None,
    ) -> None:
        self._clock = clock
        self._killed_s: dict[int, float] = {}
        self._gap_s = -1e9
        self._fd: int | None = None
        if (namespace or pid_namespace()) != _FIRST_NAMESPACE:
            return
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:  # not ours to read
            self.close()

    @property
    def is_complete(self) -> bool:
        """Whether whoever was killed lately is sure to be named."""
        return self._fd is not None and self._clock() - self._gap_s > _KEPT_S

    def follow(self) -> None:
        """Take in what is new; call it every second or so, and before `has_killed`."""
        now_s = self._clock()
        for line in self._new_lines():
            if (found := _KILLED.search(line)) is not None:
                self._killed_s[int(found[1])] = now_s
        if self._killed_s:
            self._killed_s = {pid: at for pid, at in self._killed_s.items() if now_s - at < _KEPT_S}

    def has_killed(self, pid: int) -> bool:
        """Return whether the kernel named this process lately."""
        return pid in self._killed_s

    def close(self) -> None:
        """Let go of the log. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _new_lines(self) -> list[bytes]:
        lines: list[bytes] = []
        while self._fd is not None and len(lines) < _MOST_LINES:
            try:
                line = os.read(self._fd, _LINE_BYTES)
            except BlockingIOError:
                break
            except BrokenPipeError:  # lines were overwritten before we read them; the next one is there
                self._gap_s = self._clock()
                continue
            except OSError:
                self.close()
                break
            if not line:
                break
            lines.append(line)
        return lines
