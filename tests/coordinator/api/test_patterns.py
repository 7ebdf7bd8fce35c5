"""Patterns of filters: found or not, linear where `re` explodes, refused with a reason."""

import time

import pytest

from runfold_coordinator.api.patterns import Pattern, PatternError, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("^run-[0-9]{2}$", "run-12", True), ("^run-[0-9]{2}$", "run-123", False), ("(?i)SEA", "calm-sea", True),
     ("(?P<name>ab)+c", "xababc", True), ("a{x}", "a{x}", True), ("é.", "caféine", True),
     ("a.c", "a\nc", False), ("(?s)a.c", "a\nc", True), (r"\bsea\b", "calm-sea-3", True), ("", "", True),
     ("b$", "a\ud800b", True), ("a\0b", "a\0b", True)],
)  # fmt: skip
def test_a_pattern_is_searched_anywhere_in_the_text(pattern: str, text: str, found: bool) -> None:
    assert Pattern(pattern).search(text) is found


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*$", "(a*)*b", "a*a*a*a*a*a*a*b", "(.*a){20}", "(a|b)*a(a|b){300}c", "(.{30}){30}x"],
)
def test_patterns_that_explode_in_re_stay_linear(pattern: str) -> None:
    began_s = time.thread_time()
    Pattern(pattern).search("a" * 20_000 + "!")
    assert time.thread_time() - began_s < 5


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [(r"(a)\1", "escape"), ("(?=a)", "perl operator"), ("(?<!a)b", "perl operator"), ("(", r"missing \)"),
     (")", r"unexpected \)"), ("[a", "missing ]"), ("*a", "no argument"), ("a{1001}", "repetition size"),
     ("(a{1000}){1000}", "repetition size"), (r"\pL{1,1000}", "too large"), ("[b-a]", "range"), ("\\", "trailing"),
     ("a" * 1001, "at most 1000"), ("\ud800", "surrogate")],
)  # fmt: skip
def test_what_is_not_supported_is_refused_with_a_reason(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=reason):
        Pattern(pattern)


def test_a_refused_pattern_writes_nothing_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PatternError):
        Pattern("(")
    assert capfd.readouterr() == ("", "")


def test_only_the_head_of_a_long_text_is_searched() -> None:
    assert not Pattern("needle").search("x" * 10_000 + "needle")


def test_compiled_patterns_are_reused() -> None:
    assert compile_pattern("abc") is compile_pattern("abc")
