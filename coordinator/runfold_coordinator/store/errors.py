"""Store errors, by reaction.

StoreError
├── StoreUnavailableError   roll back, wait, try again: nothing is lost
│   └── StoreFullError      no space: free the ballast, then the same
├── FencedError             another owner has taken the partition: stop writing
└── StoreRefusedError       refuse to start: the message says the way out
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of what the store raises."""


class StoreUnavailableError(StoreError):
    """The database did not answer or did not commit; retrying may help."""


class StoreFullError(StoreUnavailableError):
    """The database has no space left."""


class FencedError(StoreError):
    """The partition's owner epoch is not ours any more."""

    def __init__(self, partition: int, ours: int, found: int | None) -> None:
        self.partition = partition
        self.ours = ours
        self.found = found
        super().__init__(
            f"partition {partition} was taken over by another coordinator (epoch {found}, ours was {ours}); "
            "nothing of this batch was written"
        )


class StoreRefusedError(StoreError):
    """The database can't be used as it is."""
