"""A thread that calls for a node agent again where one has died, while the runs of this process go on.

One a process, for all of its runs. Without it the death of the agent is noticed by the next run on the node,
or by this one's next segment: what happens to the process until then would be seen by nobody.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

#: Between looks; each costs some microseconds.
LOOK_EVERY_S = 2.0
#: Longest wait where agent after agent does not stay.
LONGEST_WAIT_S = 60.0


class NeedsAgent(Protocol):
    """A RunSpool."""

    def call_agent(self) -> bool:
        """See that an agent works, and return whether one did already."""


class AgentKeeper:
    """Calls for agents until nobody needs one. Thread-safe; made anew in the child of a fork."""

    def __init__(self, wait: Callable[[float], object] = time.sleep) -> None:
        self._wait = wait
        self._lock = threading.Lock()
        self._spools: weakref.WeakSet[NeedsAgent] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def add(self, spool: NeedsAgent) -> None:
        """Keep an agent for this spool. Never raises: without the thread it is as if this was not there."""
        if self._pid != os.getpid():
            self.__init__(self._wait)  # type: ignore[misc]  # the thread and the lock's owner stayed behind
        with self._lock:
            self._spools.add(spool)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="runfold-agent-keeper", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads, or the interpreter is shutting down
                    self._thread = None

    def remove(self, spool: NeedsAgent) -> None:
        """The run is over here; what is left is delivered by the agent there is, or the next one."""
        if self._pid == os.getpid():
            with self._lock:
                self._spools.discard(spool)

    def _keep(self) -> None:
        wait_s = LOOK_EVERY_S
        while True:
            self._wait(wait_s)
            with self._lock:
                spools = list(self._spools)
                if not spools:
                    self._thread = None
                    return
            did_stay = [spool.call_agent() for spool in spools]
            del spools
            wait_s = LOOK_EVERY_S if all(did_stay) else min(LONGEST_WAIT_S, 2 * wait_s)


agent_keeper = AgentKeeper()
