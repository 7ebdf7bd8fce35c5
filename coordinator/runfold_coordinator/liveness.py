"""Who was heard of, and when: heartbeats and data, in memory, by the coordinator's monotonic clock.

Nothing expires while nobody could have been heard: silence counts up to the moment at which the control
stream was last read to its end, and `renew()` gives everyone a full fresh lease.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.clock import Clock

#: Writers remembered; beyond, the one heard of longest ago is forgotten.
MAX_WRITERS = 200_000
#: Nodes whose clocks are compared, and heartbeats of each that are.
MAX_NODES = 20_000
CLOCK_SAMPLES = 12
#: A heartbeat that may have waited for longer, seconds, tells nothing of its node's clock.
FRESH_BEAT_S = 1.0
#: Clocks that differ by less, seconds, count as equal: a comparison is no better than a message's way.
SAME_CLOCK_S = 0.5


@dataclass(slots=True)
class Sign:
    """The newest signs of one writer. Times are monotonic seconds, but for `seen_unix_s`."""

    heard_s: float
    seen_unix_s: float
    head_seq: int = 0
    alive: bool | None = None
    #: When a record of it was stored last; 0: none since start.
    stored_s: float = 0.0
    #: When its process was first known to be gone; 0: it is not.
    gone_s: float = 0.0
    #: The newest heartbeat's word on it, and when that came.
    beat: WriterBeat | None = None
    beat_s: float = 0.0


class Liveness:
    """Signs by writer id (hex). For the ingest thread; other threads may call `sign()`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lease_s = clock.mono_s()
        #: None: there is no stream, and every moment counts.
        self._listened_s: float | None = None
        self._signs: OrderedDict[str, Sign] = OrderedDict()
        self._dirty: set[str] = set()
        #: By host and boot: how much the node's clock was behind ours, seconds.
        self._behind_s: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        #: Whether something was heard that is to be told at once: a process that is gone, evidence.
        self.is_urgent = False

    @property
    def lease_s(self) -> float:
        """When everyone's silence was started anew last, monotonic seconds."""
        return self._lease_s

    def renew(self) -> None:
        """Start everyone's silence anew: after start, after a stall, while Redis can't be reached."""
        self._lease_s = self._clock.mono_s()

    def listened(self, asked_s: float) -> None:
        """The control stream was read to its end, as it stood at this moment (monotonic seconds) or later."""
        self._listened_s = max(asked_s, self._listened_s or 0.0)

    @property
    def heard_upto_s(self) -> float:
        """Up to when all that was said has been heard, monotonic seconds; silence after it tells nothing."""
        return self._clock.mono_s() if self._listened_s is None else self._listened_s

    def hear(self, beat: Heartbeat) -> None:
        """Take one agent's word for its writers. A clock of theirs is never used to judge silence."""
        self._compare_clocks(beat)
        for found in beat.writers:
            sign = self._touch(found.writer.hex())
            sign.beat, sign.beat_s = found, sign.heard_s
            if found.head_seq > sign.head_seq:
                sign.head_seq = found.head_seq
                self._dirty.add(found.writer.hex())
            # Gone is final: pids come back, processes do not.
            if found.alive is not None and found.alive != sign.alive and sign.alive is not False:
                sign.alive = found.alive
                self._dirty.add(found.writer.hex())
                if found.alive is False:
                    self.is_urgent = True
                    sign.gone_s = sign.gone_s or sign.heard_s

    def hear_data(self, writer_id: str) -> None:
        """A record of the writer was stored."""
        sign = self._touch(writer_id)
        sign.stored_s = sign.heard_s

    def sign(self, writer_id: str) -> Sign | None:
        """Return what is known, None when nothing was heard since start. Thread-safe to read."""
        return self._signs.get(writer_id)

    def silent_s(self, writer_id: str) -> float:
        """Return for how long the writer was silent while it could have been heard."""
        sign = self._signs.get(writer_id)
        return self._since(0.0 if sign is None else sign.heard_s)

    def since_heard_s(self, writer_id: str) -> float | None:
        """Return when the writer was heard of last, seconds ago; None when not since start."""
        sign = self._signs.get(writer_id)
        return None if sign is None else self._clock.mono_s() - sign.heard_s

    def stalled_s(self, writer_id: str) -> float:
        """Return for how long none of its records was stored, while they could have been."""
        sign = self._signs.get(writer_id)
        return self._since(0.0 if sign is None else sign.stored_s)

    def gone_s(self, writer_id: str) -> float:
        """Return for how long its process is known to be gone, while more about it could have been heard.

        The first call counts as the moment at which that was known, where no heartbeat has said it before.
        """
        sign = self._signs.get(writer_id)
        if sign is None:
            return self._since(0.0)
        sign.gone_s = sign.gone_s or self._clock.mono_s()
        return self._since(sign.gone_s)

    def clock_offset_ns(self, host: str | None, boot_id: str | None) -> int:
        """Return what to add to this node's times to have ours; 0 where they hardly differ, or unknown."""
        samples = self._behind_s.get((host or "", boot_id or ""))
        # The one that was on its way for the shortest time is the best.
        behind_s = min(samples) if samples else 0.0
        return 0 if abs(behind_s) < SAME_CLOCK_S else int(behind_s * 1e9)

    def clock_offsets(self) -> dict[tuple[str, str], int]:
        """Return clock_offset_ns() of all nodes whose clocks differ from ours. Thread-safe."""
        nodes = list(self._behind_s)
        return {node: ns for node in nodes if (ns := self.clock_offset_ns(*node))}

    def dirty(self) -> list[tuple[str, Sign]]:
        """Return the signs that the database does not have yet."""
        self._dirty.intersection_update(self._signs)
        return [(writer_id, self._signs[writer_id]) for writer_id in self._dirty]

    def clean(self, writer_ids: Iterable[str]) -> None:
        """The signs of these writers are in the database now."""
        self._dirty.difference_update(writer_ids)

    def _since(self, then_s: float) -> float:
        return max(0.0, self.heard_upto_s - max(then_s, self._lease_s))

    def _compare_clocks(self, beat: Heartbeat) -> None:
        now_s = self._clock.mono_s()
        if self._listened_s is not None and now_s - self._listened_s > FRESH_BEAT_S:
            return
        place = (beat.host, beat.boot_id)
        samples = self._behind_s.get(place)
        if samples is None:
            samples = self._behind_s[place] = deque(maxlen=CLOCK_SAMPLES)
            if len(self._behind_s) > MAX_NODES:
                self._behind_s.popitem(last=False)
        behind_s = self._clock.unix_s() - beat.unix_s
        if samples and abs(behind_s - samples[-1]) > 60.0:
            samples.clear()  # one of the two clocks was set
        if abs(behind_s) < 1e10:  # else the product in ns has no place in 64 bits
            samples.append(behind_s)

    def _touch(self, writer_id: str) -> Sign:
        now_s, now_unix_s = self._clock.mono_s(), self._clock.unix_s()
        sign = self._signs.get(writer_id)
        if sign is None:
            sign = self._signs[writer_id] = Sign(now_s, now_unix_s)
            if len(self._signs) > MAX_WRITERS:
                self._signs.popitem(last=False)
        else:
            self._signs.move_to_end(writer_id)
            sign.heard_s, sign.seen_unix_s = now_s, now_unix_s
        return sign
