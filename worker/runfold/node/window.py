"""The window of one writer: what was sent and not yet acknowledged, in order. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .link import EntryId


@dataclass(slots=True)
class Flight:
    """One frame between sending and its durable ack."""

    lo: int
    hi: int
    bytes_count: int
    sent_mono_s: float
    #: None until Redis answered, or for ever where the link gives no ids (HTTP).
    entry: EntryId | None = None


@dataclass(slots=True)
class WriterWindow:
    """acked <= sent; flights cover what lies between, oldest first."""

    writer: bytes
    partition: int
    acked: int
    #: id of the server that `acked` came from; empty: none yet.
    server_id: bytes
    sent: int
    flights: deque[Flight] = field(default_factory=deque)
    #: rewinds in a row without an ack moving; spaces the resends of a frame that is refused for ever.
    strikes: int = 0
    hold_until_s: float = 0.0
    #: an ack below ours and the beat it was seen at: believed once a later beat repeats it.
    low_ack: tuple[int, int] | None = None
    #: the cursor was seen behind an unacked entry in the poll before.
    passed_once: bool = False
    #: the server's word on this writer was asked for since the link or the server changed.
    is_confirmed: bool = False

    def rewind(self, to_seq: int) -> int:
        """Forget what was sent above `to_seq`; return the bytes that left the window."""
        freed = sum(flight.bytes_count for flight in self.flights)
        self.flights.clear()
        self.sent = to_seq
        self.passed_once = False
        return freed

    def cut(self, from_seq: int) -> int:
        """Forget the flights that begin at `from_seq` or above; return their bytes."""
        freed = 0
        while self.flights and self.flights[-1].lo >= from_seq:
            freed += self.flights.pop().bytes_count
        self.sent = min(self.sent, max(from_seq - 1, self.acked))
        return freed

    def advance(self, ack: int) -> int:
        """Move the ack forward; return the bytes of the frames it settled."""
        freed = 0
        while self.flights and self.flights[0].hi <= ack:
            freed += self.flights.popleft().bytes_count
        self.acked = ack
        self.sent = max(self.sent, ack)
        self.strikes = 0
        self.hold_until_s = 0.0
        self.low_ack = None
        self.passed_once = False
        return freed
