"""What the agent does beside shipping: the seam, and containment. In: duties. Out: calls of each.

A duty watches the processes of the node, or samples it, or carries out what the server asks. Shipping comes
first: a duty that raises is logged, and switched off when it goes on raising.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from .tail import WriterTail

logger = logging.getLogger(__name__)

#: A duty that raised so often is left out from then on.
MAX_FAULTS = 10


class Duty(Protocol):
    """One thing the agent does beside shipping. All calls come from the agent's thread, and return soon."""

    def writer_found(self, tail: WriterTail) -> None:
        """A writer's spool was found, of any role and place; it may come again after it was lost sight of."""

    def writer_ended(self, tail: WriterTail) -> None:
        """The process of a found writer is gone, just now or since before it was found."""

    def step(self, now_s: float) -> None:
        """About every 0.5 s (`now_s`: monotonic seconds): do what is due, within milliseconds."""

    def close(self) -> None:
        """The agent ends: wait for nothing."""


class Duties:
    """Calls every duty; none can stop another one, or the agent. Not thread-safe."""

    def __init__(self, duties: Iterable[Duty] = ()) -> None:
        self._duties = list(duties)
        self._faults: dict[int, int] = {}

    def found(self, tail: WriterTail) -> None:
        """Tell all of a writer, and of its end where that is known already."""
        self._each("writer_found", lambda duty: duty.writer_found(tail))
        if tail.is_alive is False:
            self.ended(tail)

    def ended(self, tail: WriterTail) -> None:
        """Tell all that a writer's process is gone."""
        self._each("writer_ended", lambda duty: duty.writer_ended(tail))

    def step(self, now_s: float) -> None:
        """Give each its turn."""
        self._each("step", lambda duty: duty.step(now_s))

    def close(self) -> None:
        """End all of them. Idempotent."""
        self._each("close", lambda duty: duty.close())
        self._duties.clear()

    def _each(self, call: str, do: Callable[[Duty], None]) -> None:
        for duty in list(self._duties):
            try:
                do(duty)
            except Exception:
                faults = self._faults[id(duty)] = self._faults.get(id(duty), 0) + 1
                logger.exception(
                    "a fault in a duty of the agent",
                    extra={"event": "duty_fault", "duty": type(duty).__name__, "call": call, "count": faults},
                )
                if faults >= MAX_FAULTS:
                    self._duties.remove(duty)
