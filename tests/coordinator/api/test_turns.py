"""Large reads go a few at a time; too many that wait are sent away, and nobody's turn is lost."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from coordinator.api.conftest import HeardIntake, backend_over
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.errors import UnavailableError
from runfold_coordinator.api.turns import MAX_AT_ONCE, Turns
from runfold_coordinator.readers.answers import HistoryPage
from runfold_coordinator.store.store import Store


def test_turns_are_given_in_order_and_refused_when_too_many_wait() -> None:
    async def go() -> list[str]:
        turns, seen = Turns(at_once=1, waiting=1), []
        await turns.take()

        async def second() -> None:
            await turns.take()
            seen.append("second")
            turns.give_back()

        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await turns.take()
        seen.append("refused")
        turns.give_back()
        await task
        await turns.take()
        return seen

    assert asyncio.run(go()) == ["refused", "second"]


class HeldHistory:
    """Counts how many scans run at once; none ends before it may."""

    def __init__(self) -> None:
        self.running = self.most = self.done = 0
        self.may_end = threading.Event()
        self._lock = threading.Lock()

    def scan(self, run: Any, **arguments: Any) -> HistoryPage:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.may_end.wait(60)
        with self._lock:
            self.running -= 1
            self.done += 1
        if arguments["limit"] == 7:
            raise RuntimeError("broken")
        return HistoryPage([], None)


def test_scans_share_few_turns_and_light_reads_pass_them_by(store: Store, intake: HeardIntake) -> None:
    said = Said()
    said.log({"a": 1})
    StoredRun(store).deliver(said)
    history = HeldHistory()
    app = create_app(backend_over(store, intake, history=history))
    turns: Turns = app.state.turns

    async def go() -> list[int]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            path = "/api/v1/runs/e/p/r/history"
            asked = [
                asyncio.create_task(client.get(path, params={"limit": 7 if n % 3 == 0 else 5}))
                for n in range(30)
            ]
            try:
                async with asyncio.timeout(60):
                    while (history.running, turns._waiting) != (MAX_AT_ONCE, 30 - MAX_AT_ONCE):
                        await asyncio.sleep(0)
                    light = await client.get("/api/v1/health")
            finally:
                history.may_end.set()
            return [answer.status_code for answer in (*await asyncio.gather(*asked), light)]

    statuses = asyncio.run(go())
    assert history.done == 30
    assert history.most == MAX_AT_ONCE
    assert sorted(set(statuses)) == [200, 500]
    assert statuses[-1] == 200
