"""Which runs a rule looks at, and what makes it true."""

from __future__ import annotations

from typing import Any

import pytest

from runfold_coordinator.alerts.conditions import RankFacts, RunFacts, RunFilter, causes_of, short_key
from runfold_coordinator.alerts.config import Rule, When
from runfold_coordinator.alerts.rules import needs_of


def run(**more: Any) -> RunFacts:
    facts: dict[str, Any] = {
        "run_pk": 1, "entity": "e", "project": "llm-7b", "run_id": "abc", "name": "calm", "group": None,
        "tags": ("prod", "a"), "state": "running", "reason": "",
    }  # fmt: skip
    return RunFacts(**(facts | more))


def rank(number: int, state: str = "running", reason: str = "", *, unreachable: bool = False) -> RankFacts:
    return RankFacts(number, f"rank{number}", "node1", state, reason, unreachable)


def details(when: When, facts: RunFacts) -> list[tuple[str, str]]:
    return [(cause.key, cause.detail) for cause in causes_of(when, facts)]


@pytest.mark.parametrize(
    ("patterns", "accepted"),
    [
        ({}, True),
        ({"project": "^llm", "tags": "^prod$"}, True),
        ({"project": "^llm", "tags": "^production$"}, False),
        ({"run": "b"}, True),
        ({"name": "storm"}, False),
        ({"group": ".*"}, False),
        ({"entity": "^e$"}, True),
    ],
)
def test_patterns_say_which_runs(patterns: dict[str, str], accepted: bool) -> None:
    assert RunFilter(When(state=("failed",), **patterns)).accepts(run()) is accepted


def test_states_of_the_run() -> None:
    when = When(state=("failed", "crashed"))
    assert details(when, run()) == []
    failed = run(state="failed", reason="exit code 3", first_failure={"rank": 3, "host": "n"})
    assert details(when, failed) == [("state", "failed: exit code 3")]
    [cause] = causes_of(when, failed)
    assert cause.fields == {"rank": 3, "host": "n"}
    # the evidence got better: still the same cause
    assert details(when, run(state="crashed", reason="SIGSEGV"))[0][0] == "state"


def test_a_dead_rank_is_named_once_an_attempt_with_those_it_took_along_counted() -> None:
    when = When(rank_state=("failed", "killed"))
    ranks = [rank(0, "killed", "SIGTERM"), rank(1), rank(3, "failed", "ValueError: x")]
    blamed = {"rank": 3, "host": "node7", "state": "failed", "reason": "ValueError: x"}
    found = details(when, run(ranks=ranks, first_failure=blamed, attempt=2))
    assert found == [("rank:2", "rank 3 on node7 failed: ValueError: x; 1 more")]
    other = details(When(rank_state=("killed",)), run(ranks=ranks, first_failure=blamed))
    assert other == [("rank:1", "rank 0 on node1 killed: SIGTERM")]
    assert details(when, run(ranks=[rank(0), rank(1)])) == []


def test_silence_counts_only_while_the_run_goes_on() -> None:
    when = When(unreachable=True)
    silent = run(unreachable=True, ranks=[rank(i, unreachable=True) for i in range(6)])
    assert details(when, silent) == [
        ("unreachable", "nothing heard of rank 0, rank 1, rank 2, rank 3 and 2 more")
    ]
    assert details(when, run(unreachable=True, state="crashed")) == []


def test_verdicts() -> None:
    stall = {"since_unix_s": 1.0, "step": 7, "waiting_for": [{"rank": 2, "label": "rank2", "why": "no step"}]}
    stalled = run(stalled=True, verdicts={"stall": stall})
    assert details(When(stalled=True), stalled) == [
        ("stalled", "no progress since step 7; it waits for rank 2 (no step)")
    ]
    assert details(When(stalled=True), run(stalled=True))[0][0] == "stalled"
    slow = run(
        verdicts={"stragglers": [{"rank": 4, "host": "h", "why": "data"}, {"label": "w", "rank": None}]}
    )
    assert details(When(straggler=True), slow) == [
        ("straggler:rank 4", "rank 4 is slow: data"),
        ("straggler:writer w", "writer w is slow: ?"),
    ]
    apart = run(verdicts={"desync": [{"metric": "loss", "step": 5, "ranks": [1, 3]}]})
    assert details(When(desync=True), apart) == [
        ("desync:loss", "loss differs between ranks since step 5: ranks 1, 3")
    ]
    assert details(When(straggler=True), run(verdicts={"stragglers": None})) == []


def test_records_that_are_missing() -> None:
    assert details(When(gaps=True), run(gaps=3)) == [("gaps", "3 records were lost where they were logged")]
    assert details(When(dead_letters=True), run(gaps=3)) == []


def test_a_key_that_is_too_long_is_kept_short_and_apart() -> None:
    assert short_key("x" * 200) == "x" * 200
    assert short_key("x" * 5000) != short_key("x" * 5001)
    assert len(short_key("\ud800" * 5000)) < 200
    odd = short_key("desync:a\0b\ud800")
    assert odd.isprintable() and odd != short_key("desync:ab")


@pytest.mark.parametrize(
    ("facts", "are_read"),
    [
        ({}, False),
        ({"state": "finished"}, True),
        ({"state": "killed", "reason": "stopped by ann"}, True),  # nothing failed, and yet ranks were killed
        ({"first_failure": {"rank": 3}}, True),
    ],
)
def test_ranks_are_read_where_one_may_have_ended(facts: dict[str, Any], are_read: bool) -> None:
    rule = Rule(name="dead rank", when=When(rank_state=("killed",)), receivers=("oncall",))
    assert needs_of([rule], run(**facts)).ranks is are_read
