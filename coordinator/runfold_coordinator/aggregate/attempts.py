"""The set of a run's writers -> which attempt each belongs to, how its steps are numbered and which are
superseded.

A pure function of the set, whatever its order. Attempts count from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


@dataclass(slots=True)
class _Attempt:
    writers: list[WriterFacts] = field(default_factory=list)
    by_rank: dict[int, list[WriterFacts]] = field(default_factory=dict)
    #: Highest restart hint by (job id, launcher).
    hints: dict[tuple[str | None, str | None], int] = field(default_factory=dict)

    def add(self, writer: WriterFacts) -> None:
        self.writers.append(writer)
        if writer.forked_from is None:  # a child takes no rank, even if it outlives its parent
            self.by_rank.setdefault(_rank(writer), []).append(writer)
        counter = (writer.job_id, writer.launcher)
        self.hints[counter] = max(self.hints.get(counter, 0), writer.restart_hint or 0)


def place_writers(writers: Collection[WriterFacts], *, is_shared: bool) -> dict[int, Placement]:
    """Return each writer's placement by `writer_pk`.

    A new attempt begins, in order of start, at a writer whose rank the current attempt already has (unless
    that writer lives on beside it), or whose restart hint is higher than the current attempt's, of the same
    job. A child begins none: it belongs to its parent's, else to that of its time. A writer without a rank
    counts as rank 0, except in a shared run: there it joins the attempt of its time, is never cut and begins
    none.
    """
    in_order = sorted(writers, key=lambda w: (w.started_unix_ns, w.writer_id))
    attempts: list[_Attempt] = []
    attempt_of: dict[int, int] = {}
    pk_of = {writer.writer_id: writer.writer_pk for writer in in_order}
    for writer in in_order:
        parent = None if writer.forked_from is None else attempt_of.get(pk_of.get(writer.forked_from, -1))
        if parent is not None:
            attempt_of[writer.writer_pk] = parent
            if _is_ranked(writer, is_shared):
                attempts = attempts or [_Attempt()]  # of a parent without a rank
                attempts[parent - 1].add(writer)
            continue
        if _is_ranked(writer, is_shared) and (not attempts or _begins_attempt(writer, attempts[-1])):
            attempts.append(_Attempt())
        attempt_of[writer.writer_pk] = max(len(attempts), 1)
        if _is_ranked(writer, is_shared):
            attempts[-1].add(writer)
    offsets, cuts = _number(attempts)
    placements = {}
    for writer in in_order:
        attempt = attempt_of[writer.writer_pk]
        if _is_ranked(writer, is_shared):
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
    lanes: dict[tuple[int, int, str, int, str], list[WriterFacts]] = {}
    taken: dict[tuple[int, int], int] = {}
    for writer in sorted(
        writers,
        key=lambda w: (
            placements[w.writer_pk].attempt,
            w.forked_from is not None,
            w.started_unix_ns,
            w.writer_id,
        ),
    ):
        if not _is_ranked(writer, is_shared):
            lanes[1, 0, writer.label or "", writer.started_unix_ns, writer.writer_id] = [writer]
            continue
        seat = (placements[writer.writer_pk].attempt, _rank(writer))
        sibling = taken[seat] = taken.get(seat, -1) + 1
        lanes.setdefault((0, _rank(writer), "", sibling, ""), []).append(writer)
    return [lanes[place] for place in sorted(lanes)]


def _is_ranked(writer: WriterFacts, is_shared: bool) -> bool:
    return writer.rank is not None or not is_shared


def _rank(writer: WriterFacts) -> int:
    return writer.rank or 0


def _begins_attempt(writer: WriterFacts, current: _Attempt) -> bool:
    if writer.forked_from is not None:  # its parent has not been heard of
        return False
    namesakes = current.by_rank.get(_rank(writer))
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
