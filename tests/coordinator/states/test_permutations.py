"""Whatever the order, however often: the same verdict. Weaker words change no stronger ones."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.states.cases import WRITER, S
from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold_coordinator.states import (
    CERTAIN,
    RUNNING,
    TERMINAL,
    Life,
    Limits,
    Member,
    Verdict,
    gather_testimony,
    run_state,
    writer_state,
)
from runfold_coordinator.states.vocabulary import CONFIDENCES

TIMES = st.integers(0, 900).map(lambda t: t * S)
SIGNUMS = st.sampled_from([1, 2, 6, 9, 11, 15, 64])
PIDS = st.sampled_from([None, 7, 12])
SEQS = st.integers(1, 99).map(lambda n: f"seq:{n}")


def facts(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(parts)


def of(
    source: str, said: st.SearchStrategy[dict[str, Any]], ident: Any = None
) -> st.SearchStrategy[Evidence]:
    return st.builds(
        Evidence, st.just(WRITER), st.just(source), TIMES, said, st.just("") if ident is None else ident
    )


EXIT = of(
    e.EXIT,
    facts(
        code=st.integers(0, 3),
        how=st.sampled_from(["finish", "context", "atexit", "exception", "sys.exit"]),
        exception=st.sampled_from([None, "ValueError", "torch.distributed.DistBackendError"]),
        traceback=st.sampled_from([None, "x\nValueError: no\n"]),
    ),
    SEQS,
)
SIGNAL = of(e.SIGNAL, facts(signum=SIGNUMS, sender_pid=PIDS), SEQS)
NOTICES = of(e.PREEMPTING, facts(source=st.just("me"), grace_s=st.sampled_from([None, 30.0])), SEQS) | of(
    e.NOTICE, facts(system=st.just("aws"), grace_s=st.sampled_from([None, 120.0]))
)
STATUSES = st.integers(0, 3).map(lambda code: code << 8) | SIGNUMS | SIGNUMS.map(lambda n: n | 0x80)
WAIT = of(e.WAIT, facts(status=STATUSES, by=st.sampled_from(["pidfd", "parent"])))
OOM = of(e.OOM, facts(kills=st.integers(0, 2), scope=st.sampled_from(["process", "cgroup"])))
GONE = of(e.GONE, facts())
REBOOT = of(e.REBOOT, facts(boot_id=st.just("a"), now=st.just("b")))
SILENT = (
    of(e.STACK, facts(text=st.text(max_size=5))) | of("news", facts(x=st.integers())) | of(e.DEVICES, facts())
)
ELASTIC = of(
    e.ELASTIC, facts(message=st.sampled_from(["", "ValueError: no"]), exception=st.just("ValueError"))
)
STATES = st.sampled_from(["PREEMPTED", "TIMEOUT", "CANCELLED by 1", "NODE_FAIL", "OUT_OF_MEMORY", "FAILED"])
SCHEDULER = of(e.SCHEDULER, facts(system=st.just("slurm"), state=STATES))
STOP = of(e.STOP, facts(request=st.just("r"), by=st.sampled_from(["ann", ""]), whole=st.booleans())) | of(
    e.STOP_SIGNAL, facts(request=st.just("r"), signum=SIGNUMS)
)
LAUNCHER = of(e.LAUNCHER, facts(pid=st.just(7), signum=SIGNUMS, sender_pid=PIDS)) | of(
    e.LAUNCHER, facts(pid=st.just(7), status=STATUSES)
)
GARBAGE = st.builds(
    Evidence,
    st.just(WRITER),
    st.sampled_from(sorted(e.SOURCES)),
    TIMES,
    st.dictionaries(
        st.sampled_from(["code", "status", "signum", "grace_s", "state", "kills", "by", "how", "text"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    ),
)
ANY = (
    EXIT
    | SIGNAL
    | NOTICES
    | WAIT
    | OOM
    | GONE
    | REBOOT
    | SILENT
    | ELASTIC
    | SCHEDULER
    | STOP
    | LAUNCHER
    | GARBAGE
)
SETS = st.lists(ANY, max_size=7)
LIVES = st.builds(
    Life,
    alive=st.sampled_from([None, True, False]),
    silent_s=st.sampled_from([0.0, 20.0, 301.0]),
    stalled_s=st.sampled_from([0.0, 61.0]),
    gone_s=st.sampled_from([0.0, 0.6, 3.0]),
    is_caught_up=st.booleans(),
    last_seen_unix_ns=st.just(100 * S),
    last_record_unix_ns=TIMES,
    launcher_pid=st.sampled_from([None, 7]),
)


def judge(evidence: list[Evidence], life: Life) -> Verdict:
    return writer_state(evidence, life, Limits())


@settings(max_examples=150, deadline=None)
@given(SETS, LIVES, st.randoms(use_true_random=False))
def test_any_order_and_any_duplicates_give_the_same_verdict(
    evidence: list[Evidence], life: Life, rng: random.Random
) -> None:
    found = judge(evidence, life)
    # What comes over the other way is seen a little later; the earlier time stands, whichever comes first.
    later = [replace(one, t_ns=one.t_ns + 5) for one in evidence]
    again = evidence + later + rng.choices(evidence, k=5) if evidence else []
    rng.shuffle(again)
    assert judge(again, life) == found
    assert (found.state in TERMINAL) == bool(found.confidence)
    assert found.reason or found.state not in TERMINAL


@settings(max_examples=150, deadline=None)
@given(SETS, LIVES, st.lists(GONE | REBOOT | SILENT, max_size=3))
def test_absence_and_attachments_change_no_word_that_is_certain_or_said(
    evidence: list[Evidence], life: Life, weaker: list[Evidence]
) -> None:
    life = replace(life, is_caught_up=True, gone_s=3.0)
    before, after = judge(evidence, life), judge(evidence + weaker, life)
    known = gather_testimony(evidence)
    # Else the weaker word tells at least when it ended.
    if known.exit is not None or known.wait is not None or known.oom_ns is not None:
        assert before.confidence in (CERTAIN, "said")
        assert (after.state, after.reason, after.confidence) == (
            before.state,
            before.reason,
            before.confidence,
        )


@settings(max_examples=150, deadline=None)
@given(SETS, LIVES, ANY)
def test_evidence_never_makes_a_verdict_less_sure(
    evidence: list[Evidence], life: Life, more: Evidence
) -> None:
    life = replace(life, is_caught_up=True, gone_s=3.0)
    before, after = judge(evidence, life), judge([*evidence, more], life)
    assert CONFIDENCES.index(after.confidence) >= CONFIDENCES.index(before.confidence)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SIGNAL | NOTICES | SILENT | ELASTIC | SCHEDULER | STOP | LAUNCHER, max_size=6),
    LIVES,
)
def test_no_word_about_a_process_that_lives_ends_it(evidence: list[Evidence], life: Life) -> None:
    found = judge(evidence, replace(life, alive=True, silent_s=20.0))
    assert found.state not in TERMINAL and found.unreachable


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SETS, LIVES, st.booleans()), max_size=6), st.randoms(use_true_random=False))
def test_a_run_reads_the_same_whatever_the_order_of_its_writers(
    parts: list[tuple[list[Evidence], Life, bool]], rng: random.Random
) -> None:
    members = [
        Member(judge(evidence, life), decides, rank=rank, writer_id=f"{rank:032x}")
        for rank, (evidence, life, decides) in enumerate(parts)
    ]
    found = run_state(members)
    rng.shuffle(members)
    assert run_state(members) == found
    if found.state in TERMINAL:
        assert found.reason and found.confidence
        assert (found.state == "finished") == all(
            not m.verdict.is_failure for m in members if m.decides or not any(o.decides for o in members)
        )
    elif not members:
        assert found.state == RUNNING
    ends = {m.writer_id for m in members if m.verdict.is_failure}
    assert set(found.induced) <= ends
    # Somebody is always to blame, but where somebody was stopped.
    assert (
        not ends
        or found.first_failure is not None
        or any(m.verdict.ending.stop for m in members if m.verdict.is_failure)
    )
    assert found.first_failure is None or found.first_failure["writer"] not in found.induced
