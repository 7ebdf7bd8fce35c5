"""The truth table of docs/states.md, a line a case; and what silence and waiting do."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGABRT, SIGHUP, SIGINT, SIGKILL, SIGSEGV, SIGTERM

import pytest

from coordinator.states.cases import S, at, died, exited, gone, raised, signalled, waited
from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold_coordinator.states import Blame, Life, Limits, Verdict, writer_state

#: Lives, was heard of a moment ago, ended at about 100 s.
LIFE = Life(alive=None, last_record_unix_ns=99 * S, last_seen_unix_ns=100 * S, launcher_pid=7)
LIMITS = Limits()


def judge(*evidence: Evidence, life: Life = LIFE) -> Verdict:
    return writer_state(evidence, life, LIMITS)


ASKED = at(e.STOP, 90, request="r", by="ann", grace_s=30)
SENT = at(e.STOP_SIGNAL, 90.1, request="r", signum=15, pid=5, to="process")
REFUSED = at(e.STOP_REFUSED, 90.1, request="r", why="RUNFOLD_ALLOW_STOP=0")
NOTICE = at(e.NOTICE, 80, system="aws", grace_s=120, text="terminate")
MARKED = at(e.PREEMPTING, 80, seq=3, source="mark_preempting")
OOM = at(e.OOM, kills=1, cgroup="/job", version=2, scope="process")
OOM_NEARBY = at(e.OOM, kills=1, cgroup="/job", version=2, scope="cgroup")
REBOOT = at(e.REBOOT, 500, boot_id="a", now="b")
ELASTIC = at(e.ELASTIC, message="ValueError: no", exception="ValueError", traceback="x\nValueError: no")
PEER = raised("torch.distributed.DistBackendError", "NCCL error: remote process exited")


def said(state: str, system: str = "slurm") -> Evidence:
    return at(e.SCHEDULER, 105, system=system, state=state)


def launcher(signum: int, t_s: float = 98.9, **facts: object) -> Evidence:
    return at(e.LAUNCHER, t_s, pid=7, signum=signum, **facts)


TABLE: list[tuple[str, tuple[Evidence, ...], str, str, str]] = [
    # it ended by itself
    ("finish", (exited(0, "finish"),), "finished", "exit code 0", "said"),
    ("ran to its end", (exited(0, "atexit"), waited(0)), "finished", "exit code 0", "certain"),
    ("os._exit(0)", (waited(0),), "finished", "exit code 0", "certain"),
    ("sys.exit(3)", (exited(3), waited(3 << 8)), "failed", "exit code 3", "certain"),
    ("os._exit(3)", (waited(3 << 8),), "failed", "exit code 3", "certain"),
    ("sys.exit(143)", (exited(143),), "failed", "exit code 143 (128 + SIGTERM)", "said"),
    ("exception", (raised("ValueError", "no"), waited(1 << 8)), "failed", "ValueError: no", "certain"),
    ("exception, old kernel", (raised("ValueError", "no"), gone()), "failed", "ValueError: no", "said"),
    ("only in torchelastic's file", (ELASTIC, waited(1 << 8)), "failed", "ValueError: no", "certain"),
    ("only in torchelastic's file, old kernel", (ELASTIC, gone()), "failed", "ValueError: no", "said"),
    ("os._exit(3) at exit", (exited(0, "atexit"), waited(3 << 8)), "failed", "exit code 3", "certain"),
    ("finish(exit_code=2)", (exited(2, "finish"), waited(0)), "failed", "exit code 2", "certain"),
    ("finish(), then exit 3", (exited(0, "finish"), waited(3 << 8)), "finished", "exit code 0", "certain"),
    ("finish(), then killed", (exited(0, "finish"), died(SIGKILL, 900)), "finished", "code 0", "certain"),
    ("finish(), then vanished", (exited(0, "finish"), gone(900)), "finished", "exit code 0", "said"),
    ("fault in teardown", (exited(0, "atexit"), died(SIGSEGV)), "finished", "then SIGSEGV while", "certain"),
    (
        "exception, killed while it hung",
        (raised("ValueError", "no"), died(SIGTERM)),
        "failed",
        "no",
        "certain",
    ),
    # faults
    ("segmentation fault", (died(SIGSEGV),), "crashed", "crashed with SIGSEGV", "certain"),
    ("abort, core", (waited(SIGABRT | 0x80),), "crashed", "crashed with SIGABRT (core dumped)", "certain"),
    ("illegal instruction", (died(4),), "crashed", "crashed with SIGILL", "certain"),
    ("fault after a notice", (died(SIGSEGV), NOTICE), "crashed", "SIGSEGV", "certain"),
    # killed
    ("kill -9", (died(SIGKILL),), "killed", "killed by SIGKILL, sender unknown", "certain"),
    ("SIGTERM", (signalled(SIGTERM), died(SIGTERM)), "killed", "killed by SIGTERM", "certain"),
    (
        "SIGTERM, sender known",
        (signalled(SIGTERM, sender_pid=12, sender_uid=1000), died(SIGTERM)),
        "killed",
        "killed by SIGTERM from pid 12 (uid 1000)",
        "certain",
    ),
    ("SIGHUP", (died(SIGHUP),), "killed", "killed by SIGHUP", "certain"),
    ("SIGTERM, handled", (signalled(SIGTERM), exited(143)), "killed", "killed by SIGTERM", "said"),
    ("SIGTERM, handled to 0", (signalled(SIGTERM), exited(0)), "finished", "exit code 0", "said"),
    ("Ctrl-C", (signalled(SIGINT), exited(255, "exception")), "killed", "killed by SIGINT", "said"),
    ("SIGTERM, old kernel", (signalled(SIGTERM), gone()), "killed", "killed by SIGTERM", "said"),
    (
        "signal after its exit",
        (exited(3), signalled(SIGTERM, 100.5, seq=12)),
        "failed",
        "exit code 3",
        "said",
    ),
    (
        "of its launcher",
        (signalled(SIGTERM, sender_pid=7), died(SIGTERM)),
        "killed",
        "its launcher",
        "certain",
    ),
    (
        "passed on by its launcher",
        (signalled(SIGTERM, sender_pid=7), died(SIGTERM), launcher(15, sender_pid=77, sender_uid=0)),
        "killed",
        "killed by SIGTERM, which its launcher got from pid 77 (uid 0)",
        "certain",
    ),
    # stop requests
    ("stopped", (ASKED, SENT, died(SIGTERM)), "killed", "stopped by ann: killed by SIGTERM", "certain"),
    ("stopped, to 0", (ASKED, SENT, signalled(SIGTERM), exited(0)), "killed", "stopped by ann: exit", "said"),
    ("stopped, to 143", (ASKED, SENT, exited(143)), "killed", "stopped by ann: exit code 143", "said"),
    ("stopped, finish()", (ASKED, SENT, exited(0, "finish")), "killed", "stopped by ann", "said"),
    (
        "stopped, SIGKILL",
        (ASKED, SENT, died(SIGKILL, 120)),
        "killed",
        "stopped by ann: killed by SIG",
        "certain",
    ),
    ("stopped, old kernel", (ASKED, SENT, gone()), "killed", "stopped by ann", "said"),
    ("asked only, not yet sent", (ASKED, exited(0)), "finished", "exit code 0", "said"),
    ("asked after the end", (exited(3, t_s=80), ASKED, SENT), "failed", "exit code 3", "said"),
    (
        "refused, then killed",
        (ASKED, REFUSED, died(SIGKILL)),
        "killed",
        "killed by SIGKILL, sender",
        "certain",
    ),
    ("stopped, and no room", (ASKED, SENT, OOM_NEARBY, died(SIGKILL)), "killed", "stopped by ann", "certain"),
    # memory
    ("out of memory", (died(SIGKILL), OOM), "crashed", "out of memory", "certain"),
    ("out of memory, by the cgroup", (died(SIGKILL), OOM_NEARBY), "crashed", "out of memory", "certain"),
    ("out of memory, old kernel", (gone(), OOM), "crashed", "out of memory", "certain"),
    ("out of memory, by absence", (gone(), OOM_NEARBY), "crashed", "out of memory", "inferred"),
    (
        "a child was out of memory",
        (raised("RuntimeError", "worker died"), OOM_NEARBY),
        "failed",
        "RuntimeError: worker died; the kernel killed one of its cgroup for memory",
        "said",
    ),
    ("the scheduler counted", (died(SIGKILL), said("OUT_OF_MEMORY")), "crashed", "slurm: OUT", "certain"),
    ("OOMKilled", (gone(), said("OOMKilled", "kubernetes")), "crashed", "out of memory", "said"),
    # schedulers
    ("time limit", (died(SIGKILL), said("TIMEOUT")), "killed", "time limit (slurm: TIMEOUT)", "certain"),
    ("time limit, old kernel", (gone(), said("TIMEOUT")), "killed", "time limit", "said"),
    ("node failed", (gone(), said("NODE_FAIL")), "crashed", "the node failed", "said"),
    ("node failed, SIGKILL", (died(SIGKILL), said("NODE_FAIL")), "crashed", "the node failed", "certain"),
    ("preempted", (died(SIGKILL), said("PREEMPTED")), "preempted", "slurm: PREEMPTED", "certain"),
    ("preempted to 0", (exited(0, "atexit"), said("PREEMPTED")), "preempted", "exit code 0", "said"),
    (
        "scancel",
        (died(SIGTERM), said("CANCELLED by 1000")),
        "killed",
        "cancelled (slurm: CANCELLED",
        "certain",
    ),
    ("scancel, done before", (exited(0), said("CANCELLED by 1000")), "finished", "exit code 0", "said"),
    ("a word of no cause", (died(SIGKILL), said("FAILED")), "killed", "sender unknown", "certain"),
    ("failed before its time", (raised("ValueError", "no"), said("TIMEOUT")), "failed", "no", "said"),
    # notices
    ("notice, SIGTERM", (NOTICE, died(SIGTERM)), "preempted", "preempted (aws: terminate)", "certain"),
    ("notice, SIGKILL", (NOTICE, died(SIGKILL)), "preempted", "preempted (aws", "certain"),
    ("notice, exit 0", (NOTICE, exited(0, "atexit")), "preempted", "exit code 0", "said"),
    ("notice, exit 85", (NOTICE, exited(85)), "preempted", "exit code 85", "said"),
    ("notice, finish()", (NOTICE, exited(0, "finish")), "finished", "exit code 0", "said"),
    ("notice, exception", (NOTICE, raised("ValueError", "no")), "failed", "ValueError: no", "said"),
    ("notice, gone", (NOTICE, gone()), "preempted", "the process is gone", "said"),
    ("marked, gone", (MARKED, gone()), "preempted", "mark_preempting", "said"),
    ("marked, SIGTERM handled", (MARKED, signalled(SIGTERM), exited(143)), "preempted", "143", "said"),
    ("notice outlived", (NOTICE, exited(0, "atexit", 300)), "finished", "exit code 0", "said"),
    ("notice long after its end", (exited(0, t_s=10), NOTICE), "finished", "exit code 0", "said"),
    ("notice, then node failed", (NOTICE, gone(), said("NODE_FAIL")), "preempted", "aws", "said"),
    ("notice, then time limit", (NOTICE, died(SIGTERM), said("TIMEOUT")), "killed", "time limit", "certain"),
    # nobody knows
    ("vanished", (gone(),), "crashed", "vanished without an exit record", "inferred"),
    ("rebooted", (REBOOT,), "crashed", "the node was rebooted", "inferred"),
    ("rebooted, gone", (REBOOT, gone(500)), "crashed", "the node was rebooted", "inferred"),
    ("signal, then reboot", (signalled(SIGTERM), REBOOT), "killed", "killed by SIGTERM", "said"),
    ("said its end, then reboot", (exited(0), REBOOT), "finished", "exit code 0", "said"),
    # of no weight
    ("stacks", (at(e.STACK, tool="py-spy", text="x"), died(SIGKILL)), "killed", "SIGKILL", "certain"),
    ("of the future", (at("astrologer", says="doom"), died(SIGKILL)), "killed", "SIGKILL", "certain"),
    ("garbage", (at(e.WAIT, status="x"), at(e.WAIT, status=-1), gone()), "crashed", "vanished", "inferred"),
    ("a stop is no end", (at(e.WAIT, status=0x137F), gone()), "crashed", "vanished", "inferred"),
]


@pytest.mark.parametrize(
    ("evidence", "state", "reason", "confidence"),
    [case[1:] for case in TABLE],
    ids=[case[0] for case in TABLE],
)
def test_the_truth_table(evidence: tuple[Evidence, ...], state: str, reason: str, confidence: str) -> None:
    found = judge(*evidence)
    assert (found.state, found.confidence) == (state, confidence)
    assert reason in found.reason and found.ended_unix_ns and not found.unreachable


@pytest.mark.parametrize(
    ("evidence", "state", "reason"),
    [
        ((), "running", ""),
        ((ASKED,), "running", "asked to stop by ann"),
        ((ASKED, SENT), "running", "asked to stop by ann"),
        ((signalled(SIGTERM),), "running", ""),
        ((NOTICE,), "preempting", "it will be taken away (aws: terminate)"),
        ((MARKED,), "preempting", "it will be taken away (mark_preempting)"),
        ((ELASTIC,), "running", ""),
        ((said("TIMEOUT"),), "running", ""),
        ((launcher(15),), "running", ""),
        ((OOM_NEARBY,), "running", ""),
    ],
)
def test_who_lives_is_never_terminal(evidence: tuple[Evidence, ...], state: str, reason: str) -> None:
    found = judge(*evidence, life=replace(LIFE, alive=True))
    assert (found.state, found.reason, found.confidence) == (state, reason, "")


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        (exited(3), at(e.EXIT, 100, seq=11, code=4, how="sys.exit"), "exit code 4"),
        (waited(5 << 8, 100, "parent"), at(e.WAIT, 99, status=9, by="pidfd", pid=3), "exit code 5"),
        (at(e.OOM, kills=0, scope="process"), died(SIGKILL), "killed by SIGKILL, sender unknown"),
        (at(e.OOM, kills=0, scope="cgroup"), gone(), "the process vanished without an exit record"),
        (signalled(SIGTERM, 99, 5), signalled(SIGINT, 99, 5), "killed by SIGINT"),
    ],
)
def test_of_two_words_that_contradict_each_other_one_stands(
    one: Evidence, other: Evidence, reason: str
) -> None:
    more = [] if one.source in {e.EXIT, e.WAIT, e.OOM} else [gone()]
    assert judge(one, other, *more).reason == judge(other, one, *more).reason == reason


def test_who_asked_first_has_stopped_it() -> None:
    second = replace(at(e.STOP, 95, request="r2", by="bob", grace_s=1), ident="r2")
    for order in ((ASKED, second), (second, ASKED)):
        assert judge(*order, SENT, died(SIGTERM)).reason == "stopped by ann: killed by SIGTERM"


def test_a_request_that_came_after_the_end_has_not_stopped_it() -> None:
    assert judge(died(SIGTERM, 35), ASKED).reason == "stopped by ann: killed by SIGTERM"
    assert judge(died(SIGTERM, 25), ASKED).reason == "killed by SIGTERM"


def test_a_notice_that_was_outlived_is_no_more() -> None:
    life = replace(LIFE, last_record_unix_ns=261 * S)
    assert judge(NOTICE, life=life).state == "running"
    assert judge(MARKED, life=life).state == "preempting"
    assert judge(MARKED, life=replace(LIFE, last_record_unix_ns=681 * S)).state == "running"


def test_a_signal_that_was_survived_is_not_the_cause() -> None:
    assert judge(signalled(SIGTERM, 10), raised("ValueError", "no", 600)).state == "killed"
    late = judge(signalled(SIGTERM, 10), raised("ValueError", "no", 611))
    assert (late.state, late.reason) == ("failed", "ValueError: no")
    assert judge(signalled(SIGTERM, 10), gone(611)).reason.startswith("the process vanished")


def test_silence_flags_then_reads_lost_and_knows_what_was_said_before() -> None:
    assert not judge(life=replace(LIFE, silent_s=14.0)).unreachable
    flagged = judge(life=replace(LIFE, silent_s=16.0))
    assert (flagged.state, flagged.unreachable) == ("running", True)
    silent = replace(LIFE, silent_s=301.0)
    lost = judge(life=silent)
    assert (lost.state, lost.unreachable, lost.confidence) == ("crashed", True, "inferred")
    assert lost.reason == "lost contact: nothing heard for 300 s"
    assert judge(NOTICE, life=silent).state == "preempted"
    assert judge(signalled(SIGTERM), life=silent).state == "killed"
    assert judge(exited(0), life=silent) == judge(exited(0))


def test_what_may_still_come_is_waited_for_a_moment() -> None:
    just = replace(LIFE, alive=False, gone_s=0.1)
    assert judge(life=just).state == "running"
    assert judge(life=replace(just, gone_s=0.6)).state == "crashed"
    assert judge(gone(), life=just).state == "crashed"
    assert judge(died(SIGKILL), life=just).state == "killed"
    # its EXIT record may be behind the parent's word, as long as the agent did not see the end of its spool
    assert judge(waited(1 << 8), life=replace(just, alive=None)).state == "running"
    assert judge(waited(1 << 8), life=just).state == "failed"
    behind = replace(just, is_caught_up=False, gone_s=0.6)
    assert "on the way" in judge(gone(), life=behind).reason
    assert judge(gone(), life=replace(behind, stalled_s=61.0)).state == "crashed"
    assert judge(died(SIGKILL), life=behind).state == "running"
    assert judge(died(SIGKILL), life=replace(behind, gone_s=2.1)).state == "killed"
    assert judge(exited(3), life=behind).state == "failed"


@pytest.mark.parametrize(
    ("evidence", "blame"),
    [
        ((died(SIGKILL),), Blame.SUDDEN),
        ((signalled(SIGTERM), died(SIGKILL)), Blame.PERHAPS_INDUCED),
        ((died(SIGTERM),), Blame.PERHAPS_INDUCED),
        ((died(SIGABRT),), Blame.PERHAPS_INDUCED),
        ((gone(),), Blame.SUDDEN),
        ((signalled(SIGTERM), gone()), Blame.PERHAPS_INDUCED),
        ((died(SIGSEGV),), Blame.OWN),
        ((died(SIGKILL), OOM), Blame.OWN),
        ((ASKED, SENT, died(SIGTERM)), Blame.OWN),
        ((raised("ValueError", "no"),), Blame.OWN),
        ((PEER,), Blame.INDUCED),
        ((raised("RuntimeError", "[gloo/transport/tcp/pair.cc] Connection closed by peer"),), Blame.INDUCED),
        ((signalled(SIGTERM, sender_pid=7), died(SIGTERM)), Blame.INDUCED),
        ((signalled(SIGTERM, sender_pid=7), died(SIGTERM), launcher(15)), Blame.OWN),
        ((signalled(SIGTERM, sender_pid=8), died(SIGTERM)), Blame.PERHAPS_INDUCED),
    ],
)
def test_whether_another_failure_may_be_behind_it(evidence: tuple[Evidence, ...], blame: Blame) -> None:
    assert judge(*evidence).ending.blame == blame
