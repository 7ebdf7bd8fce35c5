"""What of a spool has to be brought to disk: what no server has stored in time, and only once. Pure.

In: head and durable ack of a writer at each look, its segments. Out: whether it is due, and which segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(slots=True)
class WriterOnDisk:
    """What is known about one writer.

    A record is first seen at a look; if it is not acked at the next, it is synced there. So with a look every
    half second it is stored or on disk within a second, and a writer is synced once a second at most.
    """

    #: Everything up to here was brought to disk.
    synced_seq: int = 0
    #: The head at the look that first found it neither acked nor synced; 0 when there is nothing of the kind.
    waiting_seq: int = 0
    #: The newest segment whose name in the directory is on disk; 0 before the first sync.
    named_seq: int = 0

    def is_due(self, head_seq: int, acked_seq: int) -> bool:
        """Return whether the writer has to be synced at this look."""
        if head_seq <= max(acked_seq, self.synced_seq):
            self.waiting_seq = 0
            return False
        if self.waiting_seq <= max(acked_seq, self.synced_seq):
            self.waiting_seq = head_seq
            return False
        return True

    def segments(self, first_seqs: Iterable[int], head_seq: int, acked_seq: int) -> list[int]:
        """Return those of the segments, given by their first seqs, ascending, that hold what is missing."""
        safe_seq = max(acked_seq, self.synced_seq)
        held = [*first_seqs, head_seq + 1]
        return [
            first for first, following in pairwise(held) if first <= head_seq and following - 1 > safe_seq
        ]

    def synced(self, head_seq: int, segments: Iterable[int]) -> None:
        """Note that everything up to `head_seq`, in these segments, is on disk."""
        self.synced_seq = max(self.synced_seq, head_seq)
        self.named_seq = max(self.named_seq, *segments, 1)
        self.waiting_seq = 0
