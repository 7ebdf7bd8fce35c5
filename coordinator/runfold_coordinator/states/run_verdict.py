"""The state of a run over the writers of one attempt, and whose failure came first. Pure.

A launcher ends the ranks that are left when one has failed, and collectives give up on a lost peer: such
deaths are consequences. They are told as such, and never blamed while something else may be their cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_coordinator.states.vocabulary import (
    CONFIDENCES,
    FINISHED,
    PREEMPTING,
    RUNNING,
    TERMINAL,
    Blame,
    Verdict,
)
from runfold_coordinator.states.wait_status import signal_name

#: A launcher's answer to a failure is over after this long: torchelastic waits 30 s between SIGTERM and
#: SIGKILL, and up to 30 s may pass before a rank that has raised is gone.
INDUCED_WITHIN_S = 60.0
#: A collective gives up on a lost peer no later than its own timeout: NCCL's is 10 min, Gloo's 30 min.
PEER_LOSS_WITHIN_S = 2400.0
#: A lost peer's sockets close, and the others raise, before its own death is seen: the kernel frees its GPUs
#: and its memory first.
PEER_LOSS_BEFORE_S = 30.0
#: A consequence may be told so much before its cause, which is seen by another observer.
SEEN_BEFORE_S = 2.0
#: A launcher needs so long to see a death and to answer: signals closer to it have a common sender.
REACTION_S = 0.02
#: Consequences that are listed beside the first failure.
MAX_INDUCED = 100


@dataclass(frozen=True, slots=True)
class Member:
    """One writer as its run sees it."""

    verdict: Verdict
    #: Whether the end of this writer may end the run (x_update_finish_state).
    decides: bool = True
    rank: int | None = None
    label: str | None = None
    host: str | None = None
    writer_id: str = ""
    traceback: str | None = None
    #: To be added to its times, ns: its node's clock differs from the others'.
    clock_offset_ns: int = 0

    @property
    def who(self) -> str:
        """Its name in a reason."""
        return f"rank {self.rank}" if self.rank is not None else f"writer {self.label or self.writer_id[:8]}"

    @property
    def ended_ns(self) -> int:
        ended = self.verdict.ended_unix_ns
        return 2**63 if ended is None else ended + self.clock_offset_ns

    @property
    def signal_ns(self) -> int:
        """When the signal came that led to its end; when it ended where that is not known."""
        came = self.verdict.ending.signal_unix_ns
        return min(came + self.clock_offset_ns, self.ended_ns) if came else self.ended_ns

    @property
    def order(self) -> tuple[int, int, str]:
        return (self.ended_ns, self.rank if self.rank is not None else 2**31, self.writer_id)


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """A run's state, and the failure that came first.

    `first_failure`: rank, label, host, writer, state, reason, confidence, traceback, signal (name),
    exit_code, ended_unix_ns, induced (rank, label, reason of the deaths that followed, at most MAX_INDUCED).
    """

    state: str
    reason: str
    unreachable: bool
    first_failure: dict[str, Any] | None
    ended_unix_ns: int | None
    confidence: str = ""
    #: By writer id: the reason of a death that was a consequence.
    induced: Mapping[str, str] = field(default_factory=dict)


def run_state(members: Sequence[Member]) -> RunVerdict:
    """Return the state over the writers of the newest attempt."""
    deciding = [member for member in members if member.decides] or list(members)
    causes = find_causes(members)
    induced = {m.writer_id: _reason_after(m, cause) for m, cause in causes}
    blamed = _blamed(deciding, causes) or _blamed(members, causes)
    failure = None if blamed is None else _failure(blamed, members, induced)
    unreachable = any(m.verdict.unreachable for m in deciding)
    if not deciding or any(member.verdict.state not in TERMINAL for member in deciding):
        preempting = any(member.verdict.state == PREEMPTING for member in deciding)
        reason = "" if blamed is None else f"{blamed.who} {blamed.verdict.state}: {blamed.verdict.reason}"
        return RunVerdict(
            PREEMPTING if preempting else RUNNING,
            reason or _common_reason(deciding),
            unreachable,
            failure,
            None,
            induced=induced,
        )
    ended = max((member.verdict.ended_unix_ns or 0 for member in deciding), default=0) or None
    confidence = min((member.verdict.confidence for member in deciding), key=CONFIDENCES.index)
    decisive = _blamed(deciding, causes)
    if decisive is None:
        reason = deciding[0].verdict.reason if len(members) == 1 else "exit code 0"
        return RunVerdict(FINISHED, reason, unreachable, failure, ended, confidence, induced)
    prefix = "" if len(members) == 1 else f"{decisive.who}: "
    reason = prefix + decisive.verdict.reason
    return RunVerdict(decisive.verdict.state, reason, unreachable, failure, ended, confidence, induced)


def find_causes(members: Sequence[Member]) -> list[tuple[Member, Member]]:
    """Return (member, cause) for each death that followed from another member's."""
    failed = sorted((m for m in members if m.verdict.is_failure), key=lambda m: m.order)
    # Each can only be the consequence of one that is blamed sooner: the first that fits is enough, and of one
    # level only the first few can be the earliest.
    by_blame = sorted(failed, key=lambda m: (m.verdict.ending.blame, m.order))
    found = []
    for member in failed:
        if member.verdict.ending.blame == Blame.OWN:
            continue
        cause = next((other for other in by_blame if _follows(member, other)), None)
        if cause is not None:
            found.append((member, cause))
    roots = {id(member): cause for member, cause in found}
    return [(member, _root(cause, roots)) for member, cause in found]


