"""Whether the kernel killed a process for want of memory. In: writers and pids. Out: facts of OOM evidence.

A memory cgroup counts its kills and names nobody. So each kill is laid to one death only, the first; where
the kernel's log can be read, it names the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .kernel_log import KernelLog
from .memory_cgroup import KillCounter, read_counters_of


@dataclass(frozen=True, slots=True)
class _Counted:
    """A counter as it stood when a process was found, and how many deaths had been laid to it."""

    counter: KillCounter
    kills: int
    claimed: int


class OomWatch:
    """Compares counters at death with those at the beginning. Not thread-safe."""

    def __init__(self, log: KernelLog | None = None) -> None:
        self._log = log or KernelLog()
        self._counted: dict[bytes, list[_Counted]] = {}
        self._claimed: dict[str, int] = {}

    def begin(self, writer: bytes, pid: int) -> None:
        """Remember how often the kernel killed so far where this process lives."""
        counted = []
        for counter in read_counters_of(pid):
            kills = counter.read()
            if kills is not None:
                counted.append(_Counted(counter, kills, self._claimed.get(counter.cgroup, 0)))
        self._counted[writer] = counted

    def forget(self, writer: bytes) -> None:
        """The process is of no interest any more."""
        self._counted.pop(writer, None)

    def keep_only(self, knows: Callable[[bytes], bool]) -> None:
        """Forget those that `knows` denies."""
        self._counted = {writer: counted for writer, counted in self._counted.items() if knows(writer)}

    def follow(self) -> None:
        """Read on in the kernel's log."""
        self._log.follow()

    def facts_of(self, writer: bytes, pid: int) -> dict[str, Any] | None:
        """Return what shows that this process was killed for want of memory, laid to it alone; else None."""
        self._log.follow()
        is_named = self._log.has_killed(pid)
        for counted in self._counted.pop(writer, ()):
            now = counted.counter.read()
            if now is None:
                continue  # removed with its last process: the one above has counted too
            kills = now - counted.kills
            claimed = self._claimed.get(counted.counter.cgroup, 0)
            unclaimed = kills - (claimed - counted.claimed)
            if not is_named and (unclaimed <= 0 or self._log.is_complete):
                return None  # of others
            self._claimed[counted.counter.cgroup] = claimed + 1
            return {
                "kills": max(1, kills),
                "cgroup": counted.counter.cgroup,
                "version": counted.counter.version,
                "scope": "process" if is_named else "cgroup",
            }
        return {"kills": 1, "cgroup": "", "version": 0, "scope": "process"} if is_named else None

    def close(self) -> None:
        """Let go of the kernel's log."""
        self._log.close()
