"""Counts requests by route and outcome. ASGI middleware around the gate, so that refusals count too."""

from __future__ import annotations

import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Where no route was reached: refused at the gate, or there is none.
NO_ROUTE = "none"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class Tally:
    """Requests, and the seconds that they took together."""

    count: int = 0
    seconds: float = 0.0


class HttpCounts:
    """By (method, route template, status class). The event loop counts; anybody may read."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], Tally] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; from the event loop only."""
        # What a client makes up must not make series.
        key = (method if method in _METHODS else "other", route, f"{status // 100}xx" if status else "none")
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.count += 1
        tally.seconds += seconds

    def read(self) -> dict[tuple[str, str, str], tuple[int, float]]:
        """Return (count, seconds) by method, route and status class."""
        # dict.copy() is one step of the interpreter: no lock is needed against the event loop.
        return {key: (tally.count, tally.seconds) for key, tally in self._tallies.copy().items()}


class CountingRequests:
    """The middleware. A request counts when its answer has ended, a broken one too."""

    def __init__(self, app: ASGIApp, counts: HttpCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None) or NO_ROUTE
            self._counts.note(scope["method"], route, status, time.perf_counter() - began_s)
