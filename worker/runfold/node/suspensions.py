"""The duty that notes which processes live but don't run: SIGSTOP, Ctrl-Z, a debugger.

In: writers. Out: a flag of each, which the heartbeat tells.
"""

from __future__ import annotations

from collections.abc import Callable

from .exit_status import is_stopped
from .tail import WriterTail

#: Processes that are looked at in one step: a node has a few, and thousands must not make a step long.
MOST_AT_ONCE = 256


class Suspensions:
    """Keeps `WriterTail.is_stopped` true to the facts, within about a second."""

    def __init__(self, knows: Callable[[bytes], bool], on_change: Callable[[], None]) -> None:
        """`knows` tells whether a writer is still there; `on_change` is called when any flag turned."""
        self._knows = knows
        self._on_change = on_change
        self._living: dict[bytes, WriterTail] = {}

    def writer_found(self, tail: WriterTail) -> None:
        """Begin to look at it, if its pid means a process here."""
        if tail.identity.role == "process" and tail.is_alive and tail.identity.pid:
            self._living[tail.writer] = tail

    def writer_ended(self, tail: WriterTail) -> None:
        """What is dead is not stopped."""
        self._living.pop(tail.writer, None)
        tail.is_stopped = False

    def step(self, now_s: float) -> None:
        """Look at each, or at the next ones of many."""
        del now_s
        has_changed = False
        for writer in list(self._living)[:MOST_AT_ONCE]:
            tail = self._living.pop(writer)
            if not self._knows(writer):
                continue
            self._living[writer] = tail  # at the end of the row
            is_now = is_stopped(tail.identity.pid or 0)
            has_changed |= is_now != tail.is_stopped
            tail.is_stopped = is_now
        if has_changed:
            self._on_change()

    def close(self) -> None:
        """Nothing is open."""
