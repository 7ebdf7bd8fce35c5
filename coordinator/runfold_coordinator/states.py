"""The state of writers and runs: pure functions of the set of evidence, whatever the order it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RUNNING = "running"
FINISHED = "finished"
FAILED = "failed"
KILLED = "killed"
CRASHED = "crashed"
PREEMPTING = "preempting"
PREEMPTED = "preempted"
TERMINAL = frozenset({FINISHED, FAILED, KILLED, CRASHED, PREEMPTED})

#: Someone who wants a process to end sends one of these.
_STOP_SIGNALS = frozenset({1, 2, 3, 9, 10, 12, 15})
#: A process that still speaks so long after a signal, seconds, has survived it: something else was its end.
#: Long enough for a checkpoint to be written first.
SURVIVED_S = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When silence means something."""

    unreachable_s: float = 15.0
    lost_s: float = 300.0
    #: How long records of a dead process may still be on the way before its state is told without them.
    late_records_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one writer's process. `exit` and `signal` are their records' payloads (+ "t_ns")."""

    exit: Mapping[str, Any] | None = None
    signal: Mapping[str, Any] | None = None
    preempting: bool = False
    #: The agent's word: True alive, False gone, None unknown.
    alive: bool | None = None
    #: Seconds since anything was heard of the writer, by the coordinator's monotonic clock.
    silent_s: float = 0.0
    #: Seconds since the last of its records was stored; matters only while some are on the way.
    stalled_s: float = 0.0
    #: Whether every record that the agent has seen is stored.
    is_caught_up: bool = True
    last_seen_unix_ns: int = 0
    #: Newest time in its records, by its own clock.
    last_record_unix_ns: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state; `reason` is never empty on a terminal one."""

    state: str
    reason: str = ""
    unreachable: bool = False
    ended_unix_ns: int | None = None


def writer_state(evidence: Evidence, limits: Limits) -> Verdict:
    """Return the state of one writer."""
    if evidence.exit is not None:
        return _said_exit(evidence.exit, evidence)
    if evidence.alive is False:
        if not evidence.is_caught_up and evidence.stalled_s < limits.late_records_s:
            return Verdict(RUNNING, "the process is gone; its last records are on the way")
        return _vanished(evidence)
    if evidence.silent_s >= limits.lost_s:
        return Verdict(
            CRASHED,
            f"lost contact: nothing heard for {int(limits.lost_s)} s",
            unreachable=True,
            ended_unix_ns=evidence.last_seen_unix_ns,
        )
    state = PREEMPTING if evidence.preempting else RUNNING
    return Verdict(state, unreachable=evidence.silent_s >= limits.unreachable_s)


def _said_exit(said: Mapping[str, Any], evidence: Evidence) -> Verdict:
    code = said.get("code")
    ended = said.get("t_ns") or evidence.last_seen_unix_ns
    if code == 0:
        return Verdict(FINISHED, "exit code 0", ended_unix_ns=ended)
    signal = _last_signal(evidence)
    if signal is not None and signal.get("signum") in _STOP_SIGNALS:
        if evidence.preempting:
            return Verdict(PREEMPTED, f"preempted with {_signal_name(signal)}", ended_unix_ns=ended)
        return Verdict(KILLED, f"killed by {_signal_name(signal)}", ended_unix_ns=ended)
    exception = said.get("exception")
    if exception:
        return Verdict(FAILED, _exception_line(str(exception), said.get("traceback")), ended_unix_ns=ended)
    return Verdict(FAILED, f"exit code {code}", ended_unix_ns=ended)


def _vanished(evidence: Evidence) -> Verdict:
    ended = evidence.last_seen_unix_ns
    if evidence.preempting:
        return Verdict(PREEMPTED, "preempted: the process is gone after its notice", ended_unix_ns=ended)
    signal = _last_signal(evidence)
    if signal is not None:
        name = _signal_name(signal)
        if signal.get("signum") in _STOP_SIGNALS:
            return Verdict(KILLED, f"killed by {name}", ended_unix_ns=signal.get("t_ns") or ended)
        return Verdict(CRASHED, f"crashed with {name}", ended_unix_ns=signal.get("t_ns") or ended)
    return Verdict(CRASHED, "the process vanished without an exit record", ended_unix_ns=ended)


def _last_signal(evidence: Evidence) -> Mapping[str, Any] | None:
    """Return the signal that may have ended the process; None where it went on for long after it."""
    signal = evidence.signal
    if signal is None or evidence.last_record_unix_ns - (signal.get("t_ns") or 0) <= SURVIVED_S * 1e9:
        return signal
    return None if signal.get("t_ns") else signal


def _signal_name(signal: Mapping[str, Any]) -> str:
    return str(signal.get("name") or f"signal {signal.get('signum')}")


def _exception_line(name: str, traceback: object) -> str:
    """Return the traceback's last line when it names the exception: it carries the message."""
    if isinstance(traceback, str):
        lines = [line for line in traceback.splitlines() if line and not line[0].isspace()]
        if lines and lines[-1].split(":")[0].rpartition(".")[2] == name.rpartition(".")[2]:
            return lines[-1][:500]
    return name


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


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """A run's state, and the failure that came first (rank, label, host, state, reason, traceback)."""

    state: str
    reason: str
    unreachable: bool
    first_failure: dict[str, Any] | None
    ended_unix_ns: int | None


def run_state(members: Sequence[Member]) -> RunVerdict:
    """Return the state over the writers of the newest attempt."""
    deciding = [member for member in members if member.decides] or list(members)
    failed = [member for member in members if member.verdict.state in TERMINAL - {FINISHED}]
    first = min(failed, key=_when, default=None)
    failure = None if first is None else _failure(first)
    unreachable = any(m.verdict.unreachable for m in deciding)
    if not deciding or any(member.verdict.state not in TERMINAL for member in deciding):
        preempting = any(member.verdict.state == PREEMPTING for member in deciding)
        reason = "" if first is None else f"{_who(first)} {first.verdict.state}: {first.verdict.reason}"
        return RunVerdict(PREEMPTING if preempting else RUNNING, reason, unreachable, failure, None)
    ended = max((member.verdict.ended_unix_ns or 0 for member in deciding), default=0) or None
    decisive = min(
        (member for member in deciding if member.verdict.state != FINISHED), key=_when, default=None
    )
    if decisive is None:
        return RunVerdict(FINISHED, "exit code 0", unreachable, failure, ended)
    prefix = "" if len(members) == 1 else f"{_who(decisive)}: "
    reason = prefix + decisive.verdict.reason
    return RunVerdict(decisive.verdict.state, reason, unreachable, failure, ended)


def _when(member: Member) -> tuple[int, int, str]:
    rank = member.rank if member.rank is not None else 2**31
    return (member.verdict.ended_unix_ns or 2**63, rank, member.writer_id)


def _who(member: Member) -> str:
    if member.rank is not None:
        return f"rank {member.rank}"
    return f"writer {member.label or member.writer_id[:8]}"


def _failure(member: Member) -> dict[str, Any]:
    return {
        "rank": member.rank,
        "label": member.label,
        "host": member.host,
        "writer": member.writer_id,
        "state": member.verdict.state,
        "reason": member.verdict.reason,
        "traceback": member.traceback,
        "ended_unix_ns": member.verdict.ended_unix_ns,
    }
