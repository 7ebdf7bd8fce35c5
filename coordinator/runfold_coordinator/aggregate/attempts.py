"""The set of a run's writers -> which attempt each belongs to, how its steps are numbered and which are
superseded.

A pure function of the set, whatever its order. Attempts count from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """What is needed of a writer. Steps are its own numbering; None where it has no such row.

    Attributes:
        given_step_min: Lowest step of a call that said `step=`.
        step_max: Highest step of any of its rows.
        start_step: Where its automatic steps began (a resumed run goes on counting).
        launcher: Who counts restarts, where each launcher counts its own (torchelastic agents); None where
            the hint counts for the whole job (Slurm).
        machine: One boot of one host, whose clock its writers share; None where unknown.
        last_record_unix_ns: Newest time that the writer said.
        forked_from: Id of the writer whose process handed the run on to this one, by fork or pickle.
        is_finished: It ended in its own time, so that nobody starts it again.
    """

    writer_pk: int
    writer_id: str
    rank: int | None
    started_unix_ns: int
    primary: bool | None = None
    label: str | None = None
    job_id: str | None = None
    restart_hint: int | None = None
    launcher: str | None = None
    machine: str | None = None
    last_record_unix_ns: int = 0
    start_step: int = 0
    forked_from: str | None = None
    is_finished: bool = False
    given_step_min: int | None = None
    step_max: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one writer stands in its run.

    Attributes:
        attempt: 1 for the first.
        step_offset: To be added to each of the writer's steps.
        cut_step: Rows at or above this run step are superseded by a later attempt; None for none.
    """

    attempt: int
    step_offset: int = 0
    cut_step: int | None = None


#: A rank, or the label and the job of a writer without one.
_SeatName = int | tuple[str, str]


@dataclass(slots=True)
class _Attempt:
    writers: list[WriterFacts] = field(default_factory=list)
    #: Those that hold a seat, which a restart takes over.
    by_seat: dict[_SeatName, list[WriterFacts]] = field(default_factory=dict)
    #: Highest restart hint by (job id, launcher).
    hints: dict[tuple[str | None, str | None], int] = field(default_factory=dict)

    def add(self, writer: WriterFacts, seat: _SeatName) -> None:
        self.writers.append(writer)
        if writer.forked_from is None:  # a child takes no rank, even if it outlives its parent
            self.by_seat.setdefault(seat, []).append(writer)
        counter = (writer.job_id, writer.launcher)
        self.hints[counter] = max(self.hints.get(counter, 0), writer.restart_hint or 0)


def place_writers(writers: Collection[WriterFacts], *, is_shared: bool) -> dict[int, Placement]:
    """Return each writer's placement by `writer_pk`.

    A new attempt begins, in order of start, at a writer whose rank the current attempt already has (unless
    that writer lives on beside it), or whose restart hint is higher than the current attempt's, of the same
    job. A child begins none: it belongs to its parent's, else to that of its time. A writer without a rank
    counts as rank 0, except in a shared run: there it joins the attempt of its time, is never cut and begins
    none. In a shared run without any rank the label in the launcher's job (Ray actors) stands for the rank,
    but begins an attempt only where its predecessor failed and nobody else went on.
    """
    in_order = sorted(writers, key=lambda w: (w.started_unix_ns, w.writer_id))
    seat_of = _seats(writers, is_shared)
    attempts: list[_Attempt] = []
    attempt_of: dict[int, int] = {}
    pk_of = {writer.writer_id: writer.writer_pk for writer in in_order}
    for writer in in_order:
        parent = None if writer.forked_from is None else attempt_of.get(pk_of.get(writer.forked_from, -1))
        seat = seat_of(writer)
        if parent is not None:
            attempt_of[writer.writer_pk] = parent
            if seat is not None:
                attempts = attempts or [_Attempt()]  # of a parent without a rank
                attempts[parent - 1].add(writer, seat)
            continue
        if seat is not None and (not attempts or _begins_attempt(writer, seat, attempts[-1])):
            attempts.append(_Attempt())
        attempt_of[writer.writer_pk] = max(len(attempts), 1)
        if seat is not None:
            attempts[-1].add(writer, seat)
    offsets, cuts = _number(attempts)
    placements = {}
    for writer in in_order:
        attempt = attempt_of[writer.writer_pk]
        if seat_of(writer) is not None:
            offset = (
                0 if writer.given_step_min is not None else max(0, offsets[attempt - 1] - writer.start_step)
            )
            placements[writer.writer_pk] = Placement(attempt, offset, cuts[attempt - 1])
        else:
            placements[writer.writer_pk] = Placement(attempt)
    return placements


