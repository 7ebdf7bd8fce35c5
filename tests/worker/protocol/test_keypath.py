"""Key paths and their texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.keypath import check_path, decode_path, display_name, encode_path, parse_name
from runfold.protocol.limits import MAX_DEPTH, MAX_KEY_BYTES

PATHS = st.lists(st.text() | st.text("ab.\\"), min_size=1, max_size=5).map(tuple)


@given(PATHS)
def test_a_path_comes_back_from_its_text(path: tuple[str, ...]) -> None:
    assert decode_path(encode_path(path)) == path


@given(PATHS, PATHS)
def test_two_paths_never_share_a_text(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (encode_path(one) == encode_path(other)) == (one == other)


def test_a_path_without_parts_has_no_text() -> None:
    with pytest.raises(DecodeError):
        encode_path(())


@pytest.mark.parametrize("text", ["a\\", "a\\b", "\\\\\\"])
def test_a_text_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        decode_path(text)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("loss", ("loss",)),
        ("a.b", ("a", "b")),
        ("a\\.b", ("a.b",)),
        ("a\\.b.c", ("a.b", "c")),
        ("a\\b", ("a\\b",)),
        ("a\\", ("a\\",)),
        ("a\\.", ("a.",)),
        ("a.", ("a", "")),
        ("", ("",)),
        (".", ("", "")),
        ("val/acc", ("val/acc",)),
    ],
)
def test_names_that_users_type(name: str, path: tuple[str, ...]) -> None:
    assert parse_name(name) == path


def test_display_names_may_be_shared() -> None:
    assert display_name(("a", "b")) == display_name(("a.b",)) == "a.b"


@given(st.text())
def test_every_name_is_some_path(name: str) -> None:
    assert parse_name(name)


def test_the_length_of_a_key_is_limited_in_bytes() -> None:
    longest = ("é" * (MAX_KEY_BYTES // 2),)
    assert check_path(longest) == longest
    with pytest.raises(LimitError):
        check_path(("é" * (MAX_KEY_BYTES // 2) + "x",))
    with pytest.raises(LimitError):
        check_path(("." * (MAX_KEY_BYTES // 2 + 1),))


def test_the_number_of_parts_is_limited() -> None:
    with pytest.raises(LimitError):
        check_path(("a",) * (MAX_DEPTH + 1))
