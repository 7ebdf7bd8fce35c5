"""Regular expressions of filters that strangers write: RE2's, whose cost is linear in the text.

In: a pattern in RE2's syntax (no back references, no look-around). Out: does it occur anywhere in a text.
Python's `re` backtracks: `(a+)+$` against thirty letters holds the interpreter for minutes.
"""

from __future__ import annotations

from functools import lru_cache

import re2

__all__ = ["Pattern", "PatternError", "compile_pattern"]

#: Longest pattern accepted, in characters.
MAX_PATTERN_CHARS = 1000
#: Longest text looked at, in characters; what comes after is not searched.
MAX_TEXT_CHARS = 10_000
#: What RE2 may hold for one pattern: two thirds bound its program, the rest the states it remembers.
MAX_PATTERN_BYTES = 1024 * 1024


class PatternError(ValueError):
    """The pattern is too long or too large, or is not RE2's; the message says which part."""


class Pattern:
    """A compiled pattern. Thread-safe."""

    def __init__(self, pattern: str) -> None:
        """Compile.

        Raises:
            PatternError: It does not parse, or breaks a limit.
        """
        if len(pattern) > MAX_PATTERN_CHARS:
            raise PatternError(
                f"the pattern has {len(pattern)} characters; at most {MAX_PATTERN_CHARS} are accepted"
            )
        options = re2.Options()
        options.max_mem = MAX_PATTERN_BYTES
        options.never_capture = True
        options.log_errors = False  # they are told to whoever asked
        try:
            self._compiled = re2.compile(pattern, options)
        except UnicodeEncodeError as error:
            raise PatternError("the pattern holds a lone surrogate") from error
        except re2.error as error:
            raise PatternError(_reason(error)) from error

    def search(self, text: str) -> bool:
        """Tell whether the pattern occurs anywhere in the first MAX_TEXT_CHARS characters of `text`."""
        # Bytes spare RE2's wrapper the counting of characters, and can hold no lone surrogate.
        return self._compiled.search(text[:MAX_TEXT_CHARS].encode(errors="replace")) is not None


def _reason(error: re2.error) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Pattern:
    """Return the compiled pattern, from memory if it was asked for lately.

    Raises:
        PatternError: It does not parse, or breaks a limit.
    """
    return Pattern(pattern)
