"""How the steps of a run's attempts are numbered, and which rows a later attempt has taken back.

In: attempts, oldest first. Out: `Numbering`: offset and cut of each writer. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
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


@dataclass(slots=True)
class Numbering:
    """What `number` found, by attempt, the first being 0; `None` where there is no such step.

    Attributes:
        firsts: Where automatic steps begin.
        resumed: Where it went on by the server's word, or rewound the run.
        cuts: The run step from which all of it is superseded, by explicit steps and rewinds.
        rewinds: The same, by rewinds only.
        resumes: The lowest of `resumed` from this attempt on.
        begins: When it began; ascending.
        last_seats: By seat, the last attempt that has it.
    """

    firsts: list[int]
    resumed: list[int | None]
    cuts: list[int | None]
    rewinds: list[int | None]
    resumes: list[int | None]
    begins: list[int]
    last_seats: dict[SeatName, int]

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
        if seat is None:
            return self.rewinds[attempt]
        later = attempt + 1
        if self.last_seats.get(seat, attempt) <= attempt:
            later = max(later, bisect_left(self.begins, writer.last_record_unix_ns))
        return lowest_of(self.cuts[attempt], self.resumes[later])


def number(attempts: Sequence[Attempt]) -> Numbering:
    """Number the attempts' steps.

    Automatic steps go on after the last step before them that counts, and take nothing back. Explicit ones
    take back what earlier attempts have at or above the lowest of them, a rewind what lies after its step.
    Below a fork's first step there are its base's.
    """
    count = len(attempts)
    found = Numbering([], [], [None] * count, [None] * count, [None] * (count + 1), [], {})
    first = attempts[0].begun_by if attempts else None
    highest = -1 if first is None or first.fork is None else first.fork.next_step - 1
    given: list[int | None] = []
    rewound: list[int | None] = []
    for k, attempt in enumerate(attempts):
        resumed, back = _went_on(attempt)
        found.resumed.append(resumed)
        rewound.append(back)
        found.firsts.append(highest + 1 if resumed is None else resumed)
        found.begins.append(0 if attempt.begun_by is None else attempt.begun_by.begins_unix_ns)
        found.last_seats.update(dict.fromkeys(attempt.by_seat, k))
        lowest: int | None = None
        reached = -1
        for writer in attempt.writers:
            step = writer.given_step_min
            if step is not None and (lowest is None or step < lowest):
                lowest = step
            if writer.step_max is not None:
                reached = max(reached, writer.step_max + found.offset(writer, k))
        given.append(lowest)
        # What is still visible of the earlier ones lies below.
        taken_back = lowest_of(lowest, resumed)
        highest = max(highest if taken_back is None else min(highest, taken_back - 1), reached)
    for k in range(count - 1, -1, -1):
        found.resumes[k] = lowest_of(found.resumes[k + 1], found.resumed[k])
        if k:
            found.cuts[k - 1] = lowest_of(found.cuts[k], given[k], rewound[k])
            found.rewinds[k - 1] = lowest_of(found.rewinds[k], rewound[k])
    return found


def _went_on(attempt: Attempt) -> tuple[int | None, int | None]:
    """Return the first step of an attempt whose writers were told how far the run was or rewound it, and that
    of a rewind.
    """
    resumed = rewound = None
    for writer in (*attempt.writers, *attempt.unseated):
        branch = writer.branch
        if branch is None or writer.forked_from is not None or not branch.supersedes:
            continue
        resumed = lowest_of(resumed, branch.next_step)
        if branch.kind == REWIND:
            rewound = lowest_of(rewound, branch.next_step)
    return resumed, rewound


def lowest_of(*steps: int | None) -> int | None:
    """Return the lowest step that is one."""
    return min((step for step in steps if step is not None), default=None)
