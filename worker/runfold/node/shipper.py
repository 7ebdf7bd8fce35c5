"""What to send next, and when to send it again: the window over all writers of a node. Pure.

In: what was sent, what came back, what the coordinator published, the time (monotonic seconds).
Out: whose turn it is, and actions (store an ack, a writer was rewound, ask for a stream's length).

The rule behind it all: only a durable ack frees anything. Whatever goes wrong, forget what was sent and
begin again at the ack; the coordinator drops what it already has. While the coordinator's beat stands still
nobody can ack, so what is in flight is left there: sending it again would only fill Redis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .link import Downlink, EntryId
from .window import Flight, WriterWindow


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Sizes in bytes, times in seconds."""

    #: all frames in flight together; one frame may overshoot it.
    window_bytes: int = 16_000_000
    #: beat unchanged for this long: the coordinator is away, wait.
    beat_stale_s: float = 5.0
    #: nothing moved for this long while frames are in flight: ask for the stream's length.
    probe_after_s: float = 0.4
    #: nothing moved for this long although the coordinator lives: rewind.
    no_progress_s: float = 10.0
    #: a frame in flight for this long although the coordinator lives: rewind, whatever else moves.
    oldest_flight_s: float = 300.0
    #: ask for the acks of all writers this often, to notice a server that went back in time.
    poll_all_s: float = 5.0
    #: wait before the second resend in a row of the same frame; doubles up to the longest.
    strike_first_s: float = 0.1
    strike_longest_s: float = 5.0


@dataclass(frozen=True, slots=True)
class StoreAck:
    """Write this ack and the server it came from into the spool's header."""

    writer: bytes
    acked: int
    server_id: bytes


@dataclass(frozen=True, slots=True)
class Rewound:
    """The writer will be sent again from `acked + 1`. `why` is one of a closed set of words."""

    writer: bytes
    acked: int
    why: str


@dataclass(frozen=True, slots=True)
class ProbeLength:
    """Ask for the length of this partition's data stream."""

    partition: int


Action = StoreAck | Rewound | ProbeLength


@dataclass(slots=True)
class _Partition:
    number: int
    server_id: bytes = b""
    cursor: EntryId | None = None
    beat: int | None = None
    beat_moved_s: float | None = None
    #: last time an ack or the cursor moved, or the first frame left after a pause.
    progress_s: float = 0.0
    #: last time the coordinator was seen away.
    away_s: float = -1e9
    probed_s: float = -1e9
    polled_all_s: float = -1e9
    #: beat at which the stream was seen empty while frames were in flight.
    empty_beat: int | None = None


