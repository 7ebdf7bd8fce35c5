"""What the server does by itself runs on this: a thread that takes turns, and when their steps are due."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from runfold_coordinator.store.errors import StoreError

logger = logging.getLogger(__name__)

#: Waits are longer by up to this share, at random: servers that started together don't stay in step.
JITTER = 0.1


class TurnLoop:
    """Takes turns in a thread of its own until stop(). One that fails is logged; the next comes later."""

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        *,
        waits_for: tuple[type[Exception], ...] = (StoreError,),
        retry_s: float = 10.0,
        fault_retry_s: float = 60.0,
        gather_s: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare.

        Args:
            turn: Does what is due; returns seconds until there is more.
            waits_for: What a turn raises when something outside is away: said in a line, no traceback.
            retry_s: Until the next turn after one of `waits_for`.
            fault_retry_s: ... after any other exception.
            gather_s: Least pause between turns: what wakes the loop within it is one turn.
        """
        self.name = name
        self._turn = turn
        self._waits_for = waits_for
        self._retry_s = retry_s
        self._fault_retry_s = fault_retry_s
        self._gather_s = gather_s
        self._jitter = jitter
        self._has_failed = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"runfold-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Take the next turn now, unless the last one failed. Any thread; one in work is followed by one."""
        self._wake.set()

    def is_stopping(self) -> bool:
        """Whether a long turn should end where it can."""
        return self._stopping.is_set()

    def pause(self, wait_s: float) -> None:
        """Wait inside a turn, or a thread that it began; a stop ends it."""
        self._stopping.wait(wait_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the turn in work; idempotent."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def take(self) -> float:
        """Take one turn, whatever it raises; return seconds until the next."""
        self._wake.clear()
        self._has_failed = True
        try:
            wait_s = self._turn()
            self._has_failed = False
        except self._waits_for as error:
            why = {"event": "turn_waits", "loop": self.name, "why": str(error)}
            logger.warning("background work waits", extra=why)
            wait_s = self._retry_s
        except Exception:
            logger.exception("background work failed", extra={"event": "turn_failed", "loop": self.name})
            wait_s = self._fault_retry_s
        return wait_s * (1 + JITTER * self._jitter())

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = self.take()
            # A stop between clear() and here has set `_stopping` first.
            if not self._stopping.is_set():
                # A fault that stays would fill the log, were it met again with every wake.
                (self._stopping if self._has_failed else self._wake).wait(wait_s)
                self._stopping.wait(self._gather_s)


class Due:
    """A step of turns that is due every so often, in monotonic seconds. Not thread-safe."""

    def __init__(self, every_s: float, *, first_s: float = 0.0) -> None:
        self._every_s = every_s
        self._next_s = first_s

    def is_due(self, now_s: float) -> bool:
        """Whether it is to be done now."""
        return now_s >= self._next_s

    def done(self, now_s: float, *, more: bool = False) -> None:
        """Take that it was done now; with `more` left it stays due."""
        self._next_s = now_s if more else now_s + self._every_s
