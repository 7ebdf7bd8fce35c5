"""The set of a run's writers -> which attempt each belongs to, how its steps are numbered and which are
superseded.

A pure function of the set, whatever its order. Attempts count from 1. How far one attempt takes back another
is `supersede.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from runfold.protocol.branching import REWIND
from runfold_coordinator.aggregate.supersede import Attempt, number
from runfold_coordinator.aggregate.writer_facts import SeatName, WriterFacts

__all__ = ["Placement", "WriterFacts", "lanes_of", "place_writers"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one writer stands in its run.

    Attributes:
        attempt: 1 for the first.
        step_offset: To be added to each of the writer's steps.
        cut_step: Rows at or above this run step are superseded by a later attempt; None for none.
        rewound_step: The part of `cut_step` that is due to rewinds: what was said after is taken back too.
    """

    attempt: int
    step_offset: int = 0
    cut_step: int | None = None
    rewound_step: int | None = None


def place_writers(writers: Collection[WriterFacts], *, is_shared: bool) -> dict[int, Placement]:
    """Return each writer's placement by `writer_pk`.

    A new attempt begins, in order of start, at a writer whose rank the current attempt already has (unless
    that writer lives on beside it), or whose restart hint is higher than the current attempt's, of the same
    job. A child begins none: it belongs to its parent's, else to that of its time. A writer without a rank
    counts as rank 0, except in a shared run: there it joins the attempt of its time, is never cut and begins
    none. In a shared run without any rank the label in the launcher's job (Ray actors) stands for the rank,
    but begins an attempt only where its predecessor failed and nobody else went on.
    """
    in_order = sorted(writers, key=lambda w: (w.begins_unix_ns, w.writer_id))
    seat_of = _seats(writers, is_shared)
    attempts: list[Attempt] = []
    attempt_of: dict[int, int] = {}
    pk_of = {writer.writer_id: writer.writer_pk for writer in in_order}
    for writer in in_order:
        parent = None if writer.forked_from is None else attempt_of.get(pk_of.get(writer.forked_from, -1))
        seat = seat_of(writer)
        if parent is None and (not attempts or _begins_attempt(writer, seat, attempts[-1])):
            attempts.append(Attempt(writer))
        attempt = parent or len(attempts)
        attempt_of[writer.writer_pk] = attempt
        attempts[attempt - 1].add(writer, seat)
    numbering = number(attempts)
    placements = {}
    for writer in in_order:
        attempt, seat = attempt_of[writer.writer_pk], seat_of(writer)
        at = attempt - 1
        cut, rewound = numbering.cut(writer, seat, at), numbering.rewinds[at]
        offset = 0 if seat is None else numbering.offset(writer, at)
        placements[writer.writer_pk] = Placement(attempt, offset, cut, rewound)
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
    taken: dict[tuple[int, SeatName], int] = {}
    for writer in sorted(
        writers,
        key=lambda w: (
            placements[w.writer_pk].attempt,
            w.forked_from is not None,
            w.begins_unix_ns,
            w.writer_id,
        ),
    ):
        seat = seat_of(writer)
        if seat is None:
            lanes[1, 0, writer.label or "", writer.begins_unix_ns, writer.writer_id] = [writer]
            continue
        in_attempt = (placements[writer.writer_pk].attempt, seat)
        sibling = taken[in_attempt] = taken.get(in_attempt, -1) + 1
        place = (0, seat, "", sibling, "") if isinstance(seat, int) else (1, 0, seat[0], sibling, seat[1])
        lanes.setdefault(place, []).append(writer)
    return [lanes[place] for place in sorted(lanes)]


def _seats(writers: Collection[WriterFacts], is_shared: bool) -> Callable[[WriterFacts], SeatName | None]:
    """Return what tells a writer's seat; None for one that has none."""
    has_ranks = any(writer.rank is not None for writer in writers)

    def seat_of(writer: WriterFacts) -> SeatName | None:
        if writer.rank is not None or not is_shared:
            return writer.rank or 0
        if has_ranks or writer.label is None or writer.job_id is None:
            return None
        return writer.label, writer.job_id

    return seat_of


def _begins_attempt(writer: WriterFacts, seat: SeatName | None, current: Attempt) -> bool:
    if writer.forked_from is not None:  # its parent has not been heard of
        return False
    branch = writer.goes_on
    if branch is not None and (seat is not None or branch.kind == REWIND):
        begun = None if current.begun_by is None else current.begun_by.goes_on
        is_another = begun is None or begun.kind != branch.kind
        if is_another or (branch.kind == REWIND and begun is not None and begun.step != branch.step):
            return True
        return seat in current.by_seat if seat is not None else _are_over(current, writer)
    if seat is None or not current.writers:
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


def _are_over(current: Attempt, writer: WriterFacts) -> bool:
    """True when nobody of the attempt spoke after the writer began."""
    return all(
        other.last_record_unix_ns <= writer.begins_unix_ns for other in (*current.writers, *current.unseated)
    )


def _lived_on(earlier: WriterFacts, later: WriterFacts) -> bool:
    """True when the earlier writer spoke after the later one began: it is no predecessor."""
    is_one_clock = earlier.machine is not None and earlier.machine == later.machine
    return is_one_clock and earlier.last_record_unix_ns > later.started_unix_ns
