"""A real coordinator, killed between any two steps of a batch: nothing is lost, nothing is doubled."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import redis

from runfold.protocol.frames import encode_frame
from runfold_coordinator.store.model import Accounting
from runfold_coordinator.store.store import Store
from runfold_coordinator.testing import LocalServer
from support.frames import Speaker

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

STEPS = ("read", "decode", "begin", "insert", "commit", "trim", "ack")
DATA, DOWN = "rf:{0}:in", "rf:{0}:down"


def wait_for(done: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)


def test_a_coordinator_killed_at_each_step_stores_everything_once(tmp_path: Path) -> None:
    speaker = Speaker(b"w" * 16)
    values: list[float] = []
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "home") as server:
        client = redis.Redis.from_url(server.redis_url)
        frames = [speaker.hello()]

        def put(*data: bytes) -> None:
            for frame in data:
                client.xadd(DATA, {"f": frame, "c": zlib.crc32(frame).to_bytes(4, "little")})

        put(encode_frame(frames[0]))
        for step in STEPS:
            server.restart("coordinator", failpoint=f"ingest.after_{step}")
            new = []
            for _ in range(3):
                values += [float(len(values)), float(len(values) + 1)]
                new.append(encode_frame(speaker.rows({"loss": values[-2:]})))
            put(*new)
            wait_for(lambda: not server.pids("coordinator"))
            # Redis loses everything at the same moment: what was not acknowledged is sent again, twice.
            if step in ("decode", "insert"):
                client.flushall()
                put(*new, *new)
            server.restart("coordinator")
            wait_for(lambda: int(client.hget(DOWN, f"a:{speaker.writer_id}") or 0) == speaker.seq)
        wait_for(lambda: client.xlen(DATA) == 0)
        server.kill("coordinator")
        client.close()
    store = Store.open(f"sqlite:///{tmp_path / 'data' / 'runfold.db'}")
    try:
        (run,) = store.list_runs()
        found = [v for cells in store.read_cells(run.run_pk, "loss") for v in list(cells.values)]
        assert found == values
        assert store.accounting(run.run_pk) == Accounting(len(values) + 1, len(values) + 1, 0, 0, 0)
    finally:
        store.close()


def test_a_coordinator_stopped_politely_leaves_its_files_in_order(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "data", runfold_dir=tmp_path / "home") as server:
        assert (tmp_path / "home" / "server.json").exists()
        assert (tmp_path / "data" / "ready.json").exists()
        pid = server.pids("coordinator")
        server.restart("coordinator")
        assert server.pids("coordinator") != pid
    assert not (tmp_path / "home" / "server.json").exists()
    assert not (tmp_path / "data" / "ready.json").exists()
    assert not (tmp_path / "data" / "runfold.db-wal").exists()
