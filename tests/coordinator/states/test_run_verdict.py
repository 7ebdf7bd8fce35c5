"""Whose failure came first: launchers' signals and lost peers are consequences, and told as such."""

from __future__ import annotations

import itertools
from dataclasses import replace
from signal import SIGABRT, SIGKILL, SIGSEGV, SIGTERM
from typing import Any

import pytest

from coordinator.states.cases import S, at, died, exited, gone, raised, signalled
from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold_coordinator.states import Life, Limits, Member, RunVerdict, Verdict, run_state, writer_state

RUNNING = Member(Verdict("running"), rank=9, writer_id="9")


def member(rank: int, *evidence: Evidence, offset_s: float = 0.0, **life: Any) -> Member:
    verdict = writer_state(evidence, Life(launcher_pid=7, **life), Limits())
    return Member(verdict, rank=rank, writer_id=str(rank), host="h", clock_offset_ns=int(offset_s * S))


def judge(*members: Member) -> RunVerdict:
    """The same in any order."""
    found = run_state(members)
    for order in itertools.islice(itertools.permutations(members), 24):
        assert run_state(order) == found
    return found


def blamed(found: RunVerdict) -> int | None:
    return None if found.first_failure is None else found.first_failure["rank"]


def replace_time(one: Evidence, t_s: float) -> Evidence:
    return replace(one, t_ns=int(t_s * S))


def test_a_rank_that_raises_is_blamed_and_not_those_that_its_launcher_ends() -> None:
    found = judge(
        member(0, signalled(SIGTERM, 101), died(SIGTERM, 101.1)),
        member(1, signalled(SIGTERM, 101, sender_pid=7), died(SIGTERM, 101.2)),
        member(2, raised("ValueError", "no", 100)),
        member(3, died(SIGKILL, 131)),
    )
    assert (found.state, found.reason) == ("failed", "rank 2: ValueError: no")
    assert found.induced == {
        "0": "killed by SIGTERM after rank 2 failed",
        "1": "killed by SIGTERM from its launcher after rank 2 failed",
        "3": "killed by SIGKILL after rank 2 failed",
    }
    failure = found.first_failure
    assert failure is not None
    assert failure["traceback"] is None and failure["exit_code"] == 1 and failure["signal"] is None
    assert [part["rank"] for part in failure["induced"]] == [0, 1, 3]
    assert found.confidence == "said"


def test_a_killed_rank_is_blamed_and_not_the_peers_that_miss_it_even_if_these_are_seen_first() -> None:
    lost = raised("torch.distributed.DistBackendError", "NCCL error", 99)
    found = judge(
        member(0, lost),
        member(1, raised("RuntimeError", "Connection reset by peer", 99.5)),
        member(2, died(SIGKILL, 100)),
        member(3, signalled(SIGTERM, 100.4), died(SIGTERM, 100.5)),
        member(4, died(SIGABRT, 100.6)),
    )
    assert (found.state, blamed(found)) == ("killed", 2)
    assert found.reason == "rank 2: killed by SIGKILL, sender unknown"
    assert set(found.induced) == {"0", "1", "3", "4"}
    assert found.induced["0"].endswith("NCCL error after rank 2 was killed")


@pytest.mark.parametrize("sudden", [died(SIGKILL, 101.5), gone(101.5)])
def test_who_was_never_asked_to_end_is_blamed_though_its_death_is_seen_late(sudden: Evidence) -> None:
    asked = [member(rank, signalled(SIGTERM, 100), died(SIGTERM, 100.1 + rank)) for rank in (0, 1)]
    found = judge(*asked, member(2, sudden))
    assert (blamed(found), set(found.induced)) == (2, {"0", "1"})
    # Later than any observer is, it is a consequence: launchers kill those that do not end when asked.
    found = judge(*asked, member(2, replace_time(sudden, 130)))
    assert blamed(found) == 0 and "2" in found.induced


