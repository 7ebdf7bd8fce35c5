"""What happened to blobs since the server started, counted for `/metrics`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from runfold_coordinator.blobs.errors import (
    FULL_ERRNOS,
    BlobMismatchError,
    BlobSpaceError,
    UploadOffsetError,
)
from runfold_coordinator.store.errors import StoreFullError

#: Why something that was sent is not taken. The last: the disk, the database or the object store fails.
REFUSALS = ("no_space", "mismatch", "wrong_offset", "busy", "unavailable")


@dataclass(slots=True)
class Totals:
    """Numbers since start. `checked`: found whole, by hashing all of it or by its size."""

    received_bytes: int = 0
    stored: int = 0
    stored_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    orphans: int = 0
    checked_content: int = 0
    checked_size: int = 0
    damaged: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))


class BlobCounts:
    """Any thread adds and reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Totals()

    def add(self, **counts: int) -> None:
        """Add to totals, by name."""
        with self._lock:
            for name, count in counts.items():
                setattr(self._totals, name, getattr(self._totals, name) + count)

    def refuse(self, error: Exception) -> None:
        """Count what an upload was refused with."""
        why = refusal(error)
        with self._lock:
            self._totals.refused[why] += 1

    def read(self) -> Totals:
        """Return the totals as they are now."""
        with self._lock:
            return replace(self._totals, refused=dict(self._totals.refused))


def refusal(error: Exception) -> str:
    """Return which of REFUSALS an error of the blob store, the database or the disk is."""
    if isinstance(error, UploadOffsetError):
        return "busy" if error.is_busy else "wrong_offset"
    if isinstance(error, BlobMismatchError):
        return "mismatch"
    is_full = isinstance(error, OSError) and error.errno in FULL_ERRNOS
    return "no_space" if is_full or isinstance(error, (BlobSpaceError, StoreFullError)) else "unavailable"
