"""Small contents travel together, up and down: how small, how many, how many bytes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

#: A content up to this size goes with others in one request.
SMALL_BYTES: Final = 256 * 1024
#: Of such contents in one request; the server takes up to 8 MiB.
BATCH_BYTES: Final = 4 * 1024 * 1024
BATCH_COUNT: Final = 500

Item = TypeVar("Item")


def batches(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in lists that fit into one request; one that is larger is alone."""
    batch: list[Item] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (total + size > BATCH_BYTES or len(batch) == BATCH_COUNT):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
