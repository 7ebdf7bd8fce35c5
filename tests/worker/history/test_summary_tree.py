"""The summary tree: kinds, conflicts of places, values set by hand, statistics bit by bit."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.history.definitions import MetricDefinition
from runfold.protocol.history.leaf import SummaryLeaf, digest_numbers
from runfold.protocol.history.summary import SummaryTree
from runfold.protocol.path_index import Overlay, PathIndex
from support.counted import calls_in

ALL = ("min", "max", "mean", "last", "first")


def definition(*kinds: str, goal: Any = None) -> MetricDefinition:
    known = frozenset(kinds) - {"none"}
    return MetricDefinition(summary=known, none="none" in kinds, goal=goal)


def tree_of(values: list[Any], *kinds: str, goal: Any = None) -> SummaryTree:
    tree = SummaryTree()
    if kinds:
        tree.configure(("x",), definition(*kinds, goal=goal))
    for step, value in enumerate(values):
        tree.observe_row(step, [(("x",), value)])
    return tree


def shown(values: list[Any], *kinds: str, goal: Any = None) -> Any:
    return tree_of(values, *kinds, goal=goal).as_dict().get("x")


def test_kinds() -> None:
    assert shown([3, 1, 2]) == 2
    assert shown([7, 2, 4], "last") == {"last": 4}
    assert shown([5, 1, 9, 4], *ALL) == {"first": 5, "last": 4, "max": 9, "mean": 4.75, "min": 1}
    assert shown([0.1, 0.2, 0.3], "mean") == {"mean": 0.20000000000000004}
    assert shown([7, 2], "none", "min") is None
    assert "x" not in tree_of([], *ALL).as_dict()


def test_ints_stay_ints_in_extremes() -> None:
    assert repr(shown([3, 1, 2], "min", "max")) == "{'min': 1, 'max': 3}"
    assert repr(shown([3, 1.0], "min", "max")) == "{'min': 1.0, 'max': 3.0}"
    assert shown([2**53 + 1, 2**60], "min", "last") == {"min": 2**53, "last": 2**60}
    assert shown([10**400, 1], "max", "first") == {"max": math.inf, "first": 10**400}


def test_nan_is_sticky_and_never_the_best() -> None:
    nan = math.nan
    for values in ([1.0, nan, 3.0], [nan, 1.0, 3.0], [1.0, 3.0, nan]):
        stats = shown(values, "min", "max", "mean")
        assert all(map(math.isnan, stats.values()))
        assert shown(values, "best") == {"best": 1.0}
        assert shown(values, "best", goal="maximize") == {"best": 3.0}
    assert shown([1.0, math.inf, -math.inf], "min", "max") == {"min": -math.inf, "max": math.inf}
    assert math.isnan(shown([1.0, math.inf, -math.inf], "mean")["mean"])
    assert shown([nan], "best") is None


def test_only_numbers_count() -> None:
    assert shown(["a", "b"], *ALL) == {"first": "a", "last": "b"}
    assert shown(["a", "b"], "mean") is None
    assert shown([True, False], "min", "last") == {"last": False}
    assert shown([5, "a", 1], *ALL) == {"first": 5, "last": 1, "max": 5, "mean": 3, "min": 1}
    assert shown([None, 2, None, 4], *ALL) == {"first": None, "last": 4, "max": 4, "mean": 3, "min": 2}
    assert shown([5, None]) is None


def test_every_row_has_step_time_and_runtime() -> None:
    tree = SummaryTree()
    tree.observe_row(4, [], timestamp=1.5, runtime=2.75)
    assert tree.as_dict() == {"_step": 4, "_timestamp": 1.5, "_runtime": 2.75, "_wandb": {"runtime": 2}}
    tree.finish(9.5)
    assert tree.as_dict()["_runtime"] == 9
    assert tree.as_dict()["_wandb"] == {"runtime": 9}


def test_defining_later_shows_all_of_history() -> None:
    tree = tree_of([5, 1, 3])
    tree.configure(("x",), definition(*ALL))
    assert tree.as_dict()["x"] == {"first": 5, "last": 3, "max": 5, "mean": 3, "min": 1}


def test_leaf_and_subtree_give_way_to_each_other() -> None:
    tree = tree_of([1])
    tree.observe_row(1, [(("x", "b"), 2), (("x", "c", "d"), 3)])
    assert tree.as_dict()["x"] == {"b": 2, "c": {"d": 3}}
    tree.configure(("x",), definition("min"))
    assert tree.as_dict()["x"] == {"b": 2, "c": {"d": 3}}
    tree.observe_row(2, [(("x",), 7)])
    assert tree.as_dict()["x"] == {"min": 7}


def test_a_definition_moves_nothing_aside() -> None:
    tree = tree_of([3, 1])
    tree.configure(("x", "b"), definition("max"))
    assert tree.as_dict()["x"] == 1
    tree.configure(("x",), definition("min"))
    assert tree.as_dict()["x"] == {"min": 1}
    tree.observe_row(2, [(("x", "b"), 5)])
    assert tree.as_dict()["x"] == {"b": {"max": 5}}


def test_values_set_by_hand_stay_until_deleted() -> None:
    tree = tree_of([0.1])
    tree.set(("x",), 0.99)
    tree.observe_row(1, [(("x",), 0.2)])
    assert tree.as_dict()["x"] == 0.99
    tree.delete(("x",))
    assert "x" not in tree.as_dict()
    tree.observe_row(2, [(("x",), 0.3)])
    assert tree.as_dict()["x"] == 0.3


def test_setting_by_hand_clears_the_kinds_until_defined_again() -> None:
    tree = tree_of([5, 1], "min", "max")
    tree.set(("x",), 42)
    tree.delete(("x",))
    tree.observe_row(2, [(("x",), 3)])
    assert tree.as_dict()["x"] == 3
    tree.configure(("x",), definition("min", "max"))
    assert tree.as_dict()["x"] == {"min": 1, "max": 5}


def test_none_set_by_hand_empties_the_place_until_the_next_row() -> None:
    for nothing in (None, math.nan):
        tree = tree_of([5])
        tree.set(("x",), 7)
        tree.set(("x",), nothing)
        assert "x" not in tree.as_dict()
        tree.observe_row(1, [(("x",), 3)])
        assert tree.as_dict()["x"] == 3


def test_a_dict_set_by_hand_is_one_value() -> None:
    tree = SummaryTree()
    tree.apply([["set", ["a"], {"b": 1}], ["set", ["a", "c"], 2]])
    assert tree.as_dict() == {"a": {"c": 2}}
    tree.apply([["set", ["m"], {"x": 1}], ["del", ["m", "x"]]])
    assert tree.as_dict()["m"] == {"x": 1}
    tree.apply([["del", ["m"]], ["del", ["nothing"]]])
    assert "m" not in tree.as_dict()


def test_a_dict_over_a_logged_subtree_hides_it_until_deleted() -> None:
    tree = SummaryTree()
    tree.observe_row(0, [(("a", "b"), 1), (("a", "c"), 2)])
    tree.set(("a",), {"z": 1})
    assert tree.as_dict()["a"] == {"z": 1}
    tree.observe_row(1, [(("a", "b"), 5)])
    assert tree.as_dict()["a"] == {"z": 1}
    tree.delete(("a",))
    tree.observe_row(2, [(("a", "b"), 6)])
    assert tree.as_dict()["a"] == {"b": 6}


def test_deleting_keeps_extremes_and_restarts_first() -> None:
    tree = tree_of([5, 1], "min", "max", "first")
    tree.delete(("x",))
    assert "x" not in tree.as_dict()
    tree.observe_row(2, [(("x",), 3)])
    assert tree.as_dict()["x"] == {"min": 1, "max": 5, "first": 3}


def test_deleting_part_of_a_logged_subtree() -> None:
    tree = SummaryTree()
    tree.observe_row(0, [(("m", "x"), 1), (("m", "y"), 2)])
    tree.delete(("m", "x"))
    assert tree.as_dict()["m"] == {"y": 2}
    tree.delete(("m",))
    assert "m" not in tree.as_dict()


def test_a_hidden_metric_hides_values_set_by_hand_too() -> None:
    tree = tree_of([5], "none")
    tree.set(("x",), 42)
    assert "x" not in tree.as_dict()


def test_late_rows_do_not_change_last() -> None:
    tree = tree_of([])
    for step in (3, 5, 1, 4):
        tree.observe_row(step, [(("x",), step)])
    tree.configure(("x",), definition("first", "last"))
    assert tree.as_dict()["x"] == {"first": 1, "last": 5}
    assert tree.as_dict()["_step"] == 5


def test_the_order_of_arrival_of_keys_is_not_seen() -> None:
    one, two = SummaryTree(), SummaryTree()
    one.observe_row(0, [(("b",), 1), (("a",), 2)])
    two.observe_row(0, [(("a",), 2), (("b",), 1)])
    assert list(one.as_dict()) == list(two.as_dict())


paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(tuple)


@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), paths), max_size=40), paths)
def test_an_index_knows_what_lies_below(said: list[tuple[str, Any]], place: Any) -> None:
    index, model = PathIndex(), set()
    for name, path in said:
        getattr(index, name)(path)
        getattr(model, "add" if name == "add" else "discard")(path)
    assert sorted(index.below(place)) == sorted(
        path for path in model if path != place and path[: len(place)] == place
    )
    for path in model:
        index.discard(path)
    assert not index._children


@given(st.lists(st.tuples(st.sampled_from(["set", "clear", "delete"]), paths), max_size=40))
def test_an_overlay_keeps_what_was_set_last(said: list[tuple[str, Any]]) -> None:
    overlay: Overlay[int] = Overlay()
    model: dict[Any, int] = {}
    for at, (name, path) in enumerate(said):
        is_above = name != "delete"
        model = {
            other: value
            for other, value in model.items()
            if other[: len(path)] != path and not (is_above and path[: len(other)] == other)
        }
        if name == "set":
            overlay.set(path, at)
            model[path] = at
        else:
            getattr(overlay, name)(path)
    assert list(overlay.items()) == list(model.items()) and len(overlay) == len(model)


def set_by_hand(count: int, depth: int) -> int:
    """Return how many calls it takes to set, delete and set again, beside as many logged keys."""
    tree = SummaryTree()
    tree.observe_row(0, [((f"k{at}", *"bcd"[1:depth]), at) for at in range(count)])

    def work() -> None:
        for _ in range(2):
            for at in range(count):
                tree.set((f"k{at}", *"bcd"[:depth]), at)
            tree.as_dict()
            for at in range(count):
                tree.delete((f"k{at}",))

    return calls_in(work)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_setting_by_hand_costs_the_same_however_many_are_set(depth: int) -> None:
    assert set_by_hand(400, depth) < 5 * set_by_hand(100, depth)


floats = st.lists(st.one_of(st.floats(), st.sampled_from([-0.0, 0.0, math.nan])), min_size=1, max_size=50)
ints = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


def _bits(leaf: SummaryLeaf) -> list[Any]:
    return [
        "nan"
        if isinstance(v, float) and math.isnan(v)
        else struct.pack("<d", v)
        if isinstance(v, float)
        else v
        for v in leaf.to_state()
    ]


@given(st.one_of(floats, ints), st.integers(0, 50), st.integers(0, 50))
def test_batches_equal_single_values_bit_by_bit(values: list[Any], one: int, other: int) -> None:
    single, batched = SummaryLeaf(), SummaryLeaf()
    for step, value in enumerate(values):
        single.observe(value, step)
    kind = "d" if isinstance(values[0], float) else "q"
    edges = sorted({0, len(values), min(one, len(values)), min(other, len(values))})
    for lo, hi in itertools.pairwise(edges):
        batched.observe_batch(digest_numbers(values[lo:hi], kind, lo, hi - 1, batched.total))
    assert _bits(batched) == _bits(single)


@pytest.mark.filterwarnings("ignore:(overflow|invalid):RuntimeWarning")
@given(floats)
def test_the_running_total_is_what_numpy_accumulates(values: list[float]) -> None:
    leaf = SummaryLeaf()
    for step, value in enumerate(values):
        leaf.observe(value, step)
    total = np.add.accumulate(np.array([0.0, *values]))[-1]
    assert math.isnan(total) == math.isnan(leaf.total)
    assert math.isnan(total) or struct.pack("<d", total) == struct.pack("<d", leaf.total)
