"""Merging of definitions, globs and step metrics, by W&B's rules."""

from __future__ import annotations

from typing import Any

import pytest

from runfold.protocol.history.definitions import MetricDefinition, MetricDefinitions


def defined(*calls: dict[str, Any]) -> MetricDefinitions:
    definitions = MetricDefinitions()
    for call in calls:
        definitions.apply({"name": "x", **call})
    return definitions


def x(*calls: dict[str, Any]) -> MetricDefinition:
    found = defined(*calls).get(("x",))
    assert found is not None
    return found


def test_summary_kinds_are_united() -> None:
    assert x({"summary": ["min"]}, {"summary": ["max"]}).summary_kinds == ("min", "max")


def test_none_is_replaced_by_each_summary_that_is_said() -> None:
    assert x({"summary": ["min"]}, {"summary": ["none"]}).none
    again = x({"summary": ["none"]}, {"summary": ["min"]})
    assert not again.none
    assert again.summary_kinds == ("min",)
    assert x({"summary": ["none"]}, {"hidden": True}).none
    assert x({"summary": ["none"]}, {"summary": []}).none


def test_copy_says_nothing_but_that_there_is_a_summary() -> None:
    found = x({"summary": ["none"]}, {"summary": ["copy"]})
    assert not found.none
    assert found.summary_kinds == ()


def test_a_step_metric_is_replaced_only_when_given() -> None:
    assert x({"step_metric": "e"}, {"summary": ["min"]}).step_metric == "e"
    assert x({"step_metric": "e"}, {"step_metric": "f"}).step_metric == "f"


@pytest.mark.parametrize(
    ("said", "synced"),
    [
        ({"step_metric": "e"}, True),
        ({"step_metric": "e", "step_sync": False}, False),
        ({"step_sync": True}, True),
        ({}, False),
    ],
)
def test_step_sync_defaults_to_having_a_step_metric(said: dict[str, Any], synced: bool) -> None:
    assert x(said).step_sync is synced


def test_sync_and_hidden_can_only_be_switched_on() -> None:
    found = x({"step_metric": "e", "hidden": True}, {"step_metric": "e", "step_sync": False, "hidden": False})
    assert found.step_sync
    assert found.hidden


def test_overwrite_forgets_everything_said_before() -> None:
    found = x(
        {"step_metric": "e", "hidden": True, "summary": ["min"], "reduce": "sum"},
        {"summary": ["max"], "overwrite": True},
    )
    assert found == MetricDefinition(summary=frozenset({"max"}), explicit=True)
    assert x({"summary": ["min"]}, {"overwrite": True}) == MetricDefinition(explicit=True)


def test_goal_reduce_and_weight_stay_until_said_again() -> None:
    found = x({"goal": "maximize", "reduce": "sum", "weight": "tokens"}, {"summary": ["best"]})
    assert (found.goal, found.reduce, found.weight) == ("maximize", "sum", "tokens")
    assert x({"goal": "maximize"}, {"goal": "upward", "reduce": "median"}).goal == "maximize"


def test_a_glob_is_applied_at_first_sight_and_for_good() -> None:
    definitions = defined({"name": "t/*", "summary": ["min"]})
    assert definitions.get(("t/a",)) is None
    expanded = definitions.see(("t/a",))
    assert expanded is not None
    assert not expanded.explicit
    definitions.apply({"name": "t/*", "summary": ["max"]})
    assert definitions.see(("t/a",)) is None
    assert definitions.get(("t/a",)) == expanded
    later = definitions.see(("t/b",))
    assert later is not None
    assert later.summary_kinds == ("min", "max")


def test_a_glob_defined_later_is_applied_when_the_key_appears_again() -> None:
    definitions = MetricDefinitions()
    assert definitions.see(("a",)) is None
    definitions.apply({"name": "*", "summary": ["max"]})
    assert definitions.see(("a",)) is not None


def test_an_explicit_definition_beats_every_glob() -> None:
    definitions = defined({"name": "loss", "summary": ["min"]}, {"name": "loss*", "summary": ["max"]})
    assert definitions.see(("loss",)) is None
    assert definitions.see(("loss2",)) is not None


def test_an_explicit_definition_after_expansion_merges_with_it() -> None:
    definitions = defined({"name": "t/*", "summary": ["min"]})
    definitions.see(("t/a",))
    definitions.apply({"name": "t/a", "summary": ["max"]})
    found = definitions.get(("t/a",))
    assert found is not None
    assert found.summary_kinds == ("min", "max")
    assert found.explicit


@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_prefix_wins_whatever_the_order(order: int) -> None:
    definitions = MetricDefinitions()
    for name in ["t/*", "*", "t/loss*"][::order]:
        definitions.apply({"name": name, "summary": ["min"], "step_metric": name.rstrip("*") + "step"})
    assert definitions.synced_step(("t/loss/a",)) is None
    definitions.see(("t/loss/a",))
    assert definitions.synced_step(("t/loss/a",)) == "t/lossstep"


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("lo*", ("lo",), True),
        ("lo*", ("log/x",), True),
        ("m.*", ("m", "a"), True),
        ("m.*", ("m", "deep", "b"), True),
        ("*", ("_under",), False),
        ("_*", ("_under",), False),
        ("m.*", ("m",), False),
    ],
)
def test_globs_match_prefixes_of_the_shown_name(glob: str, path: tuple[str, ...], matches: bool) -> None:
    assert (defined({"name": glob, "hidden": True}).see(path) is not None) is matches


def test_names_with_dots_mean_nested_keys_unless_escaped() -> None:
    definitions = defined({"name": "a.b", "summary": ["min"]}, {"name": "c\\.d", "summary": ["max"]})
    assert definitions.get(("a", "b")) is not None
    assert definitions.get(("a.b",)) is None
    assert definitions.get(("c.d",)) is not None


def test_a_literal_dotted_key_follows_the_nested_name_for_its_step_metric() -> None:
    definitions = defined({"name": "train.loss", "step_metric": "epoch"})
    assert definitions.synced_step(("train.loss",)) == "epoch"
    assert definitions.see(("train.loss",)) is None


def test_step_chains_are_followed_to_the_end_and_circles_end() -> None:
    definitions = defined(
        {"name": "a", "step_metric": "b"},
        {"name": "b", "step_metric": "c"},
        {"name": "c", "step_metric": "a"},
    )
    assert list(definitions.step_chain(("a",))) == ["b", "c", "a"]
    assert list(definitions.step_chain(("z",))) == []


def test_public_list_and_state_round_trip() -> None:
    definitions = defined(
        {"name": "t/*", "summary": ["max", "none"], "step_metric": "e"},
        {"name": "x.y", "summary": ["best"], "goal": "maximize", "reduce": "sum", "weight": "tokens"},
    )
    definitions.see(("t/a",))
    listed = definitions.to_public()
    assert [(entry["name"], entry["glob"], entry["explicit"]) for entry in listed] == [
        ("t/a", False, False),
        ("x.y", False, True),
        ("t/*", True, True),
    ]
    assert listed[1]["summary"] == ["best"]
    assert listed[2]["summary"] == ["max", "none"]
    assert MetricDefinitions.from_state(definitions.to_state()).to_public() == listed