def _follows(member: Member, cause: Member) -> bool:
    """Return whether a member's death may be the consequence of the other's."""
    if member is cause:
        return False
    level, of_cause = member.verdict.ending.blame, cause.verdict.ending.blame
    if of_cause > level:
        return False
    if member.verdict.ending.is_peer_loss:
        within_s, before_s = PEER_LOSS_WITHIN_S, PEER_LOSS_BEFORE_S
    else:
        within_s, before_s = INDUCED_WITHIN_S, SEEN_BEFORE_S
    if of_cause == level:
        # Nothing but time tells which was first, and what came at one time has a common cause.
        before_s = -REACTION_S
    after_ns = member.signal_ns - cause.ended_ns
    return -before_s * 1e9 <= after_ns <= within_s * 1e9


def _root(cause: Member, roots: Mapping[int, Member]) -> Member:
    seen = {id(cause)}
    while (earlier := roots.get(id(cause))) is not None and id(earlier) not in seen:
        cause = earlier
        seen.add(id(cause))
    return cause


def _blamed(members: Sequence[Member], causes: Sequence[tuple[Member, Member]]) -> Member | None:
    """Return the failure that came first of those that are nobody's consequence."""
    consequences = {id(member) for member, _ in causes}
    failed = [m for m in members if m.verdict.is_failure]
    return min((m for m in failed if id(m) not in consequences), key=lambda m: m.order, default=None) or min(
        failed, key=lambda m: m.order, default=None
    )


def _reason_after(member: Member, cause: Member) -> str:
    word = "failed" if cause.verdict.state == "failed" else cause.verdict.state
    return f"{member.verdict.reason} after {cause.who} {word if word != 'killed' else 'was killed'}"


def _common_reason(deciding: Sequence[Member]) -> str:
    """Return what goes on, where one of them has a word for it."""
    waiting = [member for member in deciding if member.verdict.reason and not member.verdict.is_terminal]
    if not waiting:
        return ""
    first = min(waiting, key=lambda m: m.order)
    return first.verdict.reason if len(deciding) == 1 else f"{first.who}: {first.verdict.reason}"


def _failure(member: Member, members: Sequence[Member], induced: Mapping[str, str]) -> dict[str, Any]:
    verdict = member.verdict
    signum = verdict.ending.signum
    followers = sorted((m for m in members if m.writer_id in induced), key=lambda m: m.order)
    return {
        "rank": member.rank,
        "label": member.label,
        "host": member.host,
        "writer": member.writer_id,
        "state": verdict.state,
        "reason": verdict.reason,
        "confidence": verdict.confidence,
        "traceback": member.traceback,
        "signal": None if signum is None else signal_name(signum),
        "exit_code": verdict.ending.exit_code,
        "ended_unix_ns": verdict.ended_unix_ns,
        "induced": [
            {"rank": m.rank, "label": m.label, "reason": induced[m.writer_id]}
            for m in followers[:MAX_INDUCED]
        ],
    }
