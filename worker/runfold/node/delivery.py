"""One round trip: frames out as the shipper says, answers and acks in.

In: the writers' tails, an open link. Out: what was sent and whether more is waiting. Used by the agent and by
`runfold sync`; it carries out what `Shipper` decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from runfold.protocol.failpoints import hit
from runfold.protocol.limits import TARGET_FRAME_BYTES
from runfold.protocol.streams import StopRequest

from .link import Downlink, Incoming, Link, Outgoing, OutgoingFrame, Refused
from .shipper import Action, ProbeLength, Rewound, Shipper, StoreAck
from .stop_questions import StopQuestions
from .tail import WriterTail

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Round:
    """What one round trip did."""

    sent_frames: int = 0
    sent_bytes: int = 0
    #: The budget ended before the spools did.
    has_more: bool = False
    #: Every control record was taken (or there was none).
    controls_taken: bool = True
    #: The first refusal; None: everything was taken.
    refused: Refused | None = None
    #: Number of partitions that the server published; None: not said.
    partitions: int | None = None
    #: What writers of this node are asked, as far as it was asked for in this round.
    stops: dict[bytes, StopRequest] = field(default_factory=dict)
    #: Requests for stacks, packed, as told by each partition.
    stacks: list[bytes] = field(default_factory=list)


class Delivery:
    """Moves frames and acks between tails and a link. Not thread-safe."""

    def __init__(
        self, shipper: Shipper, tails: Mapping[bytes, WriterTail], clock: Callable[[], float]
    ) -> None:
        self._shipper = shipper
        self._tails = tails
        self._clock = clock
        self._probes: list[int] = []
        self._ask_run_id = True
        self._polled_s = -1e9
        self._stop_questions = StopQuestions()
        #: Writers whose spool could not be read or written; left alone until somebody takes them out.
        self._broken: set[bytes] = set()

    def link_lost(self) -> None:
        """A link was lost or replaced: forget what was in flight, ask anew who answers."""
        self._apply(self._shipper.link_lost())
        self._ask_run_id = True
        self._probes = []
        self._polled_s = -1e9

    def take_broken(self) -> list[bytes]:
        """Return the writers whose spools can't be used, once; the caller takes them out."""
        broken = [writer for writer in self._broken if writer in self._tails]
        self._broken.clear()
        return broken

    def round(
        self,
        link: Link,
        controls: Sequence[tuple[int, bytes]] = (),
        *,
        budget_bytes: int,
        may_send: bool = True,
    ) -> Round:
        """Do one round trip.

        Raises:
            LinkError: The link failed as a whole; close it and call `link_lost`.
        """
        now_s = self._clock()
        self._apply(self._shipper.tick(now_s))
        result = Round()
        outgoing = Outgoing(list(controls), lengths=self._probes, ask_run_id=self._ask_run_id)
        self._probes = []
        if may_send:
            self._collect(outgoing, result, budget_bytes, now_s)
        self._add_polls(outgoing, now_s, link.idle_poll_s)
        if not outgoing.is_empty():
            hit("agent.before_send")
            incoming = link.exchange(outgoing)
            hit("agent.after_exchange")
            self._take(outgoing, incoming, result)
        return result

    def _collect(self, outgoing: Outgoing, result: Round, budget_bytes: int, now_s: float) -> None:
        """Read and encode frames, one a writer and turn, until budget, window or spools are at their end."""
        max_bytes = min(TARGET_FRAME_BYTES, budget_bytes)
        found = True
        while found:
            found = False
            for writer, from_seq in self._shipper.turns(now_s):
                frame = self._next_frame(writer, from_seq, max_bytes)
                if frame is None:
                    continue
                found = True
                self._shipper.queue(writer, frame.lo, frame.hi, len(frame.data), now_s)
                outgoing.frames.append(frame)
                result.sent_frames += 1
                result.sent_bytes += len(frame.data)
                if result.sent_bytes >= budget_bytes:
                    result.has_more = True
                    return

    def _next_frame(self, writer: bytes, from_seq: int, max_bytes: int) -> OutgoingFrame | None:
        if writer in self._broken:
            return None
        tail = self._tails[writer]
        try:
            frame = tail.next_frame(from_seq, max_bytes)
        except (OSError, ValueError) as error:
            self._set_aside(writer, error)
            return None
        if frame is None:
            return None
        return OutgoingFrame(tail.partition, writer, frame.lo, frame.hi, frame.data, frame.crc32)

    def _add_polls(self, outgoing: Outgoing, now_s: float, idle_poll_s: float) -> None:
        polls = self._shipper.polls(now_s)
        stops = self._wanted_stops(polls, now_s)
        # With nothing in flight too: is the server still the same, does it ask anybody to stop?
        if any(polls.values()) or stops or now_s - self._polled_s >= idle_poll_s:
            outgoing.polls, outgoing.stops = polls, stops
            self._polled_s = now_s

    def _wanted_stops(self, polls: Mapping[int, object], now_s: float) -> dict[int, list[bytes]]:
        """Return the living writers whose stop requests to ask for, by partition."""
        wanted = {}
        for partition in filter(self._stop_questions.is_open, polls):
            if found := self._stop_questions.wanted(partition, self._living(partition), now_s):
                wanted[partition] = found
        return wanted

    def _living(self, partition: int) -> list[bytes]:
        return [
            writer
            for writer, tail in self._tails.items()
            if tail.partition == partition and tail.is_alive and tail.identity.role == "process"
        ]

    def ask_another_way(self, ask: Callable[[Outgoing], dict[int, Downlink]]) -> dict[bytes, StopRequest]:
        """Ask for acks by `ask` if something is open and the downlink stands still; return stop requests."""
        now_s = self._clock()
        is_open = self._shipper.has_flights() or not self._shipper.are_confirmed()
        found: dict[bytes, StopRequest] = {}
        if is_open and not self._shipper.coordinator_lives(now_s):
            polls = self._shipper.polls(now_s)
            stops = {partition: self._living(partition) for partition in polls}
            for partition, downlink in ask(Outgoing(polls=polls, stops=stops)).items():
                self._apply(self._shipper.downlink(partition, downlink, now_s))
                found |= downlink.stops
        return found

    def _take(self, outgoing: Outgoing, incoming: Incoming, result: Round) -> None:
        now_s = self._clock()
        if incoming.run_id is not None or self._ask_run_id:
            self._ask_run_id = False
        for control in incoming.controls:
            if control is not None:
                result.controls_taken = False
                result.refused = result.refused or control
        self._take_frames(outgoing, incoming, result)
        # After the frames: those that are answered here were sent to this very process.
        self._apply(self._shipper.link_opened(incoming.run_id))
        for partition, downlink in incoming.downlinks.items():
            result.partitions = downlink.partitions or result.partitions
            self._stop_questions.answered(partition, outgoing.stops.get(partition, ()))
            self._stop_questions.seen(partition, downlink.stops_mark)
            result.stops |= downlink.stops
            if downlink.stacks:
                result.stacks.append(downlink.stacks)
            self._apply(self._shipper.downlink(partition, downlink, now_s))
        for partition, length in incoming.lengths.items():
            self._apply(self._shipper.stream_length(partition, length, now_s))

    def _take_frames(self, outgoing: Outgoing, incoming: Incoming, result: Round) -> None:
        cut: set[bytes] = set()
        for frame, answer in zip(outgoing.frames, incoming.frames, strict=True):
            if frame.writer in cut:
                continue  # accepted or not: behind a hole it is of no use
            if isinstance(answer, Refused):
                cut.add(frame.writer)
                result.refused = result.refused or answer
                self._apply(self._shipper.refused(frame.writer, frame.lo))
            else:
                self._shipper.sent_ok(frame.writer, frame.hi, answer)

    def _apply(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StoreAck():
                    self._store_ack(action)
                case ProbeLength():
                    self._probes.append(action.partition)
                case Rewound():
                    logger.info(
                        "a writer is sent again from its ack",
                        extra={"event": "rewound", "writer": action.writer.hex(), "why": action.why},
                    )

    def _store_ack(self, action: StoreAck) -> None:
        tail = self._tails.get(action.writer)
        if tail is None:
            return
        try:
            tail.store_ack(action.acked, action.server_id)
        except (OSError, ValueError) as error:
            self._set_aside(action.writer, error)

    def _set_aside(self, writer: bytes, error: Exception) -> None:
        """A spool that was deleted or made unreadable under us must not stop the others."""
        self._broken.add(writer)
        logger.warning(
            "a spool can't be used and is left alone for a while: %s",
            error,
            extra={"event": "spool_set_aside", "writer": writer.hex()},
        )