def test_a_collective_that_times_out_is_a_consequence_for_as_long_as_its_timeout() -> None:
    timeout = raised(
        "torch.distributed.DistBackendError", "Watchdog caught collective operation timeout", 1900
    )
    assert blamed(judge(member(0, timeout), member(1, died(SIGSEGV, 100)))) == 1
    assert blamed(judge(member(0, timeout), member(1, died(SIGKILL, 100)))) == 1
    assert blamed(judge(member(0, timeout), member(1, raised("ValueError", "no", 1000)))) == 1


def test_deaths_one_after_the_other_are_laid_to_the_first() -> None:
    found = judge(*(member(rank, died(SIGKILL, 100 + 50 * rank)) for rank in range(3)))
    assert found.induced == {
        "1": "killed by SIGKILL after rank 0 was killed",
        "2": "killed by SIGKILL after rank 0 was killed",
    }


def test_a_run_ends_with_its_last_process() -> None:
    found = judge(member(0, died(SIGSEGV, 100)), member(1, exited(0, t_s=120)), member(2, exited(0)))
    assert (found.state, found.ended_unix_ns) == ("crashed", 120 * S)


def test_where_all_miss_a_peer_the_first_is_blamed() -> None:
    said = [raised("RuntimeError", "Connection closed by peer", t_s) for t_s in (101.0, 100.0, 102.0)]
    found = judge(*(member(rank, one) for rank, one in enumerate(said)))
    assert blamed(found) == 1 and set(found.induced) == {"0", "2"}


def test_what_comes_to_all_at_once_is_nobodys_consequence() -> None:
    found = judge(*(member(rank, died(SIGKILL, 100 + rank / 1000)) for rank in range(4)))
    assert (found.state, blamed(found), found.induced) == ("killed", 0, {})
    # all had their SIGTERM before the first of them died
    found = judge(
        *(
            member(r, signalled(SIGTERM, 100), died(SIGTERM, 100.1 + r), last_record_unix_ns=S)
            for r in range(4)
        )
    )
    assert (found.state, found.induced) == ("killed", {})


def test_two_failures_of_their_own_are_two() -> None:
    found = judge(member(0, raised("ValueError", "no", 101)), member(1, raised("KeyError", "x", 100)))
    assert (found.reason, found.induced) == ("rank 1: KeyError: x", {})


def test_a_failure_long_before_explains_nothing() -> None:
    found = judge(member(0, raised("ValueError", "no", 100)), member(1, died(SIGTERM, 161)))
    assert (blamed(found), found.induced) == (0, {})


def test_a_launcher_that_was_signalled_passes_it_on_and_nobody_is_induced() -> None:
    sent = at(e.LAUNCHER, 100, pid=7, signum=15, sender_pid=55)
    ranks = [
        member(r, sent, signalled(SIGTERM, 100.1 + r / 10, sender_pid=7), died(SIGTERM, 100.2 + r / 10))
        for r in range(3)
    ]
    found = judge(*ranks)
    assert found.reason == "rank 0: killed by SIGTERM, which its launcher got from pid 55"
    assert found.induced == {}


def stopped(rank: int, t_s: float, *more: Evidence, whole: bool = True) -> Member:
    asked = at(e.STOP, 90, request="r", by="ann", grace_s=30, whole=whole)
    return member(rank, asked, at(e.STOP_SIGNAL, 91, signum=15), *(more or (died(SIGTERM, t_s),)))


def test_a_stopped_run_reads_stopped_whoever_ends_first() -> None:
    found = judge(stopped(0, 95), stopped(1, 93), stopped(2, 94, signalled(SIGTERM, 91), died(SIGTERM, 94)))
    assert (found.state, found.reason) == ("killed", "stopped by ann")
    assert (found.first_failure, found.induced) == (None, {})
    alone = judge(stopped(0, 95))
    assert (alone.state, alone.reason) == ("killed", "stopped by ann: killed by SIGTERM")
    assert alone.first_failure is None


