"""Spools of other places in this directory (a shared home, a volume that outlived a container): ship or not.

In: who a writer is. Out: whether this agent ships its spool: those of its own place always, another's while
that place has no agent here and no other agent stands in for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from runfold.protocol.identity import Identity

from . import lock

#: How long an answer about another place holds, seconds.
ASK_EVERY_S = 5.0


class Neighbours:
    """Remembers for which other places this agent stands in. Not thread-safe. `close` gives them back."""

    def __init__(
        self,
        target_dir: Path | None,
        *,
        host: str,
        boot: str,
        namespace: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`target_dir` None: spools were named one by one, all of them are meant."""
        self._target_dir = target_dir
        self._host = host
        self._boot = boot
        self._namespace = namespace
        self._clock = clock
        self._stand_ins: dict[str, lock.AgentLock] = {}
        self._asked_s: dict[str, float] = {}

    def is_here(self, who: Identity) -> bool:
        """Return True if the writer's pid means a process that can be seen from here.

        The host's name is no help: it may be set by hand, and containers on one machine may share it.
        """
        if who.boot_id:
            return who.boot_id == self._boot and who.pid_namespace in (None, self._namespace)
        return not who.host or who.host == self._host

    def is_of_an_earlier_boot(self, who: Identity) -> bool:
        """Return True if this machine was started again since."""
        return bool(who.boot_id) and who.boot_id != self._boot and who.host == self._host

    def may_ship(self, who: Identity) -> bool:
        """Return True if the writer's spool is this agent's business now."""
        if self._target_dir is None or self.is_here(who):
            return True
        place = lock.place_of(who.boot_id or who.host or "", who.pid_namespace)
        now_s = self._clock()
        if now_s - self._asked_s.get(place, -1e9) >= ASK_EVERY_S:
            self._asked_s[place] = now_s
            self._ask(self._target_dir, place)
        return place in self._stand_ins

    def close(self) -> None:
        """Stand in for nobody any more."""
        for mine in self._stand_ins.values():
            mine.release()
        self._stand_ins.clear()

    def _ask(self, target_dir: Path, place: str) -> None:
        if lock.is_held(target_dir, place=place):
            mine = self._stand_ins.pop(place, None)
            if mine is not None:
                mine.release()
        elif place not in self._stand_ins:
            mine = lock.AgentLock(target_dir, place=place, is_stand_in=True)
            if mine.acquire(patience_s=0.0):
                self._stand_ins[place] = mine
