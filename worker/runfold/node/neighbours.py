"""Spools of other hosts in this directory (a shared home, a volume that outlived its container): ship or not.

In: a host's name. Out: whether this agent ships that host's spools: its own always, another's while that host
has no agent here and no other agent took them over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from . import lock

#: How long an answer about another host holds, seconds.
ASK_EVERY_S = 5.0


class Neighbours:
    """Remembers which other hosts this agent stands in for. Not thread-safe. `close` gives them back."""

    def __init__(
        self, target_dir: Path | None, host: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`target_dir` None: spools were named one by one, all of them are meant."""
        self._target_dir = target_dir
        self._host = host
        self._clock = clock
        self._stand_ins: dict[str, lock.AgentLock] = {}
        self._asked_s: dict[str, float] = {}

    def is_foreign(self, host: str | None) -> bool:
        """Return True for a host that is not this one, whose processes can't be seen from here."""
        return bool(host) and host != self._host

    def may_ship(self, host: str | None) -> bool:
        """Return True if the spools of `host` are this agent's business now."""
        if not host or host == self._host or self._target_dir is None:
            return True
        now_s = self._clock()
        if now_s - self._asked_s.get(host, -1e9) >= ASK_EVERY_S:
            self._asked_s[host] = now_s
            self._ask(self._target_dir, host)
        return host in self._stand_ins

    def close(self) -> None:
        """Stand in for nobody any more."""
        for mine in self._stand_ins.values():
            mine.release()
        self._stand_ins.clear()

    def _ask(self, target_dir: Path, host: str) -> None:
        if lock.is_held(target_dir, host=host):
            mine = self._stand_ins.pop(host, None)
            if mine is not None:
                mine.release()
        elif host not in self._stand_ins:
            mine = lock.AgentLock(target_dir, host=host, is_stand_in=True)
            if mine.acquire(patience_s=0.0):
                self._stand_ins[host] = mine
