"""When which signal is due to end a process that was asked to stop. Pure.

In: requests, the time, who lives. Out: steps, each due once.

    its launcher would start it again (torchrun), and the whole run is to end:
        grace <= 30 s   launcher SIGTERM, which passes it on; process SIGTERM at half the grace if it was not
                        reached by then, SIGKILL at the end of the grace
        longer          process SIGTERM, SIGKILL at the end of the grace; launcher SIGTERM when its processes
                        are gone: 30 s after its own SIGTERM it would kill them, whatever grace was asked
    else                process SIGTERM, SIGKILL at the end of the grace
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runfold.protocol.streams import StopRequest

from .process_signals import Process

#: torchrun gives its processes this long after its own SIGTERM (--shutdown-timeout), seconds.
LAUNCHER_GRACE_S = 30.0
#: A launcher that lives so long after the last grace and its own is stuck, seconds.
LAUNCHER_PATIENCE_S = LAUNCHER_GRACE_S + 5.0
#: A launcher that ended leaves its processes this long to end too, seconds.
ORPHAN_S = 1.0


class Step(Enum):
    """What can be done to end a process; the value is what is kept of it on disk."""

    LAUNCHER_TERM = "launcher_term"
    TERM = "term"
    KILL = "kill"


@dataclass(slots=True)
class Stop:
    """One writer's process on its way to its end. Times are monotonic seconds of this boot."""

    request: StopRequest
    process: Process
    #: None: nobody would start it again, or only this process is meant.
    launcher: Process | None
    began_s: float
    deadline_s: float
    #: What its spool held when it was asked; what it says of signals comes after.
    head_seq: int = 0
    done: set[Step] = field(default_factory=set)
    #: since when its launcher was seen to be gone.
    orphaned_s: float | None = None

    def take(self, request: StopRequest, launcher: Process | None, now_s: float) -> None:
        """Somebody asked again: what is stricter counts."""
        self.deadline_s = min(self.deadline_s, now_s + request.grace_s)
        self.launcher = self.launcher or launcher
        self.request = request

    @property
    def is_launcher_first(self) -> bool:
        """Whether the launcher is to pass the signal on."""
        return self.launcher is not None and self.deadline_s - self.began_s <= LAUNCHER_GRACE_S

    def due(self, now_s: float, *, launcher_lives: bool) -> list[Step]:
        """Return the steps that are due and not done, in order."""
        steps = []
        is_over = now_s >= self.deadline_s
        if self.launcher is not None and launcher_lives and (self.is_launcher_first or is_over):
            steps.append(Step.LAUNCHER_TERM)
        if is_over:
            steps.append(Step.KILL)
        elif self._is_term_due(now_s, launcher_lives=launcher_lives):
            steps.append(Step.TERM)
        return [step for step in steps if step not in self.done]

    def _is_term_due(self, now_s: float, *, launcher_lives: bool) -> bool:
        if not self.is_launcher_first:
            return True
        if launcher_lives:
            return now_s >= (self.began_s + self.deadline_s) / 2
        if self.orphaned_s is None:
            self.orphaned_s = now_s
        return Step.LAUNCHER_TERM not in self.done or now_s - self.orphaned_s >= ORPHAN_S

    def to_map(self) -> dict[str, Any]:
        """Return what the next agent needs to go on."""
        return {
            **self.request.to_map(),
            "process": list(self.process),
            "launcher": None if self.launcher is None else list(self.launcher),
            "began_s": self.began_s,
            "deadline_s": self.deadline_s,
            "head_seq": self.head_seq,
            "done": sorted(step.value for step in self.done),
        }

    @classmethod
    def from_map(cls, found: dict[str, Any]) -> Stop:
        """Return what to_map() gave. Raises ValueError, KeyError, TypeError, ProtocolError."""
        return cls(
            StopRequest.from_map(found),
            Process(*found["process"]),
            None if found["launcher"] is None else Process(*found["launcher"]),
            float(found["began_s"]),
            float(found["deadline_s"]),
            int(found["head_seq"]),
            {Step(step) for step in found["done"]},
        )
