"""The state of one writer: a pure function of the set of its evidence, of its life and of limits.

docs/states.md holds the truth table. The kernel tells how a process ended; its own words, its launcher's and
its scheduler's tell why; silence is believed last, and taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runfold.protocol.evidence import Evidence
from runfold_coordinator.states.causes import SchedulerCause
from runfold_coordinator.states.testimony import Notice, Signalled, Testimony, gather_testimony
from runfold_coordinator.states.vocabulary import (
    CERTAIN,
    CRASHED,
    FAILED,
    FINISHED,
    INFERRED,
    KILLED,
    PREEMPTED,
    PREEMPTING,
    RUNNING,
    SAID,
    Blame,
    Ending,
    Life,
    Limits,
    Verdict,
)
from runfold_coordinator.states.wait_status import (
    ABRT,
    FAULTS,
    HUP,
    INT,
    KILL,
    TERM,
    dumped_core,
    signal_name,
)

#: A process that still speaks so long after a signal or a notice, seconds, has survived it: something else
#: was its end. Long enough for a checkpoint to be written first.
SURVIVED_S = 600.0
#: What is seen by two observers of one machine may be told in the wrong order by so much, seconds.
ORDER_SLACK_S = 1.0
#: A notice that names its grace may be late in coming true, and be found late, by so much, seconds.
NOTICE_SLACK_S = 60.0
#: Signals by which launchers end the ranks that are left; of faults, the one by which NCCL's watchdog ends a
#: process whose peer is lost.
_LAUNCHERS_SIGNALS = frozenset({HUP, INT, KILL, TERM, ABRT})
#: Signals for which an exit code of 128 and the signal's number is the custom.
_CUSTOMARY = frozenset({HUP, INT, ABRT, KILL, 11, TERM})


def writer_state(evidence: Iterable[Evidence], life: Life, limits: Limits) -> Verdict:
    """Return the state of the writer that this evidence is about."""
    return verdict_on(gather_testimony(evidence), life, limits)


def verdict_on(testimony: Testimony, life: Life, limits: Limits) -> Verdict:
    """Return the state that a testimony makes; see `writer_state`."""
    is_gone = testimony.end_ns is not None or life.alive is False
    if is_gone:
        waits_for = None if testimony.exit is not None else _is_awaited(testimony, life, limits)
        return Verdict(RUNNING, waits_for) if waits_for else _Judgement(testimony, life).verdict()
    if life.silent_s >= limits.lost_s:
        found = _Judgement(testimony, life, silent_s=limits.lost_s).verdict()
        return replace(found, unreachable=True, confidence=INFERRED)
    unreachable = life.silent_s >= limits.unreachable_s
    notice = _last_notice(testimony.notices, life.last_record_unix_ns)
    if notice is not None:
        return Verdict(PREEMPTING, f"it will be taken away ({notice.text or 'notice'})", unreachable)
    asked = testimony.asked
    return Verdict(RUNNING, "" if asked is None else f"asked to stop{_by(asked.by)}", unreachable)


def _is_awaited(testimony: Testimony, life: Life, limits: Limits) -> str | None:
    """Return what may still come and would tell more; None when nothing does."""
    is_certain = testimony.wait is not None or testimony.oom_ns is not None
    is_coming = life.stalled_s < limits.late_records_s
    if (
        not life.is_caught_up
        and is_coming
        and (not is_certain or life.gone_s < limits.certain_late_records_s)
    ):
        return "the process is gone; its last records are on the way"
    if life.gone_s < limits.status_wait_s:
        if not is_certain and testimony.gone_ns is None and testimony.reboot_ns is None:
            return "the process is gone; how it ended is not known yet"
        if testimony.wait is not None and testimony.wait.code is not None and life.alive is not False:
            return "the process has exited; its last words are on the way"
    return None


def _last_notice(notices: Sequence[Notice], upto_ns: int) -> Notice | None:
    """Return the newest notice, of these in order, that the process has not outlived at this time."""
    for notice in reversed(notices):
        grace_s = SURVIVED_S if notice.grace_s is None else notice.grace_s + NOTICE_SLACK_S
        if upto_ns <= notice.t_ns + grace_s * 1e9:
            return notice
    return None


def _by(who: str) -> str:
    return f" by {who}" if who else ""


@dataclass(frozen=True, slots=True)
class _How:
    """How a process ended, before anybody asks why. All empty: nobody knows."""

    exit_code: int | None = None
    signum: int | None = None
    #: The exception in a line.
    line: str = ""
    is_peer_loss: bool = False
    #: The script itself said that its part was over.
    is_explicit: bool = False
    core: str = ""

    @property
    def text(self) -> str:
        if self.line:
            return self.line
        if self.signum is not None:
            word = "crashed with" if self.signum in FAULTS else "killed by"
            return f"{word} {signal_name(self.signum)}{self.core}"
        if self.exit_code is None:
            return "the process is gone"
        # Shells, and handlers that keep to their custom, tell so of a signal: a hint, no proof.
        signum = self.exit_code - 128
        hint = f" (128 + {signal_name(signum)})" if signum in _CUSTOMARY else ""
        return f"exit code {self.exit_code}{hint}"


class _Judgement:
    """One writer that has ended, or was silent for so long that it counts as such."""

    def __init__(self, testimony: Testimony, life: Life, *, silent_s: float | None = None) -> None:
        self._t = testimony
        self._life = life
        self._silent_s = silent_s
        self._ended_ns = testimony.end_ns if testimony.end_ns is not None else life.last_seen_unix_ns
        #: The signal that came before the end and was not survived.
        self._signal = self._signal_before_the_end()
        self._how = self._find_how()

    def verdict(self) -> Verdict:
        how = self._how
        if how.exit_code == 0:
            return self._stopped() or self._clean()
        if (stopped := self._stopped()) is not None:
            return stopped
        if how.signum in FAULTS:
            blame = Blame.PERHAPS_INDUCED if how.signum in _LAUNCHERS_SIGNALS else Blame.OWN
            return self._say(CRASHED, how.text, SAID, blame)
        is_gone = how.exit_code is None and not how.line
        if (is_gone or self._signal is not None) and (cause := self._cause()) is not None:
            return cause
        if how.signum is not None or self._signal is not None:
            return self._killed()
        return self._vanished() if is_gone else self._failed()

    def _find_how(self) -> _How:
        said, wait, raised = self._t.exit, self._t.wait, self._t.raised
        if said is not None and (
            said.is_explicit or wait is None or wait.signum is not None or wait.code == said.code
        ):
            # Its part was over with its own word; what came after befell a process that had nothing to do.
            return _How(said.code, None, said.line, said.is_peer_loss, said.is_explicit)
        if wait is not None and wait.code is not None:
            if wait.code == 0:
                return _How(0)
            line = said.line if said is not None else "" if raised is None else raised.line
            lost = said.is_peer_loss if said is not None else raised is not None and raised.is_peer_loss
            return _How(wait.code, None, line, lost)
        if wait is not None:
            return _How(signum=wait.signum, core=" (core dumped)" if dumped_core(wait.status) else "")
        if self._t.oom_ns is not None:
            return _How(signum=KILL)
        if self._signal is not None:
            return _How(signum=self._signal.signum)
        return _How() if raised is None else _How(line=raised.line, is_peer_loss=raised.is_peer_loss)

    def _signal_before_the_end(self) -> Signalled | None:
        said = self._t.exit
        upto_ns = max(self._life.last_record_unix_ns, self._ended_ns if self._t.end_ns is not None else 0)
        for signal in reversed(self._t.signals):
            is_after = said is not None and 0 < said.seq < signal.seq
            if not is_after:
                return signal if upto_ns - signal.t_ns <= SURVIVED_S * 1e9 else None
        return None

    # --- the causes, strongest first ---------------------------------------------------------------------

    def _clean(self) -> Verdict:
        wait = self._t.wait
        if not self._how.is_explicit and (preempted := self._preempted()) is not None:
            return preempted
        then = ""
        if not self._how.is_explicit and wait is not None and wait.signum is not None:
            then = f"; then {signal_name(wait.signum)} while it shut down"
        return self._say(FINISHED, f"exit code 0{then}", SAID)

    def _stopped(self) -> Verdict | None:
        asked, by_ns = self._t.asked, self._ended_ns + int(ORDER_SLACK_S * 1e9)
        is_carried_out = any(sent.t_ns <= by_ns for sent in self._t.stop_signals)
        signums = {self._how.signum, None if self._signal is None else self._signal.signum}
        if not is_carried_out:
            # The request is timed by the server's clock, or another agent's.
            late_ns = int(NOTICE_SLACK_S * 1e9)
            if asked is None or asked.t_ns > self._ended_ns + late_ns or not signums & {TERM, KILL}:
                return None
        stop = "stopped" + (_by("" if asked is None else asked.by) or " on request")
        found = self._say(KILLED, f"{stop}: {self._how.text}", SAID)
        is_whole = asked is not None and asked.is_whole
        return replace(found, ending=replace(found.ending, stop=stop, is_whole_stop=is_whole))

    def _cause(self) -> Verdict | None:
        how, scheduled = self._how, self._t.scheduled
        cause = None if scheduled is None else scheduled.cause
        by = "" if scheduled is None else f" ({scheduled.system or 'scheduler'}: {scheduled.state})"
        is_killed = how.signum == KILL or (how.signum is None and how.exit_code is None)
        if is_killed and (self._t.oom_ns is not None or self._t.oom_nearby_ns is not None):
            sure = SAID if self._t.oom_ns is not None or how.signum is not None else INFERRED
            return self._say(CRASHED, "out of memory: the kernel killed it (host RAM)", sure)
        if cause is SchedulerCause.OUT_OF_MEMORY:
            return self._say(CRASHED, f"out of memory (host RAM){by}", SAID)
        if cause is SchedulerCause.TIME_LIMIT:
            return self._say(KILLED, f"time limit{by}: {how.text}", SAID)
        if cause is SchedulerCause.CANCELLED:
            return self._say(KILLED, f"cancelled{by}: {how.text}", SAID)
        if (preempted := self._preempted()) is not None:
            return preempted
        if cause is SchedulerCause.NODE_FAIL:
            return self._say(CRASHED, f"the node failed{by}: {how.text}", SAID)
        return None

    def _preempted(self) -> Verdict | None:
        scheduled = self._t.scheduled
        if scheduled is not None and scheduled.cause is SchedulerCause.PREEMPTED:
            why = f"{scheduled.system or 'scheduler'}: {scheduled.state}"
        elif (notice := self._notice()) is not None:
            why = notice.text or "it was told before"
        else:
            return None
        return self._say(PREEMPTED, f"preempted ({why}): {self._how.text}", SAID)

    def _notice(self) -> Notice | None:
        upto_ns = self._ended_ns + int(NOTICE_SLACK_S * 1e9)
        return _last_notice([one for one in self._t.notices if one.t_ns <= upto_ns], self._ended_ns)

    def _killed(self) -> Verdict:
        signal = self._signal
        signum = (
            self._how.signum if self._how.signum is not None else None if signal is None else signal.signum
        )
        assert signum is not None, "one of the two has a signal"
        sender = signal if signal is not None and signal.signum == signum else None
        passed_on = self._launchers_signal(signum)
        blame = Blame.PERHAPS_INDUCED if signum in _LAUNCHERS_SIGNALS else Blame.OWN
        if signum == KILL and signal is None:
            blame = Blame.SUDDEN
        if passed_on is not None:
            whence, blame = f", which its launcher got{_from(passed_on)}", Blame.OWN
        elif sender is not None and sender.sender_pid is not None:
            is_launcher = sender.sender_pid == self._life.launcher_pid
            whence = " from its launcher" if is_launcher else _from(sender)
            blame = Blame.INDUCED if is_launcher else blame
        else:
            whence = ", sender unknown" if signum == KILL else ""
        after = f" ({self._how.line})" if self._how.line else ""
        return self._say(
            KILLED, f"killed by {signal_name(signum)}{self._how.core}{whence}{after}", SAID, blame
        )

    def _launchers_signal(self, signum: int) -> Signalled | None:
        came_ns = self._ended_ns if self._signal is None else min(self._signal.t_ns, self._ended_ns)
        for sent in reversed(self._t.launcher_signals):
            if signum not in (sent.signum, KILL):
                continue
            if -SURVIVED_S * 1e9 <= sent.t_ns - came_ns <= ORDER_SLACK_S * 1e9:
                return sent
        return None

    def _failed(self) -> Verdict:
        how = self._how
        if not how.line and not how.is_explicit and (preempted := self._preempted()) is not None:
            return preempted
        nearby = "" if self._t.oom_nearby_ns is None else "; the kernel killed one of its cgroup for memory"
        return self._say(FAILED, how.text + nearby, SAID, Blame.INDUCED if how.is_peer_loss else Blame.OWN)

    def _vanished(self) -> Verdict:
        if self._silent_s is not None:
            return self._say(CRASHED, f"lost contact: nothing heard for {int(self._silent_s)} s", INFERRED)
        if self._t.reboot_ns is not None:
            return self._say(CRASHED, "the node was rebooted", INFERRED)
        why = "the process vanished without an exit record"
        return self._say(CRASHED, why, INFERRED, Blame.SUDDEN)

    def _say(self, state: str, reason: str, confidence: str, blame: Blame = Blame.OWN) -> Verdict:
        how, signal = self._how, self._signal
        is_certain = self._t.wait is not None or self._t.oom_ns is not None
        signum = how.signum if how.signum is not None else None if signal is None else signal.signum
        came_ns = 0 if signal is None or how.exit_code == 0 else signal.t_ns
        return Verdict(
            state,
            reason,
            ended_unix_ns=self._ended_ns,
            confidence=CERTAIN if is_certain else confidence,
            ending=Ending(
                None if how.exit_code == 0 else signum, how.exit_code, blame, came_ns, how.is_peer_loss
            ),
        )


def _from(signal: Signalled) -> str:
    if signal.sender_pid is None:
        return ""
    uid = "" if signal.sender_uid is None else f" (uid {signal.sender_uid})"
    return f" from pid {signal.sender_pid}{uid}"
