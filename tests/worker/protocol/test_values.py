"""Values travel unchanged, and what is too large or wrong is refused in time."""

from __future__ import annotations

import math
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.errors import DecodeError, LimitError, ProtocolError
from runfold.protocol.limits import MAX_DEPTH, MAX_INT_DIGITS
from runfold.protocol.values import pack_value, scan, unpack_value

NO_SURROGATES = st.text(st.characters(exclude_categories=["Cs"]))
EDGES = st.sampled_from(
    [2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, 10**30, -(10**30), 0, -1, 127, 128, -33]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    EDGES,
    st.floats(),
    st.just(-0.0),
    NO_SURROGATES,
    st.binary(max_size=40),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NO_SURROGATES, inner, max_size=5),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    """Equal, of equal type, all the way down; NaN equals NaN with any payload, -0.0 differs from 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@given(VALUES)
def test_what_is_packed_comes_back(value: Any) -> None:
    assert same(unpack_value(pack_value(value)), value)


@given(VALUES)
def test_what_is_packed_passes_the_scan(value: Any) -> None:
    scan(pack_value(value), max_depth=64, max_elements=10**6)


def test_bools_stay_apart_from_numbers() -> None:
    assert same(unpack_value(pack_value([True, 1, 1.0, False, 0])), [True, 1, 1.0, False, 0])


def test_tuples_come_back_as_lists() -> None:
    assert unpack_value(pack_value((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", {"k\ud800": ["\udc00"]}])
def test_a_lone_surrogate_becomes_the_replacement_character(text: Any) -> None:
    assert "\ufffd" in repr(unpack_value(pack_value(text))).encode().decode("unicode_escape", "replace") or (
        "\ufffd" in str(unpack_value(pack_value(text)))
    )


def test_a_numpy_scalar_does_not_travel_by_itself() -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match="float32"):
        pack_value({"a": numpy.float32(1)})


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {"a": {True: 1}}])
def test_keys_that_are_not_str_are_refused_on_both_sides(value: Any) -> None:
    with pytest.raises(TypeError, match="keys are str"):
        pack_value(value)
    with pytest.raises(DecodeError):
        unpack_value(msgpack.packb(value))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_on_both_sides() -> None:
    assert unpack_value(pack_value(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(LimitError) as refused:
        pack_value(nested(MAX_DEPTH + 1))
    assert refused.value.limit == MAX_DEPTH
    with pytest.raises(LimitError):
        unpack_value(msgpack.packb(nested(MAX_DEPTH + 1)))
    with pytest.raises(ProtocolError):
        unpack_value(b"\x91" * 100_000 + b"\xc0")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    with pytest.raises(LimitError):
        pack_value(loop)


def test_elements_are_limited_on_both_sides() -> None:
    assert len(unpack_value(pack_value([0] * 99), max_elements=100)) == 99
    with pytest.raises(LimitError):
        pack_value([0] * 100, max_elements=100)
    with pytest.raises(LimitError):
        unpack_value(pack_value([0] * 2000), max_elements=2000)


def test_bytes_are_limited_on_both_sides() -> None:
    with pytest.raises(LimitError):
        pack_value("x" * 100, max_bytes=100)
    with pytest.raises(LimitError):
        unpack_value(b"\xc0" * 101, max_bytes=100)


def test_digits_are_limited_on_both_sides() -> None:
    largest = 10**MAX_INT_DIGITS - 1
    assert unpack_value(pack_value([largest, -largest])) == [largest, -largest]
    for value in (largest + 1, -largest - 1, 1 << 100_000):
        with pytest.raises(LimitError):
            pack_value(value)
    with pytest.raises(LimitError):
        unpack_value(msgpack.packb(msgpack.ExtType(1, b"9" * (MAX_INT_DIGITS + 1))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0\xc0",
        b"\x91",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xa2\xff\xfe",  # not UTF-8
        b"\xd4\x02\x00",  # unknown extension
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\xd4\x01x",  # a big int of letters
        b"\xd5\x01--",
        b"\xc7\x00\x01",  # a big int of nothing
        b"\xd5\x01\xb2\xb2",  # superscript digits
    ],
)
def test_wrong_bytes_are_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack_value(data)
    with pytest.raises(DecodeError):
        unpack_value(b"\xdc\x04\x01" + b"\x00" * 1024 + data, max_elements=10_000)
