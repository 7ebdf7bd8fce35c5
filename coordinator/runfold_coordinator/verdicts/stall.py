"""For whom the ranks of a run wait that goes on no more. Pure.

In: what is known of each writer of the newest attempt. Out: those that the others wait for, and why. A rank
that waits inside of a collective is never the culprit while another rank is known to be elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Ranks that wait for each other log their last rows within so many steps, and within so many seconds more:
#: rows are on their way for some time.
SLACK_STEPS = 2.0
SLACK_S = 5.0
#: What a stack says of where its process is.
WAITS, ELSEWHERE, UNSURE = "waits", "elsewhere", "unsure"


@dataclass(frozen=True, slots=True)
class Member:
    """One writer of the newest attempt as it stands.

    Attributes:
        step: The run's number of its last step; None: it logged none.
        progress_s: When its last row came, on a clock that all have in common; None: unknown.
        step_s: What a row of it takes.
        is_live: Its process may still go on.
        is_stalled: It lives, was heard of, and makes no progress.
        is_stopped: It lives and does not run.
        is_unreachable: Its node was not heard of.
        phase, phase_s, is_collective: The timer that it is in, for how long, and whether it waits there.
        stack: What its stack says: WAITS, ELSEWHERE, UNSURE; None: there is none.
        stack_place: Where the stack is, for people.
    """

    writer: str
    rank: int | None = None
    label: str | None = None
    host: str | None = None
    step: int | None = None
    progress_s: float | None = None
    step_s: float | None = None
    state: str = "running"
    reason: str = ""
    is_live: bool = True
    is_stalled: bool = False
    is_stopped: bool = False
    is_unreachable: bool = False
    phase: str | None = None
    phase_s: float | None = None
    is_collective: bool = False
    stack: str | None = None
    stack_place: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is known to wait for others."""
        return (self.phase is not None and self.is_collective) or self.stack == WAITS

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is known not to wait for others."""
        return (self.phase is not None and not self.is_collective) or self.stack == ELSEWHERE


@dataclass(frozen=True, slots=True)
class Waited:
    """One writer that the others wait for. `kind`: stopped, gone, unreachable, phase, step, stack, alone."""

    member: Member
    kind: str
    why: str

    def to_map(self) -> dict[str, Any]:
        """Return what readers see."""
        who = self.member
        return {
            "rank": who.rank,
            "label": who.label,
            "writer": who.writer,
            "host": who.host,
            "kind": self.kind,
            "why": self.why,
        }


def waited_for(members: Sequence[Member]) -> list[Waited]:
    """Return those that the stalled members wait for; [] when none stands out."""
    live = [member for member in members if member.is_live]
    stalled = [member for member in live if member.is_stalled]
    if not stalled:
        return []
    stopped = [Waited(m, "stopped", "stopped (SIGSTOP, or a debugger)") for m in live if m.is_stopped]
    if stopped:
        return stopped
    gone = [_gone(m) for m in members if not m.is_live and _left_others(m, stalled)]
    lost = [
        Waited(m, "unreachable", "its node is not heard of")
        for m in live
        if m.is_unreachable and _held_up(m, stalled)
    ]
    if gone or lost:
        return gone + lost
    return _of_the_living([m for m in live if not m.is_unreachable], stalled)


def _of_the_living(live: Sequence[Member], stalled: Sequence[Member]) -> list[Waited]:
    if len(stalled) == 1 and (len(live) == 1 or not stalled[0].waits):
        return [_explained(stalled[0], "alone")]
    known = [member for member in live if member.step is not None]
    top = max((member.step for member in known if member.step is not None), default=None)
    behind = _lowest([member for member in stalled if member.step is not None])
    if top is not None and behind and behind[0].step != top and not all(m.waits for m in behind):
        return [_explained(member, "step", top) for member in behind if not member.waits]
    if any(member.waits for member in stalled):
        elsewhere = (
            [m for m in live if m.is_elsewhere]
            or [m for m in stalled if not m.waits]
            or [m for m in live if not m.waits and not _went_on(m, stalled)]
        )
        return [_explained(m, "stack" if m.stack == ELSEWHERE else "phase") for m in elsewhere]
    by_stack = [member for member in stalled if member.stack == ELSEWHERE]
    if by_stack and len(by_stack) < len(stalled):
        return [_explained(member, "stack") for member in by_stack]
    if top is not None and behind and behind[0].step != top:
        return [_explained(member, "step", top) for member in behind]
    return []


def _lowest(members: Sequence[Member]) -> list[Member]:
    lowest = min((member.step for member in members if member.step is not None), default=None)
    return [member for member in members if member.step == lowest]


def _left_others(gone: Member, stalled: Sequence[Member]) -> bool:
    """Return whether the others may wait for one that ended: failed, or finished before they did."""
    if gone.state != "finished":
        return _held_up(gone, stalled)
    waiting = [member for member in stalled if member.waits]
    return bool(waiting) and all(m.step is None or gone.step is None or gone.step <= m.step for m in waiting)


def _held_up(lost: Member, stalled: Sequence[Member]) -> bool:
    """Return whether the stalled ones may wait for one that is there no more.

    Known to wait for others, they do. Otherwise what tells is that they came no further than it: what they
    are in does not, as the wait for a gradient is in the user's own "backward". Workers that don't depend on
    each other go on after one of them died.
    """
    if any(member.waits for member in stalled):
        return True
    if lost.progress_s is None:
        return not all(member.is_elsewhere for member in stalled)
    return not any(_is_later(member, lost.progress_s) for member in stalled)


def _went_on(member: Member, stalled: Sequence[Member]) -> bool:
    """Return whether rows of it came after those of the stalled ones had ended."""
    last_s = max((m.progress_s for m in stalled if m.progress_s is not None), default=None)
    return last_s is not None and _is_later(member, last_s)


def _is_later(member: Member, than_s: float) -> bool:
    """Return whether it came further than ranks that wait for each other can."""
    slack_s = SLACK_S + SLACK_STEPS * (member.step_s or 0.0)
    return member.progress_s is not None and member.progress_s - than_s > slack_s


def _gone(member: Member) -> Waited:
    at = "" if member.step is None else f" after step {member.step}"
    reason = f": {member.reason}" if member.reason else ""
    return Waited(member, "gone", f"{member.state}{at}{reason}")


def _explained(member: Member, kind: str, top: int | None = None) -> Waited:
    words = []
    if kind == "step" and top is not None:
        words.append(f"at step {member.step}, others at {top}")
    if member.phase is not None:
        words.append(f"in {member.phase} for {member.phase_s or 0:.0f} s")
    if member.stack_place:
        words.append(f"at {member.stack_place}")
    if not words and kind == "phase":
        words.append("in no timer, while others wait in a collective")
    return Waited(member, kind, "; ".join(words) or "no row of it comes")
