"""Answers keep every value: exactly in msgpack, as strict JSON otherwise."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import numpy as np
import pytest

from runfold.api.connection import _extension
from runfold_coordinator.api.encoding import pack, to_json


def unpacked(content: Any) -> Any:
    return msgpack.unpackb(pack(content), strict_map_key=False, ext_hook=_extension)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 2**64, -(10**40), 1.5, -0.0, math.inf, "", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
     b"bytes", [1, [2]], {"a": {"b": 10**30}}, {"t": "<f8", "b": b"a user's own"}],
)  # fmt: skip
def test_msgpack_gives_back_what_went_in(value: Any) -> None:
    assert unpacked(value) == value
    assert type(unpacked(value)) is type(value)


def test_nan_and_the_sign_of_zero_survive() -> None:
    assert math.isnan(unpacked(math.nan))
    assert math.copysign(1, unpacked(-0.0)) == -1


@pytest.mark.parametrize("dtype", ["f8", "i8", "u8", "u4", "?", ">f8", "i4", "f4"])
def test_arrays_travel_whole(dtype: str) -> None:
    values = np.array([0, 1, 2]).astype(dtype)
    assert list(unpacked(values)) == values.tolist()
    assert list(unpacked(values[::2])) == values[::2].tolist()
    assert list(unpacked(values[:0])) == []


def test_json_is_strict_and_says_nan_in_words() -> None:
    content = {
        "a": [math.nan, math.inf, -math.inf, 1.5],
        "n": np.array([1.0, math.nan]),
        "i": np.int64(3),
        "b": b"x",
        "big": 10**30,
    }
    assert json.loads(to_json(content), parse_constant=pytest.fail) == {
        "a": ["NaN", "Infinity", "-Infinity", 1.5],
        "n": [1.0, "NaN"],
        "i": 3,
        "b": "eA==",
        "big": 10**30,
    }
    assert json.loads(to_json({"n": np.array([1, 2]), "f": np.float64(2.5)})) == {"n": [1, 2], "f": 2.5}


def test_what_has_no_place_in_an_answer_is_a_bug() -> None:
    with pytest.raises(TypeError):
        pack(object())
    with pytest.raises(TypeError):
        to_json(object())
