"""The plain reference of the reduce rules."""

from __future__ import annotations

import math

import pytest

from runfold.protocol.history.reduce_rules import REDUCE_RULES, RankedValue, default_rule, reduce_values

RANKS = [RankedValue(rank, value, is_primary=rank == 1) for rank, value in enumerate([4, 1, 7.0])]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (None, 4.0),
        ("mean", 4.0),
        ("sum", 12.0),
        ("min", 1),
        ("max", 7.0),
        ("first", 4),
        ("last", 7.0),
        ("primary", 1),
        ("none", None),
    ],
)
def test_rules(rule: str | None, value: float | None) -> None:
    assert reduce_values(RANKS, rule) == value


def test_names() -> None:
    assert REDUCE_RULES == ("mean", "sum", "min", "max", "first", "last", "primary", "none")
    assert default_rule([1, 2.0]) == "mean"
    assert default_rule([1, True]) == default_rule(["a"]) == "primary"


def test_what_is_no_number_becomes_the_primarys_else_the_first() -> None:
    texts = [RankedValue(0, "a"), RankedValue(1, "b", is_primary=True)]
    assert reduce_values(texts) == "b"
    assert reduce_values(texts, "mean") == "b"
    assert reduce_values(texts[:1]) == "a"


def test_nan_propagates() -> None:
    values = [RankedValue(0, 1.0), RankedValue(1, math.nan)]
    for rule in ("mean", "sum", "min", "max"):
        assert math.isnan(reduce_values(values, rule))
    assert reduce_values(values, "first") == 1.0


def test_weights_apply_when_every_rank_has_one() -> None:
    weighted = [RankedValue(0, 1.0, weight=1), RankedValue(1, 4.0, weight=2)]
    assert reduce_values(weighted, "mean") == 3.0
    assert reduce_values([*weighted, RankedValue(2, 4.0)], "mean") == 3.0
    assert reduce_values([RankedValue(0, 1.0, weight=0), RankedValue(1, 4.0, weight=0)], "mean") == 2.5
