"""A set of evidence about one writer, sorted by what it tells. Pure; equal for equal sets, in whatever order.

In: evidence as it came, duplicates and garbage included. Out: a Testimony. What is not of the shape that its
source should have says nothing; where two of a kind contradict each other, a fixed order picks one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold_coordinator.states.causes import SchedulerCause, is_peer_loss, scheduler_cause
from runfold_coordinator.states.wait_status import exit_code_of, signal_of

#: `how` of an EXIT record by which the script itself said that its part was over.
_EXPLICIT = frozenset({"finish", "context"})
#: Characters of a text in a reason.
_LINE_CHARS = 500
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, order=True)
class SaidExit:
    """The EXIT record."""

    seq: int
    t_ns: int
    code: int
    is_explicit: bool
    #: The exception in a line, "" when there was none.
    line: str
    is_peer_loss: bool


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal that came to a process, or was sent to it. `seq` is 0 where it is no record of its own."""

    t_ns: int
    seq: int
    signum: int
    sender_pid: int | None = None
    sender_uid: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """The process or its node is to be taken away. `grace_s` is None where nobody said."""

    t_ns: int
    grace_s: float | None
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Waited:
    """The wait status; `is_parents` when the parent got it."""

    t_ns: int
    status: int
    is_parents: bool

    @property
    def code(self) -> int | None:
        return exit_code_of(self.status)

    @property
    def signum(self) -> int | None:
        return signal_of(self.status)


@dataclass(frozen=True, slots=True, order=True)
class Scheduled:
    """A scheduler's word, as far as it names a cause."""

    cause: SchedulerCause
    t_ns: int
    state: str
    system: str


@dataclass(frozen=True, slots=True, order=True)
class Raised:
    """An exception in torchelastic's error file."""

    t_ns: int
    line: str
    is_peer_loss: bool


@dataclass(frozen=True, slots=True, order=True)
class Asked:
    """A stop request."""

    t_ns: int
    by: str
    #: The whole run was meant, not some of its ranks.
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Testimony:
    """What the evidence says. Tuples are in the order of time; times are of whoever saw it, unix ns."""

    exit: SaidExit | None = None
    signals: tuple[Signalled, ...] = ()
    notices: tuple[Notice, ...] = ()
    wait: Waited | None = None
    #: Seen to be gone, by an agent that knew no more.
    gone_ns: int | None = None
    reboot_ns: int | None = None
    #: The kernel named this process when it ended it for want of memory.
    oom_ns: int | None = None
    #: It ended some process of the same memory cgroup.
    oom_nearby_ns: int | None = None
    raised: Raised | None = None
    scheduled: Scheduled | None = None
    asked: Asked | None = None
    #: Signals by which stop requests were carried out.
    stop_signals: tuple[Signalled, ...] = ()
    launcher_signals: tuple[Signalled, ...] = ()

    @property
    def end_ns(self) -> int | None:
        """When the process ended, or its part of the run; None while nothing says that it did."""
        if self.exit is not None:
            return self.exit.t_ns
        if self.wait is not None:
            return self.wait.t_ns
        return next((t for t in (self.oom_ns, self.gone_ns, self.reboot_ns) if t is not None), None)


def gather_testimony(evidence: Iterable[Evidence]) -> Testimony:
    """Return what a set of evidence about one writer says."""
    by_source: dict[str, dict[str, Evidence]] = {}
    for one in evidence:
        same = by_source.setdefault(one.source, {})
        _writer, _source, ident = one.key
        known = same.get(ident)
        if known is None or _is_before(one, known):
            same[ident] = one

    def said(source: str) -> Iterable[Evidence]:
        return by_source.get(source, {}).values()

    ooms = [(one.t_ns, _text(one.facts, "scope") == "process") for one in said(e.OOM) if _has_killed(one)]
    refused = {_text(one.facts, "request") for one in said(e.STOP_REFUSED)}
    asked = (one for one in said(e.STOP) if _text(one.facts, "request") not in refused)
    waits = _parts(_wait(one) for one in said(e.WAIT))
    return Testimony(
        exit=max(_parts(map(_exit, said(e.EXIT))), default=None),
        signals=_parts(map(_signal, said(e.SIGNAL))),
        notices=_parts(_notice(one) for source in (e.PREEMPTING, e.NOTICE) for one in said(source)),
        # A parent's word before that of an onlooker, which may be of a namesake.
        wait=min(waits, key=lambda found: (not found.is_parents, found), default=None),
        gone_ns=min((one.t_ns for one in said(e.GONE)), default=None),
        reboot_ns=min((one.t_ns for one in said(e.REBOOT)), default=None),
        oom_ns=min((t_ns for t_ns, is_its_own in ooms if is_its_own), default=None),
        oom_nearby_ns=min((t_ns for t_ns, is_its_own in ooms if not is_its_own), default=None),
        raised=min(_parts(map(_raised, said(e.ELASTIC))), default=None),
        scheduled=min(_parts(map(_scheduled, said(e.SCHEDULER))), default=None),
        asked=min(_parts(map(_asked, asked)), default=None),
        stop_signals=_parts(map(_signal, said(e.STOP_SIGNAL))),
        launcher_signals=_parts(map(_launcher_signal, said(e.LAUNCHER))),
    )


