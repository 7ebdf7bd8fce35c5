"""What waits in a real Redis, and one that is away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from runfold.protocol.streams import data_stream
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.metrics.backlog import TIMEOUT_S, BacklogReader

pytestmark = pytest.mark.journey


def test_what_waits_and_when_redis_is_away(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path, listen="port", supervise=False).start()
    reader = BacklogReader(server.url, 2, SystemClock())
    try:
        found = reader.read()
        assert found is not None and found.waiting == ((0, 0.0), (0, 0.0))
        assert found.memory_bytes > 0 and found.max_memory_bytes > 0
        client = redis.Redis.from_url(server.url)
        for age_s in (7, 3):
            client.xadd(data_stream(1), {"f": "x"}, id=f"{int((time.time() - age_s) * 1000)}-0")
        client.close()
        found = reader.read()
        assert found is not None and found.waiting[0] == (0, 0.0)
        count, age_s = found.waiting[1]
        assert count == 2 and 6.5 < age_s < 20
    finally:
        server.stop()
    began_s = time.monotonic()
    assert reader.read() is None
    assert time.monotonic() - began_s < 10 * TIMEOUT_S
    reader.close()