class Shipper:
    """Window state of all writers behind one link. Not thread-safe.

    `stats` counts rewinds by cause and frames; it never decides anything.
    """

    def __init__(self, limits: WindowLimits | None = None) -> None:
        self.limits = limits or WindowLimits()
        self.in_flight_bytes = 0
        self.stats: Counter[str] = Counter()
        self._windows: dict[bytes, WriterWindow] = {}
        self._partitions: dict[int, _Partition] = {}
        self._order: list[bytes] = []
        self._next_turn = 0
        self._run_id: str | None = None

    # --- membership -------------------------------------------------------------------------------------

    def add(self, writer: bytes, *, partition: int, acked: int, server_id: bytes) -> None:
        """Begin to ship a writer from `acked + 1`, as its spool header says."""
        window = WriterWindow(writer, partition, acked, server_id, sent=acked)
        self._windows[writer] = window
        self._order.append(writer)
        self._partitions.setdefault(partition, _Partition(partition))

    def remove(self, writer: bytes) -> None:
        """Forget a writer; its frames in flight no longer count."""
        window = self._windows.pop(writer, None)
        if window is not None:
            self.in_flight_bytes -= window.rewind(window.acked)
            self._order.remove(writer)

    def __contains__(self, writer: bytes) -> bool:
        return writer in self._windows

    def acked(self, writer: bytes) -> int:
        """Return the durable ack of a writer."""
        return self._windows[writer].acked

    def sent(self, writer: bytes) -> int:
        """Return the highest seq that is acked or in flight."""
        return self._windows[writer].sent

    def are_confirmed(self) -> bool:
        """Return True when a living server behind this link has spoken of every writer."""
        return all(window.is_confirmed for window in self._windows.values())

    def server_id(self, partition: int = 0) -> bytes:
        """Return the id of the server behind a partition; empty while unknown."""
        part = self._partitions.get(partition)
        return part.server_id if part else b""

    def is_full(self) -> bool:
        """Return True when nothing may be sent before an ack comes."""
        return self.in_flight_bytes >= self.limits.window_bytes

    def has_flights(self) -> bool:
        """Return True while anything is sent and not acked."""
        return self.in_flight_bytes > 0

    def coordinator_lives(self, now_s: float) -> bool:
        """Return True if the beat of any partition moved lately."""
        return any(self._beats(part, now_s) for part in self._partitions.values())

    # --- sending ----------------------------------------------------------------------------------------

    def turns(self, now_s: float) -> Iterator[tuple[bytes, int]]:
        """Yield (writer, seq to read from), each writer once, beginning after the one served last.

        Ends when the window is full. The caller reports what it sends with `queue` before asking on.
        """
        order = self._order
        for _ in range(len(order)):
            if self.is_full():
                return
            self._next_turn = (self._next_turn + 1) % len(order)
            window = self._windows[order[self._next_turn]]
            if window.hold_until_s <= now_s:
                yield window.writer, window.sent + 1

    def queue(self, writer: bytes, lo: int, hi: int, bytes_count: int, now_s: float) -> None:
        """Note that frame [lo..hi] is about to be sent."""
        window = self._windows[writer]
        assert lo == window.sent + 1, "frames of a writer leave no hole and never overlap"
        assert hi >= lo, "a frame holds at least one record"
        part = self._partitions[window.partition]
        if not self.in_flight_bytes:
            part.progress_s = now_s
        window.flights.append(Flight(lo, hi, bytes_count, now_s))
        window.sent = hi
        self.in_flight_bytes += bytes_count
        self.stats["frames"] += 1

    def sent_ok(self, writer: bytes, hi: int, entry: EntryId | None) -> None:
        """Note the entry id of a frame that was queued; frames that were cut meanwhile are ignored."""
        for flight in reversed(self._windows[writer].flights):
            if flight.hi == hi:
                flight.entry = entry
                return

    def refused(self, writer: bytes, lo: int) -> list[Action]:
        """A frame was refused: it and all later ones of this writer count as not sent."""
        window = self._windows[writer]
        self.in_flight_bytes -= window.cut(lo)
        self.stats["rewind:refused"] += 1
        return [Rewound(writer, window.sent, "refused")]

    def link_lost(self) -> list[Action]:
        """The link failed as a whole: nothing in flight may be believed."""
        for window in self._windows.values():
            window.is_confirmed = False
        for part in self._partitions.values():
            part.beat_moved_s = None
        return self._rewind_all("link lost")

    def link_opened(self, run_id: str | None) -> list[Action]:
        """A link stands (again). Another Redis process than before may hold nothing of what was sent."""
        if run_id is None or run_id == self._run_id:
            return []
        is_first, self._run_id = self._run_id is None, run_id
        for part in self._partitions.values():
            part.cursor = None
        return [] if is_first else self._rewind_all("redis run id changed")

    # --- what the coordinator says ----------------------------------------------------------------------

    def polls(self, now_s: float) -> dict[int, list[bytes]]:
        """Return the writers whose acks to ask for, by partition."""
        wanted: dict[int, list[bytes]] = {number: [] for number in self._partitions}
        due = {
            part.number: now_s - part.polled_all_s >= self.limits.poll_all_s
            for part in self._partitions.values()
        }
        for window in self._windows.values():
            is_open = window.flights or window.low_ack or not window.is_confirmed
            if is_open or due[window.partition]:
                wanted[window.partition].append(window.writer)
        for number, all_of_them in due.items():
            if all_of_them:
                self._partitions[number].polled_all_s = now_s
        return wanted

    def downlink(self, partition: int, said: Downlink, now_s: float) -> list[Action]:
        """Take in one poll of a partition's downlink."""
        part = self._partitions.setdefault(partition, _Partition(partition))
        if said.beat is not None and said.beat != part.beat:
            if part.beat is not None:
                part.beat_moved_s = now_s
            part.beat = said.beat
        if said.server_id and said.server_id != part.server_id:
            part.server_id = said.server_id
            for window in self._windows.values():
                window.is_confirmed = False
        actions = self._take_cursor(part, said.cursor, now_s)
        for writer, ack in said.acks.items():
            known = self._windows.get(writer)
            if known is not None and known.partition == partition:
                actions += self._take_ack(part, known, ack, said.server_id, now_s)
        return actions

    def stream_length(self, partition: int, length: int, now_s: float) -> list[Action]:
        """Take in a stream's length: empty at two beats while frames are in flight means they are gone."""
        part = self._partitions[partition]
        if length > 0 or not self._flying(part):
            part.empty_beat = None
            return []
        if part.empty_beat is None:
            part.empty_beat = part.beat
            return []
        if part.empty_beat == part.beat or not self._beats(part, now_s):
            return []
        return self._rewind_partition(part, "stream is empty", now_s)

    def tick(self, now_s: float) -> list[Action]:
        """Look at the timers; call a few times a second."""
        actions: list[Action] = []
        for part in self._partitions.values():
            flying = self._flying(part)
            if not self._beats(part, now_s):
                part.away_s = now_s
            if not flying or part.away_s == now_s:
                part.progress_s = now_s
                part.empty_beat = part.empty_beat if flying else None
                continue
            still_s = now_s - part.progress_s
            oldest_s = now_s - max(part.away_s, min(window.flights[0].sent_mono_s for window in flying))
            if still_s >= self.limits.no_progress_s:
                actions += self._rewind_partition(part, "no progress", now_s)
            elif oldest_s >= self.limits.oldest_flight_s:
                actions += self._rewind_partition(part, "in flight too long", now_s)
            elif still_s >= self.limits.probe_after_s and now_s - part.probed_s >= self.limits.probe_after_s:
                part.probed_s = now_s
                actions.append(ProbeLength(part.number))
        return actions

    # --- inside -----------------------------------------------------------------------------------------

    def _beats(self, part: _Partition, now_s: float) -> bool:
        return part.beat_moved_s is not None and now_s - part.beat_moved_s < self.limits.beat_stale_s

    def _flying(self, part: _Partition) -> list[WriterWindow]:
        return [w for w in self._windows.values() if w.flights and w.partition == part.number]

    def _take_cursor(self, part: _Partition, cursor: EntryId | None, now_s: float) -> list[Action]:
        if cursor is None or cursor == part.cursor:
            return []
        went_back = part.cursor is not None and cursor < part.cursor
        part.cursor = cursor
        part.progress_s = now_s
        # Backwards: the coordinator began the stream anew, so our entry ids no longer compare with it.
        return self._rewind_partition(part, "cursor went back", now_s) if went_back else []

    def _take_ack(
        self, part: _Partition, window: WriterWindow, ack: int | None, server_id: bytes | None, now_s: float
    ) -> list[Action]:
        if server_id:
            # Without a beat it may be what a server before this one left in Redis.
            window.is_confirmed = self._beats(part, now_s)
            if window.server_id and window.server_id != server_id:
                return self._change_server(window, ack or 0, server_id)
        if ack is not None and ack > window.acked:
            self.in_flight_bytes -= window.advance(ack)
            window.server_id = server_id or window.server_id
            part.progress_s = now_s
            return [StoreAck(window.writer, ack, window.server_id)]
        if ack is not None and ack < window.acked:
            return self._take_lower_ack(part, window, ack, now_s)
        window.low_ack = None
        return self._take_passed(part, window, now_s)

    def _change_server(self, window: WriterWindow, acked: int, server_id: bytes) -> list[Action]:
        """Another server than the spool's acks came from: it has what it says, and no more."""
        window.server_id = server_id
        window.acked = acked
        self.in_flight_bytes -= window.rewind(acked)
        self.stats["rewind:another server"] += 1
        return [
            StoreAck(window.writer, acked, server_id),
            Rewound(window.writer, acked, "another server"),
        ]

    def _take_lower_ack(self, part: _Partition, window: WriterWindow, ack: int, now_s: float) -> list[Action]:
        """The server has less than it said: restored from a backup, or a stale copy of the downlink.

        Believed only when a later beat repeats it: a stale copy has no beat.
        """
        beat = part.beat or 0
        if window.low_ack is None or window.low_ack[0] != ack:
            window.low_ack = (ack, beat)
            return []
        if window.low_ack[1] == beat or not self._beats(part, now_s):
            return []
        window.low_ack = None
        window.acked = ack
        return [StoreAck(window.writer, ack, window.server_id), *self._rewind(window, "ack went back", now_s)]

    def _take_passed(self, part: _Partition, window: WriterWindow, now_s: float) -> list[Action]:
        """The cursor is behind our oldest entry and it is not acked: it was refused, or read as damaged."""
        entry = window.flights[0].entry if window.flights else None
        if entry is None or part.cursor is None or part.cursor < entry:
            window.passed_once = False
            return []
        if not window.passed_once:  # cursor and acks may be published one after the other
            window.passed_once = True
            return []
        return self._rewind(window, "cursor passed", now_s)

    def _rewind(self, window: WriterWindow, why: str, now_s: float) -> list[Action]:
        self.in_flight_bytes -= window.rewind(window.acked)
        if window.strikes:
            wait_s = self.limits.strike_first_s * 2.0 ** min(window.strikes - 1, 20)
            window.hold_until_s = now_s + min(wait_s, self.limits.strike_longest_s)
        window.strikes += 1
        self.stats[f"rewind:{why}"] += 1
        return [Rewound(window.writer, window.acked, why)]

    def _rewind_partition(self, part: _Partition, why: str, now_s: float) -> list[Action]:
        part.progress_s = now_s
        part.empty_beat = None
        return [action for window in self._flying(part) for action in self._rewind(window, why, now_s)]

    def _rewind_all(self, why: str) -> list[Action]:
        actions: list[Action] = []
        for window in self._windows.values():
            if window.flights:
                self.in_flight_bytes -= window.rewind(window.acked)
                self.stats[f"rewind:{why}"] += 1
                actions.append(Rewound(window.writer, window.acked, why))
        return actions
