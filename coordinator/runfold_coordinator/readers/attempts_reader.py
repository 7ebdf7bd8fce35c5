"""The generations of a job's processes: when each began, how far it came, what the next one took back."""

from __future__ import annotations

from typing import Any

from runfold_coordinator.readers.run_lanes import Seat, load_lanes, top_step
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store


class AttemptsReader:
    """Reads attempts. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def attempt_of_writers(self, run: RunRow) -> dict[int, int]:
        """Return the attempt number by writer_pk."""
        seats = load_lanes(self._store, run).seats
        return {seat.writer.writer_pk: seat.placement.attempt for seat in seats}

    def attempts(self, run: RunRow) -> list[dict[str, Any]]:
        """Return the attempts, first to last.

        Each: attempt, started_unix_s, ended_unix_s (newest word of its writers), writers, states (how many
        are in each), first_step and last_step (None without rows), cut_step (from here on a later attempt
        took over; None while none did), lost_steps, restart_s (from the last word of the attempt before;
        None for the first).
        """
        by_attempt: dict[int, list[Seat]] = {}
        for seat in load_lanes(self._store, run).seats:
            by_attempt.setdefault(seat.placement.attempt, []).append(seat)
        described: list[dict[str, Any]] = []
        for attempt, seats in sorted(by_attempt.items()):
            before = described[-1]["ended_unix_s"] if described else None
            described.append(_describe(attempt, seats, before))
        return described


def _describe(attempt: int, seats: list[Seat], ended_before_unix_s: float | None) -> dict[str, Any]:
    writers = [seat.writer for seat in seats]
    started_unix_s = min(writer.started_unix_ns for writer in writers) / 1e9
    cuts = [seat.placement.cut_step for seat in seats if seat.placement.cut_step is not None]
    firsts = [
        w.step_min + s.placement.step_offset
        for w, s in zip(writers, seats, strict=True)
        if w.step_min is not None
    ]
    reached = max((seat.top_step for seat in seats if seat.top_step is not None), default=None)
    states: dict[str, int] = {}
    for writer in writers:
        states[writer.state] = states.get(writer.state, 0) + 1
    cut_step = min(cuts, default=None)
    return {
        "attempt": attempt,
        "started_unix_s": started_unix_s,
        "ended_unix_s": max(writer.last_record_unix_ns for writer in writers) / 1e9,
        "writers": len(writers),
        "states": states,
        "first_step": min(firsts, default=None),
        "last_step": reached if reached is None else max(top_step(seats), min(firsts, default=0) - 1),
        "cut_step": cut_step,
        "lost_steps": 0 if cut_step is None or reached is None else max(0, reached - cut_step + 1),
        "restart_s": None if ended_before_unix_s is None else max(0.0, started_unix_s - ended_before_unix_s),
    }
