"""Short texts for columns, and users' texts that can do nothing to a terminal."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runfold.top.texts import age_text, clean, count_text, fitted, number, share_text, size_text, span_text

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("NaN")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.44, "0.4s"), (9.96, "10s"), (61, "61s"), (200, "3m20"), (7500, "2h05"), (4 * 86400 + 3 * 3600, "4d03"),
     (-5, "0.0s"), (None, "-"), ("NaN", "-"), (math.inf, "-")],
)  # fmt: skip
def test_ages(seconds, text):
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0003124, "312us"), (0.00421, "4.21ms"), (0.99994, "1s"), (1.25, "1.25s"), (62.13, "62.1s"), (100, "100s"),
     (1000, "16m40"), (0, "0us"), (-1, "-"), (None, "-")],
)  # fmt: skip
def test_spans(seconds, text):
    assert span_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9_999_999, "9999999"), (12_345_678, "12.3M"), (4.2e10, "42.0G"), (-3, "-3"), (None, "-")],
)
def test_counts(count, text):
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0.0k"), (812_000, "812k"), (47e6, "47M"), (1.24e9, "1.2G"), (3e12, "3T"), (None, "-"), (-1, "-")],
)
def test_sizes(size, text):
    assert size_text(size) == text


@given(ANYTHING)
def test_whatever_the_value_the_text_is_short(value):
    for made, most in ((age_text, 6), (span_text, 6), (count_text, 8), (size_text, 6)):
        assert 0 < len(made(value)) <= most


@given(ANYTHING, ANYTHING)
def test_any_memory_gives_a_text(used, total):
    assert share_text(used, total)


def test_a_bool_is_no_number():
    assert number(True) is None and number("1") is None and number(1) == 1.0


@given(st.text(alphabet=st.characters(), max_size=30), st.integers(0, 20), st.booleans())
def test_a_fitted_text_fills_its_width_exactly(text, width, right):
    assert cell_len(fitted(clean(text), width, right=right)) == width


@pytest.mark.parametrize(
    "text", ["a\x1b[31mb", "a\nb\rc\td", "\x00\x07", "a\u202eb", "\ud800", "\ufeff", "\u200d"]
)
def test_control_characters_are_shown_and_not_sent(text):
    assert clean(text).isprintable()


def test_letters_of_all_alphabets_stay():
    assert clean("Größe 学習 é 🚀") == "Größe 学習 é 🚀"


def test_piled_up_marks_are_cut():
    assert len(clean("a" + "̀" * 50)) == 3


def test_wide_letters_are_cut_to_the_cell():
    assert fitted("学習率", 4) == "学 …"
    assert fitted("学習率", 6) == "学習率"