def _is_before(one: Evidence, known: Evidence) -> bool:
    """Return whether this is what stands of two pieces of one key: the earlier, of equal times by facts."""
    if one.t_ns != known.t_ns:
        return one.t_ns < known.t_ns
    return one.facts != known.facts and repr(one.facts) < repr(known.facts)


def _parts(found: Iterable[_T | None]) -> tuple[_T, ...]:
    return tuple(sorted((part for part in found if part is not None), key=_by_fields))


def _by_fields(part: object) -> tuple[Any, ...]:
    """Return a key that sorts parts of one kind by their fields, where some may be None."""
    slots: tuple[str, ...] = type(part).__slots__  # type: ignore[attr-defined]  # all are slotted dataclasses
    values = (getattr(part, name) for name in slots)
    return tuple((value is not None, value if value is not None else 0) for value in values)


def _exit(one: Evidence) -> SaidExit | None:
    code = _int(one.facts, "code")
    if code is None:
        return None
    exception, traceback = _text(one.facts, "exception"), _text(one.facts, "traceback")
    line = exception_line(exception, traceback) if exception else ""
    return SaidExit(
        _seq(one),
        one.t_ns,
        code,
        _text(one.facts, "how") in _EXPLICIT,
        line,
        is_peer_loss(exception, traceback or line),
    )


def _signal(one: Evidence) -> Signalled | None:
    signum = _int(one.facts, "signum")
    if signum is None:
        return None
    sender_pid, sender_uid = _int(one.facts, "sender_pid"), _int(one.facts, "sender_uid")
    return Signalled(one.t_ns, _seq(one), signum, sender_pid, sender_uid)


def _launcher_signal(one: Evidence) -> Signalled | None:
    status = _int(one.facts, "status")
    if status is None or (signum := signal_of(status)) is None:
        return _signal(one)
    return Signalled(one.t_ns, 0, signum)


def _notice(one: Evidence) -> Notice:
    grace_s = one.facts.get("grace_s")
    is_number = isinstance(grace_s, int | float) and not isinstance(grace_s, bool) and 0 <= grace_s < 1e7
    said = _text(one.facts, "text") or _text(one.facts, "message")
    who = _text(one.facts, "system") or _text(one.facts, "source")
    text = ": ".join(part for part in (who, said) if part)
    return Notice(one.t_ns, float(grace_s) if is_number and grace_s is not None else None, text[:_LINE_CHARS])


def _wait(one: Evidence) -> Waited | None:
    status = _int(one.facts, "status")
    if status is None or not 0 <= status < 1 << 16:
        return None
    found = Waited(one.t_ns, status, _text(one.facts, "by") == "parent")
    return None if found.code is None and found.signum is None else found  # stopped or continued: no end


def _has_killed(one: Evidence) -> bool:
    kills = _int(one.facts, "kills")
    return kills is None or kills > 0


def _raised(one: Evidence) -> Raised | None:
    exception, traceback = _text(one.facts, "exception"), _text(one.facts, "traceback")
    message = _text(one.facts, "message").strip()
    line = exception_line(exception, traceback) if exception else ""
    if message and line in ("", exception):
        first = message.splitlines()[0]
        line = first if not exception or first.startswith(exception) else f"{exception}: {first}"
    if not line:
        return None
    return Raised(one.t_ns, line[:_LINE_CHARS], is_peer_loss(exception, traceback or message))


def _scheduled(one: Evidence) -> Scheduled | None:
    state = _text(one.facts, "state")
    cause = scheduler_cause(state)
    if cause is None:
        return None
    return Scheduled(cause, one.t_ns, state[:_LINE_CHARS], _text(one.facts, "system")[:_LINE_CHARS])


def _asked(one: Evidence) -> Asked:
    return Asked(one.t_ns, _text(one.facts, "by")[:_LINE_CHARS], one.facts.get("whole") is True)


def exception_line(name: str, traceback: str) -> str:
    """Return the traceback's last line that names the exception: it carries the message."""
    short = name.rpartition(".")[2]
    for line in reversed(traceback.splitlines()):
        if line and not line[0].isspace() and line.split(":")[0].rpartition(".")[2] == short:
            return line[:_LINE_CHARS]
    return name[:_LINE_CHARS]


def _seq(one: Evidence) -> int:
    prefix, _, number = one.ident.partition(":")
    return int(number) if prefix == "seq" and number.isdecimal() and len(number) < 20 else 0


def _int(facts: Mapping[str, Any], name: str) -> int | None:
    value = facts.get(name)
    is_number = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if is_number else None


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return value if isinstance(value, str) else ""
