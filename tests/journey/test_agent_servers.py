"""The agent with the real coordinator: what it acknowledges, its death, another server behind the same Redis."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from runfold.node.deliver import deliver_all
from runfold.node.settings import NodeSettings, target_of
from runfold.node.start import ensure_agent
from runfold.spool import SpoolReader
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.testing import LocalServer
from support.processes import start, until

ROWS = 3000


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    started = EmbeddedRedis(tmp_path / "redis", persistent=True, listen="port")
    started.start()
    yield started
    started.stop()


def node(server: LocalServer, **given: Any) -> NodeSettings:
    return NodeSettings(
        runfold_dir=server.runfold_dir, target=target_of(server.url, None), url=server.url, **given
    )


def train(settings: NodeSettings, rows: int = ROWS, rate: float = 0.0) -> tuple[subprocess.Popen[str], bytes]:
    trainer = start(
        "support.spooler", settings.spool_root, settings.target, rows, rate, "4", "--close", env={}
    )
    assert trainer.stdout is not None
    return trainer, bytes.fromhex(trainer.stdout.readline().strip())


def acked(settings: NodeSettings, writer: bytes) -> int:
    reader = SpoolReader(settings.target_dir / writer.hex())
    try:
        return reader.header.acked_seq
    finally:
        reader.close()


def accounting(server: LocalServer) -> dict[str, int]:
    answer = httpx.get(f"{server.url}/api/v1/runs/local/p/r/accounting", timeout=10.0)
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()
    return found


def check_all_stored(server: LocalServer, records: int) -> None:
    found = until(lambda: (now := accounting(server)) and now["pending"] == 0 and now)
    assert (found["stored"], found["declared_gaps"], found["dead_letters"]) == (records, 0, 0)


def test_a_coordinator_killed_again_and_again_acknowledges_everything():
    with LocalServer() as server:
        settings = node(server)
        trainer, writer = train(settings, 12_000, 3000.0)
        ensure_agent(settings)
        for _ in range(3):
            time.sleep(0.4)
            server.kill("coordinator")
            time.sleep(0.4)
            server.restart("coordinator")
        trainer.communicate(timeout=60)
        until(lambda: acked(settings, writer) == 12_001, 60.0)
        check_all_stored(server, 12_001)


def test_another_server_behind_the_same_redis_gets_everything(redis_server: EmbeddedRedis, tmp_path: Path):
    runfold_dir = tmp_path / "runfold"
    with LocalServer(tmp_path / "one", redis=redis_server.url, runfold_dir=runfold_dir) as first:
        settings = node(first)
        trainer, writer = train(settings)
        trainer.communicate(timeout=60)
        assert deliver_all([settings.target_dir], settings, timeout_s=60.0).pending == 0
        check_all_stored(first, ROWS + 1)
    with LocalServer(tmp_path / "two", redis=redis_server.url, runfold_dir=runfold_dir) as second:
        moved = replace(settings, url=second.url)
        report = deliver_all([settings.target_dir], moved, timeout_s=60.0)
        # More than the trainer said: the first delivery saw how its process ended, and kept that too.
        assert report.pending == 0
        assert report.acked >= ROWS + 1
        check_all_stored(second, ROWS + 1)
    assert acked(settings, writer) == ROWS + 1


def test_acks_that_redis_does_not_tell_are_asked_for_over_http(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runfold.node.uplink.ASK_HTTP_EVERY_S", 1.0)
    with LocalServer() as server:
        client = redis.Redis.from_url(server.redis_url)
        client.execute_command(
            *"ACL SETUSER mute on >pw resetkeys ~rf:* resetchannels -@all +xadd +ping +hello +info".split()
        )
        client.close()
        port = urlsplit(server.redis_url).port
        settings = replace(node(server), redis_url=f"redis://mute:pw@127.0.0.1:{port}")
        trainer, writer = train(settings)
        trainer.communicate(timeout=60)
        report = deliver_all([settings.target_dir], settings, timeout_s=60.0)
        assert (report.acked, report.pending) == (ROWS + 1, 0)
        assert acked(settings, writer) == ROWS + 1
        check_all_stored(server, ROWS + 1)


def test_without_a_way_to_redis_everything_travels_by_http(tmp_path: Path):
    with LocalServer() as server:
        settings = node(server)
        trainer, writer = train(settings)
        trainer.communicate(timeout=60)
        # The address that is handed out is not reachable from here: as if behind a firewall.
        blocked = replace(settings, redis_url="redis://127.0.0.1:1")
        report = deliver_all([settings.target_dir], blocked, timeout_s=60.0)
        assert (report.acked, report.pending) == (ROWS + 1, 0)
        check_all_stored(server, ROWS + 1)
        assert acked(settings, writer) == ROWS + 1
        assert os.path.exists(settings.target_dir)
