"""The state of a run over the writers of one attempt, and whose failure came first. Pure.

A launcher ends the ranks that are left when one has failed, and collectives give up on a lost peer: such
deaths are consequences. They are told as such, and never blamed while something else may be their cause.
A process that ended because somebody asked it to has not failed: it explains other deaths, and is not blamed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold_coordinator.states.vocabulary import (
    CONFIDENCES,
    FINISHED,
    KILLED,
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
    exit_code, ended_unix_ns, induced (rank, label, writer, reason of deaths that followed, at most
    MAX_INDUCED).
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
    by_id = {member.writer_id: member for member in members}
    induced = {writer_id: _reason_after(by_id[writer_id], cause) for writer_id, cause in causes.items()}
    decisive = _first(deciding, causes)
    # What ended the run may be the consequence of a failure that ends no run by itself.
    blamed = _first(members, causes) if decisive is None else causes.get(decisive.writer_id, decisive)
    failure = None if blamed is None or blamed.verdict.ending.stop else _failure(blamed, members, induced)
    unreachable = any(m.verdict.unreachable for m in deciding)
    if not deciding or any(member.verdict.state not in TERMINAL for member in deciding):
        preempting = any(member.verdict.state == PREEMPTING for member in deciding)
        return RunVerdict(
            PREEMPTING if preempting else RUNNING,
            _reason_so_far(blamed, deciding),
            unreachable,
            failure,
            None,
            induced=induced,
        )
    ended = max((member.verdict.ended_unix_ns or 0 for member in deciding), default=0) or None
    confidence = min((member.verdict.confidence for member in deciding), key=CONFIDENCES.index)
    if decisive is None:
        reason = deciding[0].verdict.reason if len(members) == 1 else "exit code 0"
        return RunVerdict(FINISHED, reason, unreachable, failure, ended, confidence, induced)
    if decisive.verdict.ending.is_whole_stop and len(members) > 1:
        return RunVerdict(
            decisive.verdict.state,
            decisive.verdict.ending.stop,
            unreachable,
            failure,
            ended,
            confidence,
            induced,
        )
    prefix = "" if len(members) == 1 else f"{decisive.who}: "
    reason = prefix + induced.get(decisive.writer_id, decisive.verdict.reason)
    return RunVerdict(decisive.verdict.state, reason, unreachable, failure, ended, confidence, induced)


def find_causes(members: Sequence[Member]) -> dict[str, Member]:
    """Return, by writer id, whose failure is behind each death that followed from another's."""
    failed = sorted((m for m in members if m.verdict.is_failure), key=lambda m: m.order)
    by_level = {blame: [m for m in failed if m.verdict.ending.blame == blame] for blame in Blame}
    found: dict[str, Member] = {}
    for member in failed:
        level = member.verdict.ending.blame
        if level != Blame.OWN:
            upto = max(level, Blame.PERHAPS_INDUCED)
            causes = (_cause_of(member, by_level[of]) for of in Blame if of <= upto)
            cause = next((cause for cause in causes if cause is not None), None)
            if cause is not None:
                found[member.writer_id] = cause
    return {writer_id: _root(cause, found) for writer_id, cause in found.items()}


def _cause_of(member: Member, others: Sequence[Member]) -> Member | None:
    """Return the earliest of these failures, all of one level and in order, that may be behind a death."""
    if member.verdict.ending.is_peer_loss:
        within_s, before_s = PEER_LOSS_WITHIN_S, PEER_LOSS_BEFORE_S
    else:
        within_s, before_s = INDUCED_WITHIN_S, SEEN_BEFORE_S
    level, of = member.verdict.ending.blame, others[0].verdict.ending.blame if others else Blame.OWN
    if of == level:
        # Nothing but time tells which was first, and what came at one time has a common cause.
        before_s = -REACTION_S
    elif of > level:
        # A launcher asks all that live to end: who is gone without that was most likely its reason.
        before_s = -SEEN_BEFORE_S
    at = bisect_left(others, member.signal_ns - int(within_s * 1e9), key=lambda other: other.ended_ns)
    # Not the death itself: of its own level only what came before its signal counts.
    if at == len(others) or others[at].ended_ns > member.signal_ns + before_s * 1e9:
        return None
    return others[at]


def _root(cause: Member, found: Mapping[str, Member]) -> Member:
    seen = {cause.writer_id}
    while (earlier := found.get(cause.writer_id)) is not None and earlier.writer_id not in seen:
        cause = earlier
        seen.add(cause.writer_id)
    return cause


def _first(members: Sequence[Member], causes: Mapping[str, Member]) -> Member | None:
    """Return the failure that came first of those that are nobody's consequence; if all are, of them."""
    failed = sorted((m for m in members if m.verdict.is_failure), key=lambda m: m.order)
    return next((m for m in failed if m.writer_id not in causes), failed[0] if failed else None)


def _reason_after(member: Member, cause: Member) -> str:
    word = cause.verdict.state
    if word == KILLED:
        word = "was stopped" if cause.verdict.ending.stop else "was killed"
    reason = member.verdict.reason.replace(", sender unknown", "")
    return f"{reason} after {cause.who} {word}"


def _reason_so_far(blamed: Member | None, deciding: Sequence[Member]) -> str:
    """Return what befell a run that goes on; else what goes on, where a process of it has a word for it."""
    if blamed is not None and not blamed.verdict.ending.stop:
        return f"{blamed.who} {blamed.verdict.state}: {blamed.verdict.reason}"
    going_on = [member for member in deciding if not member.verdict.is_terminal]
    waiting = [member for member in going_on if member.verdict.reason]
    if not waiting:
        return "" if blamed is None else f"{blamed.who}: {blamed.verdict.reason}"
    first = min(waiting, key=lambda m: m.order)
    is_of_all = all(member.verdict.reason == first.verdict.reason for member in going_on)
    return first.verdict.reason if is_of_all else f"{first.who}: {first.verdict.reason}"


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
            {"rank": m.rank, "label": m.label, "writer": m.writer_id, "reason": induced[m.writer_id]}
            for m in followers[:MAX_INDUCED]
        ],
    }
