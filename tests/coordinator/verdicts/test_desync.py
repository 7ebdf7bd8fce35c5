"""Values that must be equal on all ranks: the first step that differs, who differs, and what for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_coordinator.verdicts import desync as module
from runfold_coordinator.verdicts.desync import Desync, Difference, Expectations, Tolerance, compare

EXACT = Tolerance()


def feed(
    desync: Desync, values: dict[str, list[Any]], *, tolerance: Tolerance = EXACT, first: int = 0
) -> None:
    for writer, column in values.items():
        kinds = {type(value) for value in column}
        array: Any = np.array(column) if kinds <= {float} or kinds <= {int} else column
        desync.add("m", tolerance, writer, np.arange(first, first + len(column)), array)


@pytest.mark.parametrize(
    ("values", "tolerance", "expected"),
    [
        ({"a": 1.0, "b": 1.0, "c": 1.0}, EXACT, None),
        ({"a": 1.0, "b": 2.0, "c": 1.0}, EXACT, (("b",), (2.0,), 1.0)),
        ({"a": 1.0, "b": 2.0}, EXACT, (("a", "b"), (1.0, 2.0), None)),
        ({"a": 1, "b": 1.0}, EXACT, None),
        ({"a": 100.0, "b": 100.9, "c": 100.0}, Tolerance(rtol=0.01), None),
        ({"a": 100.0, "b": 101.1, "c": 100.0}, Tolerance(rtol=0.01), (("b",), (101.1,), 100.0)),
        ({"a": 0.0, "b": 0.5, "c": 0.0}, Tolerance(atol=0.5), None),
        ({"a": 0.0, "b": 0.6, "c": 0.1, "d": 0.05}, Tolerance(atol=0.5), (("b",), (0.6,), 0.0)),
        ({"a": math.nan, "b": math.nan}, EXACT, None),
        ({"a": 1.0, "b": 1.0, "c": math.nan}, Tolerance(atol=1e9), (("c",), None, 1.0)),
        ({"a": math.inf, "b": math.inf}, EXACT, None),
        ({"a": math.inf, "b": 1.0, "c": 1.0}, Tolerance(atol=1e9), (("a",), (math.inf,), 1.0)),
        ({"a": "x", "b": "x"}, EXACT, None),
        ({"a": "x", "b": "y", "c": "x"}, Tolerance(atol=9), (("b",), ("y",), "x")),
        ({"a": "1", "b": 1, "c": 1}, EXACT, (("a",), ("1",), 1)),
        ({"a": 10**400, "b": 10**400}, Tolerance(rtol=0.5), None),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 3]}, EXACT, (("c",), ("[1, 3]",), "[1, 2]")),
        ({}, EXACT, None),
        ({"a": 1.0}, EXACT, None),
    ],
)
def test_one_step(values: dict[str, Any], tolerance: Tolerance, expected: Any) -> None:
    found = compare(values, tolerance)
    if expected is None or found is None:
        assert found is expected
        return
    assert found[0] == expected[0]
    assert expected[1] is None or found[1] == expected[1]
    assert found[2] == expected[2]


def test_the_first_step_is_told_once() -> None:
    desync = Desync()
    feed(desync, {"a": [0.0, 1.0, 2.0, 3.0], "b": [0.0, 1.0, 2.5, 9.0], "c": [0.0, 1.0, 2.0, 3.0]})
    assert desync.settle(1) == {}
    assert desync.settle(3) == {"m": Difference(2, ("b",), (2.5,), 2.0)}
    feed(desync, {"a": [1.0], "b": [2.0]}, first=4)
    assert desync.settle(9) == {}
    assert Desync(["m"]).settle(9) == {}


def test_steps_wait_until_they_are_settled() -> None:
    desync = Desync()
    feed(desync, {"a": [5.0, 5.0]})
    assert desync.settle(-1) == {}
    feed(desync, {"b": [5.0, 6.0]})
    assert desync.settle(1)["m"].step == 1


def test_a_value_that_is_said_again_replaces_the_first() -> None:
    desync = Desync()
    feed(desync, {"a": [1.0], "b": [2.0]})
    feed(desync, {"b": [1.0]})
    assert desync.settle(0) == {}


def test_checksums_are_compared_to_the_last_bit() -> None:
    desync = Desync()
    feed(desync, {"a": [2**62], "b": [2**62 + 1], "c": [2**62]})
    assert desync.settle(0)["m"] == Difference(0, ("b",), (2**62 + 1,), 2**62)


def test_kinds_and_texts_mix() -> None:
    desync = Desync()
    feed(desync, {"a": [1, 2, 3]})
    feed(desync, {"b": [1.0, 2.0, "x"]})
    feed(desync, {"c": [1.0, 2.0, 3.0]})
    assert desync.settle(2)["m"] == Difference(2, ("b",), ("x",), 3)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 100)
    desync = Desync()
    for at in range(0, 1000, 10):
        feed(desync, {"a": [1.0] * 10}, first=at)
        if desync.is_full:
            desync.settle(-1)
    assert desync._metrics["m"].count <= 110


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-9, math.nan, math.inf, -math.inf]), min_size=3, max_size=3),
        min_size=1, max_size=20,
    ),
    st.sampled_from([0.0, 1e-8, 2.0]),
    st.integers(0, 20),
)  # fmt: skip
def test_columns_find_what_comparing_each_step_finds(rows: list[list[float]], atol: float, cut: int) -> None:
    tolerance = Tolerance(atol=atol)
    names = ("a", "b", "c")
    plain = [compare(dict(zip(names, row, strict=True)), tolerance) for row in rows]
    first = next((at for at, found in enumerate(plain) if found is not None), None)
    desync, found = Desync(), {}
    for lo, hi in ((0, min(cut, len(rows))), (min(cut, len(rows)), len(rows))):
        feed(
            desync,
            {name: [row[at] for row in rows[lo:hi]] for at, name in enumerate(names) if hi > lo},
            tolerance=tolerance,
            first=lo,
        )
        found |= desync.settle(hi - 1)
    assert (found["m"].step if found else None) == first


def test_what_is_expected_of_which_key() -> None:
    expected = Expectations()
    assert not expected
    expected.apply({"name": "loss", "expect": "equal", "rtol": 0.1})
    expected.apply({"name": "check/*", "expect": "equal"})
    expected.apply({"name": "check/grad*", "expect": "equal", "atol": 1.0})
    expected.apply({"name": "a.b", "expect": "equal"})
    expected.apply({"name": "loss", "summary": ["min"]})
    assert expected.of(("loss",)) == Tolerance(rtol=0.1)
    assert expected.of(("check/x",)) == EXACT
    assert expected.of(("check/grad2",)) == Tolerance(atol=1.0)
    assert expected.of(("a", "b")) == expected.of(("a.b",)) == EXACT
    assert expected.of(("other",)) is None
    expected.apply({"name": "loss", "overwrite": True})
    assert expected.of(("loss",)) is None
