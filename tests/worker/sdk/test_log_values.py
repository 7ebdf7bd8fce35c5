"""What log() makes of values."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import itertools
import math
import pathlib
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runfold import config_values
from runfold.log_values import convert, flatten
from runfold.protocol.errors import LimitError
from runfold.summary import convert as in_summary


class Color(enum.Enum):
    RED = 1


class Word(str, enum.Enum):  # noqa: UP042  # the older way, which scripts use
    A = "a word"


@dataclasses.dataclass
class Point:
    x: int = 1
    y: str = "y"


def one(value: Any) -> Any:
    """Return the only leaf of one logged value."""
    ((path, leaf),) = flatten({"k": value})
    assert path == ("k",)
    return leaf


@pytest.mark.parametrize(
    ("value", "leaf"),
    [
        (2**53 + 1, 2**53 + 1),
        (-(2**63), -(2**63)),
        (2**63, 2.0**63),
        (10**400, math.inf),
        ("text", "text"),
        (None, None),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset([1]), [1]),
        ((n for n in (1, 2)), [1, 2]),
        ([1, "a", None, 2.5, True, {"b": {1: 2}}], [1, "a", None, 2.5, True, {"b": {"1": 2}}]),
        (b"bytes", "bytes"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), "2024-01-02T00:00:00Z"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(seconds=90), "PT1M30S"),
        (datetime.timedelta(days=1, hours=2, microseconds=500000), "P1DT2H0.5S"),
        (datetime.timedelta(0), "PT0S"),
        (datetime.timedelta(days=1001, seconds=1), "P2Y271DT1S"),
        (complex(math.nan, 1), "NaN+1j"),
        (functools.partial(len), "functools.partial(<built-in function len>)"),
        (range(0), []),
        (decimal.Decimal("1.25"), "1.25"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (Color.RED, 1),
        (Word.A, "a word"),
        (1 + 2j, "1+2j"),
        (fractions.Fraction(1, 3), "1/3"),
        (ipaddress.ip_address("1.2.3.4"), "1.2.3.4"),
        (ipaddress.ip_network("fe80::/64"), "fe80::/64"),
        (re.compile("a+"), "a+"),
        (map(str, [1]), ["1"]),
        (zip([1], [2], strict=True), [[1, 2]]),
        (iter((1, 2)), [1, 2]),
        (len, "builtins.len"),
        (Point, f"{__name__}.Point"),
    ],
)
def test_values_become_leaves(value: Any, leaf: Any) -> None:
    found = one(value)
    assert found == leaf
    assert type(found) is type(leaf)


@pytest.mark.parametrize("value", [object(), range(3), ValueError("x"), Ellipsis])
def test_odd_objects_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"Object of type {type(value).__name__} is not JSON serializable"):
        flatten({"k": value})


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        flatten({"k": b"\xff"})


def test_nan_and_infinities_survive() -> None:
    assert math.isnan(one(math.nan))
    assert one(np.float16(np.inf)) == math.inf


def test_dicts_become_paths() -> None:
    data = {
        "a": {"b": 1, "c": {"d": 2}},
        "a.b": 3,
        "e": {},
        "f": {1: 2, 1.5: 3, None: 4, ("x", "y"): 5, "True": 6},
    }
    assert dict(flatten(data)) == {
        ("a", "b"): 1,
        ("a", "c", "d"): 2,
        ("a.b",): 3,
        ("f", "1"): 2,
        ("f", "True"): 6,
        ("f", "1.5"): 3,
        ("f", "None"): 4,
        ("f", "x,y"): 5,
    }


def test_nested_keys_that_turn_equal_stand_once() -> None:
    assert flatten({"a": {1: "first", "1": "second"}}) == [(("a", "1"), "second")]


def test_dataclasses_are_dicts() -> None:
    assert flatten({"p": Point()}) == [(("p", "x"), 1), (("p", "y"), "y")]


@pytest.mark.parametrize(
    ("array", "leaf"),
    [
        (np.array(3.5), 3.5),
        (np.array([7]), 7),
        (np.array([[9]]), 9),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (np.eye(2), [[1.0, 0.0], [0.0, 1.0]]),
        (np.array([]), []),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([{"a": 1}, None], dtype=object), [{"a": 1}, None]),
        (np.str_("s"), "s"),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.longdouble(1.5), 1.5),
    ],
)
def test_small_arrays_become_lists(array: Any, leaf: Any) -> None:
    found = one(array)
    assert found == leaf
    assert type(found) is type(leaf)


def test_large_arrays_become_histograms() -> None:
    cells = dict(flatten({"h": np.arange(50)}))
    assert cells[("h", "_type")] == "histogram"
    assert len(cells[("h", "values")]) == 32
    assert len(cells[("h", "bins")]) == 33
    assert sum(cells[("h", "values")]) == 50


def test_large_arrays_without_a_range_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        flatten({"h": np.array([1.0] * 40 + [np.nan])})
    with pytest.raises(TypeError):
        flatten({"h": np.array(["a"] * 40)})


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    assert one(torch.tensor(1.5)) == 1.5
    assert one(torch.tensor([2.5])) == 2.5
    assert one(torch.tensor(True)) is True
    assert one(torch.tensor(1.5, dtype=torch.bfloat16)) == 1.5
    assert one(torch.ones(3, requires_grad=True)) == [1.0, 1.0, 1.0]
    assert dict(flatten({"h": torch.zeros(50)}))[("h", "values")][16] == 50
    for count in (1, 3, 50):  # as in the client: NumPy has no such type
        with pytest.raises(TypeError, match="BFloat16"):
            flatten({"k": torch.ones(count, dtype=torch.bfloat16)})


def test_values_that_contain_themselves_are_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="deep"):
        flatten({"k": loop})
    circle: dict[str, Any] = {}
    circle["k"] = circle
    with pytest.raises(ValueError, match="contains itself"):
        flatten({"k": circle})


def test_a_lone_surrogate_is_no_problem() -> None:
    assert one("a\ud800b") == "a\ud800b"  # the codec replaces it


def test_numpy_is_not_imported_for_objects_that_look_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    like = type("ndarray", (), {"__module__": "numpy"})()
    with pytest.raises(TypeError):
        convert(like)
    assert "numpy" not in sys.modules


@pytest.mark.parametrize(
    "value",
    ["x" * 16_000_000, [0.5] * 900_001, dict.fromkeys(map(str, range(450_001)))],
    ids=["text", "list", "dict"],
)
@pytest.mark.parametrize("how", [convert, config_values.convert, in_summary])
def test_what_no_record_takes_is_refused_by_its_length(value: Any, how: Callable[[Any], Any]) -> None:
    with pytest.raises(LimitError, match="fit into a row"):
        how(value)


def test_what_has_no_end_is_refused() -> None:
    with pytest.raises(LimitError, match="more than 900,000 elements"):
        flatten({"k": itertools.count()})


def test_a_row_keeps_what_fits_beside_what_does_not() -> None:
    refused: dict[str, str] = {}
    large = np.broadcast_to(np.float64(0), (200_000_000,))  # 1.6 GB that take no memory
    data = {
        "array": large,
        "texts": ["x" * 1_000_000] * 20,
        "a": "x" * 9_000_000,
        "b": "y" * 9_000_000,
        "keys": dict.fromkeys(map(str, range(100_001)), 0.5),
        "n": {"c": 1},
    }
    cells = flatten(data, lambda key, error: refused.update({key: str(error)}))
    assert [".".join(path) for path, _ in cells] == ["a", "n.c"]
    assert list(refused) == ["array", "texts", "b", "keys"]
    assert "1,600,000,000 bytes" in refused["array"]
    assert "runfold.Histogram(array)" in refused["array"]


def test_very_many_keys_are_cut_to_a_row() -> None:
    refused: list[str] = []
    data = {f"key {number}": 0.5 for number in range(100_010)}
    assert len(flatten(data, lambda key, _: refused.append(key))) == 100_000
    assert refused == ["key 100000 and what follows it"]
