"""The generations of a job's processes: when each began, how far it came, what the next one took back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runfold_coordinator.readers.run_lanes import RunLanes, Seat, facts_of, load_lanes, top_step
from runfold_coordinator.states import FINISHED, TERMINAL, RunVerdict, run_state
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.stored_verdicts import member_of


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

        Each: attempt, started_unix_s, ended_unix_s (newest word of its writers, or when their end was seen),
        writers, states (how many are in each), state and reason (of the attempt as a whole; the reason why it
        ended), first_failure (as a run's; None without), failures (writers that ended otherwise than
        finished), first_step and last_step (None without rows), cut_step (from here on a later attempt took
        over; None while none did), lost_steps, restart_s (from the end of the attempt before; None for the
        first), branch (kind and step where it resumed or rewound the run; None where it did not).
        """
        described: list[dict[str, Any]] = []
        for attempt, seats in attempts_of(load_lanes(self._store, run)).items():
            before = described[-1]["ended_unix_s"] if described else None
            described.append(_describe(attempt, seats, before))
        return described


def attempts_of(lanes: RunLanes) -> dict[int, list[Seat]]:
    """Return the writers of each attempt, first attempt to last."""
    by_attempt: dict[int, list[Seat]] = {}
    for seat in lanes.seats:
        by_attempt.setdefault(seat.placement.attempt, []).append(seat)
    return dict(sorted(by_attempt.items()))


def failed_in(seats: Sequence[Seat]) -> dict[str, Any] | None:
    """Return the first primary failure of an attempt's writers, as their rows tell."""
    return _verdict_of(seats).first_failure


def lost_steps_of(seats: Sequence[Seat]) -> int:
    """Return how many steps of an attempt a later one has superseded."""
    cut_step = _cut_step(seats)
    reached = max((seat.top_step for seat in seats if seat.top_step is not None), default=None)
    return 0 if cut_step is None or reached is None else max(0, reached - cut_step + 1)


def _cut_step(seats: Sequence[Seat]) -> int | None:
    return min(
        (seat.placement.cut_step for seat in seats if seat.placement.cut_step is not None), default=None
    )


def _verdict_of(seats: Sequence[Seat]) -> RunVerdict:
    return run_state([member_of(seat.writer) for seat in seats])


def _branch_of(seats: Sequence[Seat]) -> dict[str, Any] | None:
    """Return where an attempt went on from, by the word of its first writer that says so."""
    for seat in sorted(seats, key=lambda seat: seat.writer.started_unix_ns):
        branch = facts_of(seat.writer).goes_on
        if branch is not None:
            return {"kind": branch.kind, "step": branch.next_step - 1}
    return None


def _describe(attempt: int, seats: Sequence[Seat], ended_before_unix_s: float | None) -> dict[str, Any]:
    writers = [seat.writer for seat in seats]
    started_unix_s = min(writer.started_unix_ns for writer in writers) / 1e9
    firsts = [
        w.step_min + s.placement.step_offset
        for w, s in zip(writers, seats, strict=True)
        if w.step_min is not None
    ]
    reached = max((seat.top_step for seat in seats if seat.top_step is not None), default=None)
    states: dict[str, int] = {}
    for writer in writers:
        states[writer.state] = states.get(writer.state, 0) + 1
    verdict = _verdict_of(seats)
    ended_unix_ns = max(
        max(writer.last_record_unix_ns, (writer.ended_unix_ns or 0) if writer.state in TERMINAL else 0)
        for writer in writers
    )
    return {
        "attempt": attempt,
        "started_unix_s": started_unix_s,
        "ended_unix_s": ended_unix_ns / 1e9,
        "writers": len(writers),
        "states": states,
        "state": verdict.state,
        "reason": verdict.reason,
        "first_failure": verdict.first_failure,
        "failures": sum(count for state, count in states.items() if state in TERMINAL - {FINISHED}),
        "first_step": min(firsts, default=None),
        "last_step": reached if reached is None else max(top_step(seats), min(firsts, default=0) - 1),
        "cut_step": _cut_step(seats),
        "lost_steps": lost_steps_of(seats),
        "branch": _branch_of(seats),
        "restart_s": None if ended_before_unix_s is None else max(0.0, started_unix_s - ended_before_unix_s),
    }