def lanes_of(
    writers: Collection[WriterFacts], placements: Mapping[int, Placement], *, is_shared: bool
) -> list[list[WriterFacts]]:
    """Return the run's lanes in rank order: one list of writers per rank, over its attempts, oldest attempt
    first.

    Within a lane the later attempt wins a step. A forked sibling and an unranked writer have lanes of their
    own; unranked lanes come last, by label and start.
    """
    seat_of = _seats(writers, is_shared)
    lanes: dict[tuple[int, int, str, int, str], list[WriterFacts]] = {}
    taken: dict[tuple[int, _SeatName], int] = {}
    for writer in sorted(
        writers,
        key=lambda w: (
            placements[w.writer_pk].attempt,
            w.forked_from is not None,
            w.started_unix_ns,
            w.writer_id,
        ),
    ):
        seat = seat_of(writer)
        if seat is None:
            lanes[1, 0, writer.label or "", writer.started_unix_ns, writer.writer_id] = [writer]
            continue
        in_attempt = (placements[writer.writer_pk].attempt, seat)
        sibling = taken[in_attempt] = taken.get(in_attempt, -1) + 1
        place = (0, seat, "", sibling, "") if isinstance(seat, int) else (1, 0, seat[0], sibling, seat[1])
        lanes.setdefault(place, []).append(writer)
    return [lanes[place] for place in sorted(lanes)]


def _seats(writers: Collection[WriterFacts], is_shared: bool) -> Callable[[WriterFacts], _SeatName | None]:
    """Return what tells a writer's seat; None for one that has none."""
    has_ranks = any(writer.rank is not None for writer in writers)

    def seat_of(writer: WriterFacts) -> _SeatName | None:
        if writer.rank is not None or not is_shared:
            return writer.rank or 0
        if has_ranks or writer.label is None or writer.job_id is None:
            return None
        return writer.label, writer.job_id

    return seat_of


def _begins_attempt(writer: WriterFacts, seat: _SeatName, current: _Attempt) -> bool:
    if writer.forked_from is not None:  # its parent has not been heard of
        return False
    namesakes = current.by_seat.get(seat)
    if not isinstance(seat, int):
        # Labels are given by hand: two that speak by turns may be two, on whatever machines.
        if namesakes is None or any(other.is_finished for other in namesakes):
            return False
        return all(other.last_record_unix_ns <= writer.started_unix_ns for other in current.writers)
    if namesakes:
        return not any(_lived_on(other, writer) for other in namesakes)
    if writer.restart_hint is None:
        return False
    # a torchelastic agent's count is compared with its own only: agents of one attempt disagree about it
    hint = current.hints.get((writer.job_id, writer.launcher))
    return hint is not None and writer.restart_hint > hint


def _lived_on(earlier: WriterFacts, later: WriterFacts) -> bool:
    """True when the earlier writer spoke after the later one began: it is no predecessor."""
    is_one_clock = earlier.machine is not None and earlier.machine == later.machine
    return is_one_clock and earlier.last_record_unix_ns > later.started_unix_ns


def _number(attempts: Sequence[_Attempt]) -> tuple[list[int], list[int | None]]:
    """Return for each attempt where its automatic steps begin, and the run step from which it is
    superseded.
    """
    offsets: list[int] = []
    cuts: list[int | None] = [None] * len(attempts)
    highest = -1
    for k, attempt in enumerate(attempts):
        offsets.append(highest + 1)
        lowest_given: int | None = None
        reached: int | None = None
        for writer in attempt.writers:
            if writer.step_max is None:
                continue
            if writer.given_step_min is None:
                top = writer.step_max + max(0, offsets[k] - writer.start_step)
            else:
                top = writer.step_max
                given = writer.given_step_min
                lowest_given = given if lowest_given is None else min(lowest_given, given)
            reached = top if reached is None else max(reached, top)
        if lowest_given is not None:
            for earlier in range(k):
                cut = cuts[earlier]
                cuts[earlier] = lowest_given if cut is None else min(cut, lowest_given)
            highest = min(highest, lowest_given - 1)  # what is still visible of the earlier ones lies below
        if reached is not None:
            highest = max(highest, reached)
    return offsets, cuts
