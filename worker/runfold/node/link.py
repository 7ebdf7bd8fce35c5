"""The seam between the agent and whatever carries its frames: one exchange is one round trip.

In: `Outgoing` (control records first, frames in order, what to ask). Out: `Incoming`, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from runfold.protocol.streams import StopRequest

from .failures import Reaction


class EntryId(NamedTuple):
    """A Redis stream entry id, ordered as Redis orders it."""

    ms: int
    n: int

    @classmethod
    def parse(cls, text: bytes | str) -> EntryId:
        """Parse "1526919030474-55"; a missing second part is 0. Raises ValueError."""
        plain = text.decode("ascii") if isinstance(text, bytes) else text
        ms, _, n = plain.partition("-")
        return cls(int(ms), int(n or 0))


@dataclass(frozen=True, slots=True)
class Refused:
    """One command was refused; the connection still stands."""

    reaction: Reaction
    message: str


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """One frame for the data stream of its partition."""

    partition: int
    writer: bytes
    lo: int
    hi: int
    data: bytes
    crc32: int


@dataclass(slots=True)
class Outgoing:
    """One round trip. Controls go before frames, so that a backlog never delays a heartbeat."""

    controls: list[tuple[int, bytes]] = field(default_factory=list)
    frames: list[OutgoingFrame] = field(default_factory=list)
    #: partition -> writers whose ack is wanted (the list may be empty: cursor and beat only).
    polls: dict[int, list[bytes]] = field(default_factory=dict)
    #: partition -> writers whose stop requests are wanted; only of partitions in `polls`.
    stops: dict[int, list[bytes]] = field(default_factory=dict)
    #: partitions whose data stream's length is wanted.
    lengths: list[int] = field(default_factory=list)
    ask_run_id: bool = False

    def is_empty(self) -> bool:
        """Return True when there is nothing to send or ask."""
        return not (self.controls or self.frames or self.polls or self.lengths or self.ask_run_id)


@dataclass(frozen=True, slots=True)
class Downlink:
    """What the coordinator published for one partition. None: not published (yet, or lost)."""

    server_id: bytes | None = None
    cursor: EntryId | None = None
    beat: int | None = None
    partitions: int | None = None
    #: writer -> durable ack, None where the coordinator has not said.
    acks: dict[bytes, int | None] = field(default_factory=dict)
    #: names the open stop requests of the partition; None while there are none.
    stops_mark: bytes | None = None
    #: writer -> what it is asked, of those whose requests were wanted.
    stops: dict[bytes, StopRequest] = field(default_factory=dict)
    #: open requests for stacks, packed; None while there are none.
    stacks: bytes | None = None


@dataclass(slots=True)
class Incoming:
    """Answers in the order of the questions. A frame's is its entry id, None where the link gives none."""

    controls: list[Refused | None] = field(default_factory=list)
    frames: list[EntryId | Refused | None] = field(default_factory=list)
    downlinks: dict[int, Downlink] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    #: identity of the Redis process behind the link; None: not asked, or the link has none.
    run_id: str | None = None


class Link(Protocol):
    """One open connection to a server. Not thread-safe; `close` may be called twice."""

    name: str
    #: With nothing in flight the downlink is read this often, seconds.
    idle_poll_s: float

    def exchange(self, outgoing: Outgoing) -> Incoming:
        """Send everything, return every answer. Raises LinkError when the link as a whole failed."""

    def close(self) -> None:
        """Close the connection; what is unanswered counts as not sent."""
