"""Who was heard of, and when: heartbeats and data, in memory, by the coordinator's monotonic clock.

Nothing expires while nobody could have been heard: `renew()` gives everyone a full fresh lease.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from runfold.protocol.streams import Heartbeat
from runfold_coordinator.clock import Clock

#: Writers remembered; beyond, the one heard of longest ago is forgotten.
MAX_WRITERS = 200_000


@dataclass(slots=True)
class Sign:
    """The newest signs of one writer. Times are monotonic seconds, but for `seen_unix_s`."""

    heard_s: float
    seen_unix_s: float
    head_seq: int = 0
    alive: bool | None = None
    #: When a record of it was stored last.
    stored_s: float = 0.0


class Liveness:
    """Signs by writer id (hex). Not thread-safe: for the ingest thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lease_s = clock.mono_s()
        self._signs: OrderedDict[str, Sign] = OrderedDict()
        self._dirty: set[str] = set()
        #: Whether somebody's process is newly known to be gone: to be told at once.
        self.is_urgent = False

    def renew(self) -> None:
        """Start everyone's silence anew: after start, after a stall, while Redis can't be reached."""
        self._lease_s = self._clock.mono_s()

    def hear(self, beat: Heartbeat) -> None:
        """Take one agent's word for its writers. A clock of theirs is never used."""
        for found in beat.writers:
            sign = self._touch(found.writer.hex())
            if found.head_seq > sign.head_seq:
                sign.head_seq = found.head_seq
                self._dirty.add(found.writer.hex())
            # Gone is final: pids come back, processes do not.
            if found.alive is not None and found.alive != sign.alive and sign.alive is not False:
                sign.alive = found.alive
                self._dirty.add(found.writer.hex())
                self.is_urgent = self.is_urgent or found.alive is False

    def hear_data(self, writer_id: str) -> None:
        """A record of the writer was stored."""
        sign = self._touch(writer_id)
        sign.stored_s = sign.heard_s

    def sign(self, writer_id: str) -> Sign | None:
        """Return what is known, None when nothing was heard since start."""
        return self._signs.get(writer_id)

    def silent_s(self, writer_id: str) -> float:
        """Return for how long the writer was silent while it could have been heard."""
        sign = self._signs.get(writer_id)
        heard_s = self._lease_s if sign is None else max(sign.heard_s, self._lease_s)
        return self._clock.mono_s() - heard_s

    def since_heard_s(self, writer_id: str) -> float | None:
        """Return when the writer was heard of last, seconds ago; None when not since start."""
        sign = self._signs.get(writer_id)
        return None if sign is None else self._clock.mono_s() - sign.heard_s

    def stalled_s(self, writer_id: str) -> float:
        """Return for how long none of its records was stored, while they could have been."""
        sign = self._signs.get(writer_id)
        stored_s = self._lease_s if sign is None else max(sign.stored_s, self._lease_s)
        return self._clock.mono_s() - stored_s

    def dirty(self) -> list[tuple[str, Sign]]:
        """Return the signs that the database does not have yet."""
        self._dirty.intersection_update(self._signs)
        return [(writer_id, self._signs[writer_id]) for writer_id in self._dirty]

    def clean(self, writer_ids: Iterable[str]) -> None:
        """The signs of these writers are in the database now."""
        self._dirty.difference_update(writer_ids)
        self.is_urgent = False

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
