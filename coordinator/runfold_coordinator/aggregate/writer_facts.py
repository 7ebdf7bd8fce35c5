"""What attempts are made from: the facts of one writer of a run."""

from __future__ import annotations

from dataclasses import dataclass

from runfold.protocol.branching import FORK, RESUME, REWIND, Branch

#: A rank, or the label and the job of a writer without one.
SeatName = int | tuple[str, str]


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
        branch: Where it goes on from, when it was resumed, rewound or forked.
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
    branch: Branch | None = None

    @property
    def begins_unix_ns(self) -> int:
        """Its place in time among the run's writers."""
        return self.started_unix_ns if self.branch is None else self.branch.begins_at(self.started_unix_ns)

    @property
    def fork(self) -> Branch | None:
        """The moment of another run that the run begins with, by its word."""
        return None if self.branch is None or self.branch.kind != FORK else self.branch

    @property
    def goes_on(self) -> Branch | None:
        """Where it goes on from in this run; None for a fork, which begins one, and for a child."""
        if self.branch is None or self.branch.kind not in (RESUME, REWIND) or self.forked_from is not None:
            return None
        return self.branch
