"""Branch: what a writer says of where it goes on from: resumed, rewound, or forked from another run.

A part of the identity. What follows for the run's rows is decided where they are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runfold.protocol.records import FieldTypes, MapPayload

#: The same run goes on; it goes on from an earlier step; another run begins at a step of this one.
RESUME, REWIND, FORK = "resume", "rewind", "fork"
KINDS = (RESUME, REWIND, FORK)
#: Who knew how far the run was: the server, or only the spools of the writer's machine.
SERVER, SPOOLS = "server", "spools"
#: A run that went on for longer, seconds, is a clock that was wrong.
MAX_RUNTIME_S = 1e9
#: Steps are counted with 64 bits; one above is still to fit.
_MAX_STEP = (1 << 62) - 1
#: The year 2116: what lies beyond is no time, and would come after everybody for ever.
_MAX_NS = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Branch(MapPayload):
    """Where a writer goes on from.

    Attributes:
        kind: One of KINDS; a reader takes another one for nothing said.
        run: Id of the run that it goes on from; its own, but for a fork.
        step: The last step before it, in the run's steps; -1 for none.
        after_unix_ns: When the newest writer began that it comes after, in that writer's clock; 0: not known.
        runtime_s: How long the run had gone on by then, seconds; None: not known.
        told_by: SERVER or SPOOLS; of a rewind and a fork the step is the user's word.
    """

    kind: str = ""
    run: str = ""
    step: int = -1
    after_unix_ns: int = 0
    runtime_s: float | None = None
    told_by: str = SERVER

    TYPES: ClassVar[FieldTypes] = {
        **dict.fromkeys(("kind", "run", "told_by"), str),
        **dict.fromkeys(("step", "after_unix_ns"), int),
        "runtime_s": (int, float),
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"kind", "run", "step"})

    @property
    def supersedes(self) -> bool:
        """Whether rows of earlier writers of the run above `step` count no more.

        A writer that could not ask may not know how far the run was: it supersedes nothing.
        """
        return self.kind == REWIND or (self.kind == RESUME and self.told_by == SERVER)

    @property
    def next_step(self) -> int:
        """The first step that is not the old branch's any more."""
        return min(max(self.step, -1), _MAX_STEP) + 1

    def begins_at(self, started_unix_ns: int) -> int:
        """Return the writer's place in time, whatever clocks say: after those that it goes on from."""
        return max(started_unix_ns, min(self.after_unix_ns, _MAX_NS) + 1 if self.after_unix_ns else 0)
