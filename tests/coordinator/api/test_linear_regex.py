"""The linear engine gives `re`'s answers on the subset, and stays linear where `re` does not."""

import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runfold_coordinator.api.linear_regex import LinearRegex, RegexError, compile_regex

ATOMS = st.sampled_from(
    ["a", "b", "_", "1", " ", ".", r"\d", r"\w", r"\s", r"\W", r"\b", r"\B", "[ab]", "[^a]", "[a-c1]", r"[\w-]",
     r"\.", "é", "A", r"\n", "[]a]", "^", "$", r"\A"]
)  # fmt: skip
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)
FLAGS = st.sampled_from(["", "(?i)", "(?s)", "(?m)", "(?im)"])
TEXTS = st.text(alphabet="abcABC_1 .-é\n]", max_size=12)


def as_python(pattern: str) -> str:
    """`$` is the end and nothing else here, as in RE2; Python's also accepts a final newline."""
    multiline = re.match(r"\(\?i?s?m", pattern) is not None
    return pattern if multiline else pattern.replace("$", r"\Z")


@settings(max_examples=600, deadline=None)
@given(FLAGS, PATTERNS, TEXTS)
def test_the_answer_is_that_of_re(flags: str, body: str, text: str) -> None:
    assume(text or r"\B" not in body)  # an empty text has no \B before Python 3.14
    expected = re.search(as_python(flags + body), text) is not None
    assert LinearRegex(flags + body).search(text) == expected


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "a*a*a*a*a*a*a*b", "(.*a){20}", "(a|aa)+$"]
)
def test_patterns_that_explode_in_re_stay_linear(pattern: str) -> None:
    began_s = time.perf_counter()
    LinearRegex(pattern).search("a" * 5000 + "!")
    assert time.perf_counter() - began_s < 5


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", "(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", "(", ")", "[a", "a**", "*a", "a{3,2}", "a{1001}", "\\",
     "(a{1000}){1000}", "(" * 60 + ")" * 60, "a" * 1001, r"\q", r"\x1", "(?P<n", "[b-a]", "(?x)a"],
)  # fmt: skip
def test_what_is_not_supported_is_refused_with_a_reason(pattern: str) -> None:
    with pytest.raises(RegexError, match=r"\w"):
        LinearRegex(pattern)


def test_named_groups_and_literal_braces_are_accepted() -> None:
    assert LinearRegex("(?P<name>ab)+c").search("xababc")
    assert LinearRegex("a{x}").search("a{x}")
    assert not LinearRegex("^run-[0-9]{2}$").search("run-123")


def test_only_the_head_of_a_long_text_is_searched() -> None:
    assert not LinearRegex("needle").search("x" * 10_000 + "needle")


def test_compiled_patterns_are_reused() -> None:
    assert compile_regex("abc") is compile_regex("abc")
