"""Commits since the server started, by what became of them, for `/metrics`."""

from __future__ import annotations

import threading

#: A new version; one that was there with the same content; a part; a commit that was made before; refused for
#: ever; blobs have to be uploaded first; not now.
COMMIT_RESULTS = ("version", "unchanged", "part", "known", "refused", "blobs_missing", "unavailable")


class CommitCounts:
    """Any thread counts and reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COMMIT_RESULTS, 0)

    def note(self, result: str) -> None:
        """Count one of COMMIT_RESULTS."""
        with self._lock:
            self._counts[result] += 1

    def read(self) -> dict[str, int]:
        """Return the count of each."""
        with self._lock:
            return dict(self._counts)
