"""Asks an ASGI app without a socket."""

import asyncio
from typing import Any

import httpx


class AsgiClient:
    """One request at a time, each in an event loop of its own."""

    def __init__(self, app: Any, base_url: str = "http://127.0.0.1:8000") -> None:
        self._app = app
        self._base_url = base_url

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request and return its answer."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=self._base_url) as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(ask())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        """Send a GET."""
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        """Send a POST."""
        return self.request("POST", path, **arguments)
