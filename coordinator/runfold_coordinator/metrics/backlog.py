"""What waits in Redis, and how much memory that has; asked with little patience."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runfold.protocol.streams import data_stream
from runfold_coordinator.clock import Clock

TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Backlog:
    """`waiting`: (entries, age of the oldest in seconds) of each partition."""

    waiting: tuple[tuple[int, float], ...]
    memory_bytes: int
    #: 0: no limit.
    max_memory_bytes: int


class BacklogReader:
    """Asks one Redis, with commands that the coordinator's user may do anyway. Thread-safe."""

    def __init__(self, url: str, partitions: int, clock: Clock) -> None:
        self._partitions = partitions
        self._clock = clock
        self._lock = threading.Lock()
        self._client = redis.Redis.from_url(
            url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        # Replies as they come: the driver's own conversions differ between its versions.
        for command in ("XRANGE", "INFO"):
            self._client.response_callbacks.pop(command, None)

    def read(self) -> Backlog | None:
        """Return what waits; None where Redis does not answer at once."""
        with self._lock:
            try:
                return self._read()
            except (redis.RedisError, OSError, ValueError, IndexError, TypeError):
                self._client.connection_pool.disconnect()
                return None

    def close(self) -> None:
        """Drop the connection; idempotent."""
        self._client.close()

    def _read(self) -> Backlog:
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.execute_command("INFO", "memory")
        for partition in range(self._partitions):
            pipeline.execute_command("XLEN", data_stream(partition))
            pipeline.execute_command("XRANGE", data_stream(partition), "-", "+", "COUNT", 1)
        info, *streams = pipeline.execute()
        now_ms = int(self._clock.unix_s() * 1000)
        facts = _facts(info)
        return Backlog(
            waiting=tuple(
                (int(length), _age_s(first, now_ms))
                for length, first in zip(streams[::2], streams[1::2], strict=True)
            ),
            memory_bytes=int(facts.get("used_memory", 0)),
            max_memory_bytes=int(facts.get("maxmemory", 0)),
        )


def _age_s(first: Any, now_ms: int) -> float:
    """Return how long ago the oldest entry came, by its id: Redis' clock, which may be a little off ours."""
    if not first:
        return 0.0
    return max(0.0, (now_ms - int(bytes(first[0][0]).partition(b"-")[0])) / 1000)


def _facts(info: Any) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
    return {name: value for name, _, value in (line.partition(":") for line in text.splitlines()) if value}
