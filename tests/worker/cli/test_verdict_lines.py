"""Verdicts as `runfold show` tells them."""

from __future__ import annotations

from runfold.cli.verdict_lines import verdict_lines

RANK = {"rank": 2, "label": "rank2", "writer": "ab" * 16, "host": "n1"}


def test_what_was_found_is_told_in_sentences() -> None:
    verdicts = {
        "stall": {
            "since_unix_s": 1000.0, "step": 1042, "others": 7,
            "waiting_for": [{**RANK, "kind": "phase", "why": "in data for 61 s"}],
            "stacks": [{**RANK, "tool": "faulthandler", "text": "line 1\nline 2"}],
        },
        "stragglers": [{**RANK, "label": None, "excess_s": 0.21, "why": "data: +0.21 s a step"}],
        "desync": [
            {"metric": "norm", "step": 12, "ranks": [2], "labels": [None], "values": [1.5], "expected": 1.0},
            {"metric": "hash", "step": 3, "ranks": [0, 1], "labels": ["a", "b"], "values": ["x", "y"], "expected": None},
        ],
        "stall_count": 2, "stalled_s": 90.0,
    }  # fmt: skip
    assert list(verdict_lines(verdicts, now_unix_s=1061.0)) == [
        "stalled for 1 min 1 s at step 1042",
        "  waiting for rank2 on n1: in data for 61 s",
        "  7 others without progress",
        "  stack of rank2 on n1 (faulthandler):",
        "    line 1",
        "    line 2",
        "slow: rank 2 on n1, +0.21 s a step (data: +0.21 s a step)",
        "not equal: norm at step 12: rank 2 1.5 (others 1.0)",
        "not equal: hash at step 3: a, b x, y (no majority)",
        "stalled before: 2 times, 1 min 30 s in all",
    ]


def test_where_all_is_well_nothing_is_said() -> None:
    assert list(verdict_lines({})) == []
    assert list(verdict_lines({"stall": None, "stragglers": [], "desync": [], "pace": {"step_s": 1.0}})) == []
