"""How the steps of a run's attempts are numbered, and which rows a later attempt has taken back.

In: attempts, oldest first. Out: `Numbering`: offset and cut of each writer. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runfold.protocol.branching import REWIND
from runfold_coordinator.aggregate.writer_facts import SeatName, WriterFacts


@dataclass(slots=True)
class Attempt:
    """One generation of a run's processes.

    Attributes:
        writers: Those that hold a seat, and their children.
        unseated: The others.
        by_seat: Those that a restart takes the place of.
        hints: Highest restart hint by (job id, launcher).
        begun_by: The writer that began it.
    """

    begun_by: WriterFacts | None = None
    writers: list[WriterFacts] = field(default_factory=list)
    unseated: list[WriterFacts] = field(default_factory=list)
    by_seat: dict[SeatName, list[WriterFacts]] = field(default_factory=dict)
    hints: dict[tuple[str | None, str | None], int] = field(default_factory=dict)

    def add(self, writer: WriterFacts, seat: SeatName | None) -> None:
        """Take a writer."""
        if seat is None:
            self.unseated.append(writer)
            return
        self.writers.append(writer)
        if writer.forked_from is None:  # a child takes no rank, even if it outlives its parent
            self.by_seat.setdefault(seat, []).append(writer)
        counter = (writer.job_id, writer.launcher)
        self.hints[counter] = max(self.hints.get(counter, 0), writer.restart_hint or 0)

    @property
    def resumed_at(self) -> int | None:
        """The first step of the attempt, where its writers were told how far the run was, or rewound it."""
        firsts = [
            found.next_step
            for writer in (*self.writers, *self.unseated)
            if (found := writer.goes_on) is not None and found.supersedes
        ]
        return min(firsts, default=None)

    @property
    def rewound_at(self) -> int | None:
        """The first step that it took back, where it rewound the run."""
        firsts = [
            found.next_step
            for writer in (*self.writers, *self.unseated)
            if (found := writer.goes_on) is not None and found.kind == REWIND
        ]
        return min(firsts, default=None)

    @property
    def begins_unix_ns(self) -> int:
        """When its first writer began."""
        return min((w.begins_unix_ns for w in (*self.writers, *self.unseated)), default=0)


@dataclass(slots=True)
class Numbering:
    """What `number` found, by attempt, the first being 0.

    Attributes:
        firsts: Where automatic steps begin.
        cuts: The run step from which all of it is superseded, by explicit steps and rewinds.
        rewinds: The same, by rewinds only.
        resumed: Where it went on by the server's word; None where it did not.
    """

    attempts: Sequence[Attempt]
    firsts: list[int] = field(default_factory=list)
    cuts: list[int | None] = field(default_factory=list)
    rewinds: list[int | None] = field(default_factory=list)
    resumed: list[int | None] = field(default_factory=list)

    def offset(self, writer: WriterFacts, attempt: int) -> int:
        """Return what is to be added to a writer's steps; nothing where it says steps itself.

        Ranks that go on together may have asked at different moments: they begin at the lowest answer.
        """
        if writer.given_step_min is not None:
            return 0
        off = self.firsts[attempt] - writer.start_step
        return off if self.resumed[attempt] is not None and writer.goes_on is not None else max(0, off)

    def cut(self, writer: WriterFacts, seat: SeatName | None, attempt: int) -> int | None:
        """Return the run step from which a writer's rows are superseded; None: none are.

        A resumed run takes back what those before it say from its first step on, if they were replaced or
        said nothing more: a rank that lives on beside one that was started again goes on counting.
        """
        found = [self.rewinds[attempt] if seat is None else self.cuts[attempt]]
        for later in range(attempt + 1, len(self.attempts)) if seat is not None else ():
            first, begins = self.resumed[later], self.attempts[later].begins_unix_ns
            if first is not None and (
                writer.last_record_unix_ns <= begins
                or any(seat in other.by_seat for other in self.attempts[later:])
            ):
                found.append(first)
        return min((step for step in found if step is not None), default=None)


def number(attempts: Sequence[Attempt]) -> Numbering:
    """Number the attempts' steps.

    Automatic steps go on after the last step before them that counts, and take nothing back. Explicit ones
    take back what earlier attempts have at or above the lowest of them, a rewind what lies after its step.
    Below a fork's first step there are its base's.
    """
    found = Numbering(attempts, cuts=[None] * len(attempts), rewinds=[None] * len(attempts))
    first = attempts[0].begun_by if attempts else None
    highest = -1 if first is None or first.fork is None else first.fork.next_step - 1
    for k, attempt in enumerate(attempts):
        resumed, rewound = attempt.resumed_at, attempt.rewound_at
        found.resumed.append(resumed)
        found.firsts.append(highest + 1 if resumed is None else resumed)
        given = [w.given_step_min for w in attempt.writers if w.given_step_min is not None]
        tops = [w.step_max + found.offset(w, k) for w in attempt.writers if w.step_max is not None]
        lowest = min(given, default=None)
        for earlier in range(k):
            found.cuts[earlier] = lowest_of(found.cuts[earlier], lowest, rewound)
            found.rewinds[earlier] = lowest_of(found.rewinds[earlier], rewound)
        # What is still visible of the earlier ones lies below.
        taken_back = lowest_of(lowest, resumed)
        if taken_back is not None:
            highest = min(highest, taken_back - 1)
        highest = max([highest, *tops])
    return found


def lowest_of(*steps: int | None) -> int | None:
    """Return the lowest step that is one."""
    return min((step for step in steps if step is not None), default=None)
