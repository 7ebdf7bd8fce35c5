"""The second way in, for agents that can't reach Redis: frames over HTTP go into the same streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from runfold_coordinator.ingest.loop import IngestLoop
from runfold_coordinator.store.store import Store
from runfold_coordinator.stream_reader import StreamReader, StreamUnavailableError


class Intake:
    """Appends to the streams, and answers for acks from the database. Thread-safe."""

    def __init__(
        self,
        store: Store,
        loops: Sequence[IngestLoop],
        open_stream: Callable[[int], StreamReader],
        *,
        redis_url: str | None,
    ) -> None:
        """Prepare.

        Args:
            redis_url: What workers are told; None: they send over HTTP.
        """
        self._store = store
        self._loops = loops
        self._open_stream = open_stream
        self._redis_url = redis_url
        self._lock = threading.Lock()
        self._streams: dict[int, StreamReader] = {}

    def add_frames(self, entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        """Append (partition, frame, crc) entries; return how many were accepted before the first refusal."""
        accepted = 0
        with self._lock:
            for partition, frame, crc in entries:
                if not 0 <= partition < len(self._loops):
                    break
                try:
                    self._stream(partition).append_frame(frame, crc)
                except StreamUnavailableError:
                    break
                accepted += 1
        return accepted

    def add_control(self, message: bytes) -> None:
        """Append a control message to every partition: its writers may be of any of them.

        Raises:
            StreamUnavailableError: Redis does not take it now.
        """
        with self._lock:
            for partition in range(len(self._loops)):
                self._stream(partition).append_control(message)

    def acks(self, writer_ids: Collection[str]) -> dict[str, Any]:
        """Return {"srv", "cur", "beat", "parts", "acks": {writer id: seq}}; 0 for who is not known."""
        return {
            "srv": self._store.server_id,
            "cur": self._loops[0].cursor,
            "beat": self._loops[0].beat,
            "parts": len(self._loops),
            "acks": self._store.acks(writer_ids),
        }

    def stacks(self, partition: int) -> bytes:
        """Return the open requests for stacks of a partition, packed; b"" while there are none."""
        return self._loops[partition].stacks if 0 <= partition < len(self._loops) else b""

    def connect_facts(self) -> dict[str, Any]:
        """Return {"redis_url", "server_id", "partitions"} for a worker."""
        return {
            "redis_url": self._redis_url,
            "server_id": self._store.server_id,
            "partitions": len(self._loops),
        }

    def close(self) -> None:
        """Drop the connections; idempotent."""
        with self._lock:
            for stream in self._streams.values():
                stream.close()
            self._streams.clear()

    def _stream(self, partition: int) -> StreamReader:
        if partition not in self._streams:
            self._streams[partition] = self._open_stream(partition)
        return self._streams[partition]
