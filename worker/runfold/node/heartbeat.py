"""One control record for all writers of the node: when it is due and what it says. Pure.

In: what the agent knows of each writer (`WriterNews`), monotonic and wall seconds.
Out: packed heartbeats by partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold.spool.phase import Phase

#: Writers in one control record; more are split, so that a record stays below the protocol's limit.
WRITERS_PER_RECORD = 10_000


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who speaks: one agent on one boot of one node."""

    node: str
    host: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class WriterNews:
    """`alive`: None when the agent can't tell (another host). `phase`: where its timers say that it is."""

    writer: bytes
    partition: int
    head_seq: int
    alive: bool | None
    phase: Phase | None = None
    is_stopped: bool = False


class Heartbeats:
    """Decides when the next heartbeat is due. Not thread-safe.

    At most `interval_s` apart; sooner, but never closer than `soonest_s`, when a writer starts, closes
    or dies.
    """

    def __init__(self, identity: NodeIdentity, *, interval_s: float = 5.0, soonest_s: float = 0.05) -> None:
        self._identity = identity
        self._interval_s = interval_s
        self._soonest_s = soonest_s
        self._sent_s = -1e9
        self._is_urgent = False

    def hurry(self) -> None:
        """Something happened that the coordinator should know at once."""
        self._is_urgent = True

    def is_due(self, now_s: float) -> bool:
        """Return True when a heartbeat should leave now."""
        return now_s - self._sent_s >= (self._soonest_s if self._is_urgent else self._interval_s)

    def due_in_s(self, now_s: float) -> float:
        """Return the seconds until `is_due`, at least 0."""
        wait_s = self._soonest_s if self._is_urgent else self._interval_s
        return max(0.0, self._sent_s + wait_s - now_s)

    def sent(self, now_s: float) -> None:
        """The heartbeat was taken by the server."""
        self._sent_s = now_s
        self._is_urgent = False

    def pack(self, news: Iterable[WriterNews], unix_s: float) -> list[tuple[int, bytes]]:
        """Return (partition, message) for every partition that has writers here."""
        by_partition: dict[int, list[WriterBeat]] = {}
        for one in news:
            beats = by_partition.setdefault(one.partition, [])
            phase = one.phase
            beats.append(
                WriterBeat(
                    one.writer,
                    one.head_seq,
                    one.alive,
                    is_stopped=one.is_stopped,
                    phase=None if phase is None else phase.name,
                    phase_s=None if phase is None else phase.for_s,
                    is_collective=phase is not None and phase.is_collective,
                )
            )
        return [
            (partition, self._message(beats[at : at + WRITERS_PER_RECORD], unix_s))
            for partition, beats in sorted(by_partition.items())
            for at in range(0, len(beats), WRITERS_PER_RECORD)
        ]

    def _message(self, beats: list[WriterBeat], unix_s: float) -> bytes:
        who = self._identity
        return Heartbeat(
            node=who.node,
            host=who.host,
            boot_id=who.boot_id,
            unix_s=unix_s,
            interval_s=self._interval_s,
            writers=tuple(beats),
        ).pack()
