"""Lets only a few large reads run at a time: each may hold some hundred MB, and there are forty threads.

In: a request for history, series or groups. Out: its turn; or a refusal when too many wait already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request

from runfold_coordinator.api.errors import UnavailableError

#: Large reads at a time. They are numpy and SQLite, which leave the interpreter lock while they work.
MAX_AT_ONCE = 4
#: Large reads that wait for their turn; more are told to come back.
MAX_WAITING = 200


class Turns:
    """A bounded queue in front of large reads. Used from the event loop only."""

    def __init__(self, at_once: int = MAX_AT_ONCE, waiting: int = MAX_WAITING) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most_waiting = waiting
        self._waiting = 0

    async def take(self) -> None:
        """Wait for a turn.

        Raises:
            UnavailableError: Too many wait already.
        """
        if self._waiting >= self._most_waiting:
            raise UnavailableError("too many large reads at once", hint="ask again later")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Let the next one go on."""
        self._free.release()


async def large_read(request: Request) -> AsyncIterator[None]:
    """Hold a turn while the route works. A dependency of every route that reads history."""
    turns: Turns = request.app.state.turns
    await turns.take()
    try:
        yield
    finally:
        turns.give_back()
