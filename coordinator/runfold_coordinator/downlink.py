"""What agents are told through Redis: durable acks, cursor, beat, who is asked to stop.

A hint: what is lost is published again.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from runfold.protocol.streams import (
    BEAT_FIELD,
    CURSOR_FIELD,
    PARTITIONS_FIELD,
    SERVER_FIELD,
    STACKS_FIELD,
    STOPS_FIELD,
    StackRequest,
    ack_field,
    pack_stack_requests,
)
from runfold_coordinator.clock import Clock
from runfold_coordinator.stops import NOTHING_TOLD, Told
from runfold_coordinator.stream_reader import StreamReader

#: The beat, when there is nothing else to tell.
BEAT_EVERY_S = 0.5
#: An ack stays in the hash this long after it was told last.
KEEP_ACK_S = 24 * 3600.0
PRUNE_EVERY_S = 600.0
#: Open stop requests are told again this often, should Redis have lost some of its hash.
TELL_STOPS_EVERY_S = 5.0
#: A request for stacks is told for so long, and so many at once.
TELL_STACKS_S = 60.0
MAX_STACK_REQUESTS = 100


class Downlink:
    """Publishes one partition's hash. Not thread-safe: for the ingest thread."""

    def __init__(
        self,
        reader: StreamReader,
        clock: Clock,
        *,
        server_id: str,
        partitions: int,
        recent_acks: Callable[[], Mapping[bytes, int]],
        stops: Callable[[], Told] = lambda: NOTHING_TOLD,
    ) -> None:
        """Prepare.

        Args:
            recent_acks: Durable acks of writers heard of lately, for a Redis that has lost the hash.
            stops: Who is asked to stop now.
        """
        self._reader = reader
        self._clock = clock
        self._server_id = server_id
        self._partitions = partitions
        self._recent_acks = recent_acks
        self._stops = stops
        self._told_stops = NOTHING_TOLD
        self._told_stops_s = -1e9
        self._waiting: dict[bytes, int] = {}
        self._told: OrderedDict[bytes, float] = OrderedDict()
        self._next_s = 0.0
        self._prune_s = clock.mono_s() + PRUNE_EVERY_S
        self.beat = 0
        self._is_begun = False
        #: Open requests for stacks, and until when each is told.
        self._stack_requests: list[tuple[StackRequest, float]] = []
        #: What is told of them; b"" while there are none. Other threads may read it.
        self.stacks = b""
        self._told_stacks = b""

    def note(self, acks: Mapping[bytes, int]) -> None:
        """Take durable acks to be told by the next publish()."""
        self._waiting.update(acks)

    def ask_stacks(self, writers: Sequence[bytes], why: str) -> None:
        """Ask the agents of these writers for the stacks of their processes, as long as is useful."""
        request = StackRequest(secrets.token_hex(8), why, tuple(writers))
        self._stack_requests.append((request, self._clock.mono_s() + TELL_STACKS_S))
        del self._stack_requests[:-MAX_STACK_REQUESTS]
        self.stacks = pack_stack_requests(one for one, _ in self._stack_requests)

    def _drop_old_stack_requests(self, now_s: float) -> None:
        if self._stack_requests and self._stack_requests[0][1] <= now_s:
            self._stack_requests = [found for found in self._stack_requests if found[1] > now_s]
            left = [one for one, _ in self._stack_requests]
            self.stacks = pack_stack_requests(left) if left else b""

    def publish(self, cursor: str) -> None:
        """Tell what is waiting, and the beat when it is due.

        Raises:
            StreamUnavailableError: What was waiting still waits.
        """
        now_s = self._clock.mono_s()
        stops = self._stops()
        self._drop_old_stack_requests(now_s)
        is_told = stops is self._told_stops and self.stacks == self._told_stacks
        if not self._waiting and now_s < self._next_s and is_told:
            return
        if not self._is_begun:
            # What a server before this one left (another database, or this one before it was restored from a
            # backup) would be taken for our acks, and spools would be freed of what nobody has.
            self._reader.clear_downlink()
            self._is_begun = True
        self.beat += 1
        gone = self._told_stops.fields.keys() - stops.fields.keys()
        if gone or (self._told_stops.mark and not stops.mark):
            self._reader.unpublish([STOPS_FIELD, *gone])
        if self._told_stacks and not self.stacks:
            self._reader.unpublish([STACKS_FIELD])
        if not self._reader.publish(self._fields(cursor, stops, now_s)):
            self._waiting = {**self._recent_acks(), **self._waiting}
            self._told_stops_s = -1e9
            self._reader.publish(self._fields(cursor, stops, now_s))
        if stops is not self._told_stops or now_s - self._told_stops_s >= TELL_STOPS_EVERY_S:
            self._told_stops, self._told_stops_s = stops, now_s
        self._told_stacks = self.stacks
        for writer in self._waiting:
            self._told[writer] = now_s
            self._told.move_to_end(writer)
        self._waiting.clear()
        self._next_s = now_s + BEAT_EVERY_S
        if now_s >= self._prune_s:
            self._prune(now_s)

    def _fields(self, cursor: str, stops: Told, now_s: float) -> dict[bytes, bytes]:
        fields = {
            SERVER_FIELD: self._server_id.encode(),
            CURSOR_FIELD: cursor.encode(),
            BEAT_FIELD: str(self.beat).encode(),
            PARTITIONS_FIELD: str(self._partitions).encode(),
        }
        if stops is not self._told_stops or now_s - self._told_stops_s >= TELL_STOPS_EVERY_S:
            # The requests before their mark: who reads the mark has to find them.
            fields = stops.fields | fields
        if stops.mark:
            fields[STOPS_FIELD] = stops.mark
        if self.stacks:
            fields[STACKS_FIELD] = self.stacks
        # Acks first: who reads the new cursor has to find the acks that belong to it.
        return {ack_field(writer): str(seq).encode() for writer, seq in self._waiting.items()} | fields

    def _prune(self, now_s: float) -> None:
        self._prune_s = now_s + PRUNE_EVERY_S
        old = [writer for writer, told_s in self._told.items() if told_s < now_s - KEEP_ACK_S]
        self._reader.unpublish([ack_field(writer) for writer in old])
        for writer in old:
            del self._told[writer]
