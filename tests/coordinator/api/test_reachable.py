"""Who is told which Redis address."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from coordinator.api.conftest import HeardIntake, backend_over
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.gate import GatePolicy
from runfold_coordinator.store.store import Store

SOCKET, LOOPBACK, FAR = (
    "unix://:s@/d/redis.sock?db=0",
    "redis://:s@127.0.0.1:6379/0",
    "redis://:s@redis.lan:6379",
)


class Handing(HeardIntake):
    redis_url: str | None = None

    def connect_facts(self) -> dict[str, Any]:
        return {"redis_url": self.redis_url, "server_id": "ab", "partitions": 1}


def told(store: Store, redis_url: str | None, client: str, server: str, **headers: str) -> Any:
    """What a client is told at an address of the server that other machines reach."""
    intake = Handing()
    intake.redis_url = redis_url
    gate = GatePolicy(None, "key")
    app = create_app(backend_over(store, intake, gate=gate))

    async def ask() -> Any:
        transport = httpx.ASGITransport(app=app, client=(client, 5000))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{server}:8765") as asking:
            answer = await asking.get("/api/v1/connect", headers={"Authorization": "Bearer key", **headers})
        return answer.json()["redis_url"]

    return asyncio.run(ask())


@pytest.mark.parametrize("redis_url", [
    SOCKET, LOOPBACK, "redis://:s@localhost", "redis://:s@[::1]:6379", "rediss://:s@127.1.2.3", "redis://",
    "redis://:s@0.0.0.0:6379",
])  # fmt: skip
def test_an_address_of_this_machine_is_told_to_this_machine_only(store: Store, redis_url: str) -> None:
    assert told(store, redis_url, "10.0.0.9", "10.0.0.1") is None
    assert told(store, redis_url, "127.0.0.1", "127.0.0.1") == redis_url
    assert told(store, redis_url, "::ffff:127.0.0.1", "127.0.0.1") == redis_url
    assert told(store, redis_url, "10.0.0.1", "10.0.0.1") == redis_url  # asks by the server's own address


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_a_proxy_of_this_machine_passes_on_is_not_of_this_machine(store: Store, header: str) -> None:
    assert told(store, SOCKET, "127.0.0.1", "127.0.0.1", **{header: "for=10.0.0.9"}) is None


def test_an_address_of_the_network_is_told_to_everybody(store: Store) -> None:
    assert told(store, FAR, "10.0.0.9", "10.0.0.1") == FAR
    assert told(store, None, "10.0.0.9", "10.0.0.1") is None
