"""What is known of a writer at this moment, for readers in other threads: heard lately, in no database."""

from __future__ import annotations

from dataclasses import dataclass

from runfold_coordinator.clock import Clock
from runfold_coordinator.liveness import Liveness


@dataclass(frozen=True, slots=True)
class Live:
    """Signs of life of one writer. Seconds are by the coordinator's monotonic clock."""

    #: It lives and does not run: SIGSTOP, or a debugger.
    is_stopped: bool
    #: The run.timer() that it is in, and for how long; None outside of any.
    phase: str | None
    phase_s: float | None
    #: For how long nothing was heard of it.
    silent_s: float
    #: For how long no record of it was stored; None: none was since start.
    logged_s: float | None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record that a heartbeat told of, and how long ago the newest heartbeat came, seconds."""

    seq: int
    ago_s: float


class LiveFacts:
    """Reads what the ingest threads hear. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._partitions: list[Liveness] = []

    def add(self, liveness: Liveness) -> None:
        """Take the writers of one more partition; before its thread starts."""
        self._partitions.append(liveness)

    def of(self, writer_id: str) -> Live | None:
        """Return what was heard of a writer (hex); None when nothing was since start."""
        signs = [sign for one in self._partitions if (sign := one.sign(writer_id)) is not None]
        if not signs:
            return None
        sign = max(signs, key=lambda found: found.heard_s)
        now_s = self._clock.mono_s()
        # Read once: the ingest thread puts another one in its place.
        beat = sign.beat
        phase_s = None
        if beat is not None and beat.phase is not None and beat.phase_s is not None:
            phase_s = beat.phase_s + max(0.0, now_s - sign.beat_s)
        return Live(
            is_stopped=beat is not None and beat.is_stopped,
            phase=None if beat is None else beat.phase,
            phase_s=phase_s,
            silent_s=max(0.0, now_s - sign.heard_s),
            logged_s=max(0.0, now_s - sign.stored_s) if sign.stored_s else None,
        )

    def head(self, writer_id: str) -> Head | None:
        """Return what agents said of how far a writer (hex) has come; None: nothing since start."""
        signs = [sign for one in self._partitions if (sign := one.sign(writer_id)) is not None]
        told = [sign for sign in signs if sign.beat is not None]
        if not told:
            return None
        sign = max(told, key=lambda found: found.beat_s)
        return Head(sign.head_seq, max(0.0, self._clock.mono_s() - sign.beat_s))

    def clock_offset_ns(self, host: str | None, boot_id: str | None) -> int:
        """Return what to add to a node's times to have ours; 0 where they hardly differ, or unknown."""
        return next((found for one in self._partitions if (found := one.clock_offset_ns(host, boot_id))), 0)

    def clock_offsets(self) -> dict[tuple[str, str], int]:
        """Return what to add to times of nodes (host, boot id) to have ours, ns, where they differ."""
        return {node: ns for one in self._partitions for node, ns in one.clock_offsets().items()}
