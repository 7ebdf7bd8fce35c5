"""One writer under watch: its progress, its timings, how it is named and judged among the others. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.liveness import Sign
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.verdicts.catalogue import Known
from runfold_coordinator.verdicts.progress import Progress
from runfold_coordinator.verdicts.stall import Member
from runfold_coordinator.verdicts.timings import Timings


@dataclass(slots=True)
class WriterWatch:
    """One writer. `last_seq`: stored so far; `is_flagged`: taken to hang, until a row comes or it ends."""

    writer_id: str
    writer_pk: int
    progress: Progress
    last_seq: int = 0
    has_ended: bool = False
    is_flagged: bool = False
    #: As the row of the catalogue says it.
    told_flag: bool = False
    #: When the heartbeat came that was looked at last.
    beat_s: float = 0.0
    timings: Timings | None = None
    placement: Placement = field(default_factory=lambda: Placement(1))
    known: Known | None = None
    state: str = "running"
    reason: str = ""
    unreachable: bool = False
    #: What its process's stack said: class, place for people, tool, text.
    stack: tuple[str, str, str, str] | None = None

    @property
    def rank(self) -> int | None:
        """The launcher's rank; None where unknown."""
        return None if self.known is None else self.known.rank

    @property
    def step(self) -> int | None:
        """The run's number of its last step."""
        step = self.progress.step
        return None if step is None else step + self.placement.step_offset

    def who(self) -> dict[str, Any]:
        """Return how findings name it."""
        return who_is(self.writer_id, self.known)


def who_is(writer_id: str, known: Known | None) -> dict[str, Any]:
    """Return how findings name a writer."""
    return {
        "rank": None if known is None else known.rank,
        "label": None if known is None else known.facts.label,
        "writer": writer_id,
        "host": None if known is None else known.host,
    }


def member_of(writer: WriterWatch, sign: Sign | None) -> Member:
    """Return it as the judgement of a stall sees it."""
    about, known = writer.stack, writer.known
    beat = None if sign is None else sign.beat
    is_live = not writer.has_ended and writer.state not in TERMINAL
    return Member(
        writer=writer.writer_id,
        rank=writer.rank,
        label=None if known is None else known.facts.label,
        host=None if known is None else known.host,
        step=writer.step,
        progress_s=None if writer.progress.step is None else writer.progress.progress_s,
        step_s=writer.progress.step_s,
        state=writer.state,
        reason=writer.reason,
        is_live=is_live,
        is_stalled=writer.is_flagged and is_live,
        is_unreachable=writer.unreachable,
        is_stopped=beat is not None and beat.is_stopped,
        phase=None if beat is None else beat.phase,
        phase_s=None if beat is None else beat.phase_s,
        is_collective=beat is not None and beat.is_collective,
        stack=None if about is None else about[0],
        stack_place="" if about is None else about[1],
    )
