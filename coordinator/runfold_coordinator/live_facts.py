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
