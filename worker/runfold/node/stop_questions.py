"""Which writers to ask the server about stop requests: all that live here when the set of requests is another
one, nobody otherwise. Pure.

In: what the server says of its open requests (their mark), the writers that live. Out: whom to ask about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: While requests are open, everybody is asked about again this often, seconds: Redis may have lost some.
ASK_AGAIN_S = 5.0


@dataclass(slots=True)
class _Partition:
    mark: bytes | None = None
    asked: set[bytes] = field(default_factory=set)
    asked_all_s: float = -1e9


class StopQuestions:
    """Remembers by partition which mark was seen, and who was asked about under it. Not thread-safe."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def seen(self, partition: int, mark: bytes | None) -> None:
        """The server named its open requests; None: there are none."""
        part = self._partitions.setdefault(partition, _Partition())
        if mark != part.mark:
            part.mark = mark
            part.asked.clear()

    def is_open(self, partition: int) -> bool:
        """Return True while the server has requests for somebody of this partition."""
        part = self._partitions.get(partition)
        return part is not None and part.mark is not None

    def wanted(self, partition: int, living: Iterable[bytes], now_s: float) -> list[bytes]:
        """Return whom to ask about."""
        part = self._partitions.get(partition)
        if part is None or part.mark is None:
            return []
        if now_s - part.asked_all_s >= ASK_AGAIN_S:
            part.asked_all_s = now_s
            part.asked.clear()
        return [writer for writer in living if writer not in part.asked]

    def answered(self, partition: int, writers: Iterable[bytes]) -> None:
        """The server answered for these, under the mark that was seen last."""
        self._partitions.setdefault(partition, _Partition()).asked.update(writers)