def test_a_stopped_rank_is_told_with_what_followed_from_it() -> None:
    found = judge(
        stopped(1, 100, whole=False),
        member(0, signalled(SIGTERM, 100.4, sender_pid=7), died(SIGTERM, 100.5)),
        member(2, raised("RuntimeError", "Connection reset by peer", 100.2)),
    )
    assert (found.state, found.reason) == ("killed", "rank 1: stopped by ann: killed by SIGTERM")
    assert found.first_failure is None
    assert found.induced["0"] == "killed by SIGTERM from its launcher after rank 1 was stopped"
    assert found.induced["2"].endswith("Connection reset by peer after rank 1 was stopped")


def test_a_rank_that_failed_before_the_stop_is_blamed() -> None:
    found = judge(member(2, raised("ValueError", "no", 80)), stopped(0, 95), stopped(1, 93))
    assert (found.state, found.reason, blamed(found)) == ("failed", "rank 2: ValueError: no", 2)
    late = judge(member(2, raised("ValueError", "no", 97)), stopped(0, 95), stopped(1, 93))
    assert (late.state, late.reason, blamed(late)) == ("killed", "stopped by ann", None)


def test_a_run_that_is_being_stopped_says_so() -> None:
    asked = member(2, at(e.STOP, 90, request="r", by="ann", grace_s=30, whole=True))
    found = judge(asked, replace(asked, rank=3, writer_id="3"), stopped(0, 95))
    assert (found.state, found.reason, blamed(found)) == ("running", "asked to stop by ann", None)
    found = judge(RUNNING, asked)
    assert (found.state, found.reason) == ("running", "rank 2: asked to stop by ann")
    found = judge(RUNNING, stopped(0, 95, whole=False))
    assert (found.state, found.reason) == ("running", "rank 0: stopped by ann: killed by SIGTERM")


def test_clocks_that_differ_do_not_change_whose_failure_was_first() -> None:
    # the node of rank 1 is 100 s behind: by its own clock, its rank failed first
    ahead, behind = raised("ValueError", "no", 200), raised("KeyError", "x", 101)
    assert blamed(judge(member(0, ahead), member(1, behind))) == 1
    assert blamed(judge(member(0, ahead), member(1, behind, offset_s=100))) == 0


def test_a_live_run_tells_of_its_dead_rank() -> None:
    found = judge(RUNNING, member(3, died(SIGKILL)))
    assert (found.state, found.confidence) == ("running", "")
    assert found.reason == "rank 3 killed: killed by SIGKILL, sender unknown"
    assert blamed(found) == 3


def test_a_run_is_finished_when_all_are_and_as_sure_as_the_least_sure_of_them() -> None:
    clean = exited(0, "finish")
    found = judge(member(0, clean), member(1, clean, at(e.WAIT, 101, status=0, by="pidfd")))
    assert (found.state, found.reason, found.confidence) == ("finished", "exit code 0", "said")
    assert found.first_failure is None and found.ended_unix_ns == 100 * S
    assert judge(member(0, clean), member(1, gone())).confidence == "inferred"


def test_writers_that_do_not_decide_neither_end_nor_keep_a_run() -> None:
    helper = replace(RUNNING, decides=False)
    assert judge(member(0, exited(0)), helper).state == "finished"
    crashed = replace(member(5, died(SIGSEGV, 99)), decides=False)
    found = judge(member(0, exited(0)), crashed)
    assert (found.state, blamed(found)) == ("finished", 5)
    found = judge(member(0, died(SIGTERM, 100)), crashed)
    assert (found.state, blamed(found)) == ("killed", 5)
    assert found.reason == "rank 0: killed by SIGTERM after rank 5 crashed"


def test_a_thousand_failures_are_judged_in_linear_time() -> None:
    many = [member(rank, died(SIGKILL, 100 + rank / 100_000)) for rank in range(5000)]
    found = run_state(many)
    assert blamed(found) == 0
    many.append(member(5000, raised("ValueError", "no", 99.9)))
    found = run_state(many)
    assert blamed(found) == 5000 and len(found.induced) == 5000
    assert found.first_failure is not None and len(found.first_failure["induced"]) == 100
