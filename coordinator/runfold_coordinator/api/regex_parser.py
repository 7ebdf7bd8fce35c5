"""Parses a regular expression of the RE2 subset into a tree. Pure; in: text, out: nodes or RegexError."""

from collections.abc import Callable
from dataclasses import dataclass

#: Longest pattern accepted, in characters.
MAX_PATTERN_CHARS = 1000
#: Largest count in `{m,n}`, as RE2.
MAX_REPEAT = 1000
_MAX_DEPTH = 50

CharTest = Callable[[str], bool]


class RegexError(ValueError):
    """The pattern is not in the accepted subset; the message says which part."""


@dataclass(frozen=True, slots=True)
class Char:
    """One character that passes `test`."""

    test: CharTest


@dataclass(frozen=True, slots=True)
class Look:
    """A position: start, end, line_start, line_end, boundary or inside (not a boundary)."""

    kind: str


@dataclass(frozen=True, slots=True)
class Concatenation:
    """All parts, one after the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Alternation:
    """Any one of the parts."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repetition:
    """The part `least` to `most` times; `most` None is without end."""

    part: "Node"
    least: int
    most: int | None


Node = Char | Look | Concatenation | Alternation | Repetition

_CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_LOOKS = {"b": "boundary", "B": "inside", "A": "start", "z": "end", "Z": "end"}


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


_CLASSES: dict[str, CharTest] = {
    "d": str.isdecimal,
    "D": lambda char: not char.isdecimal(),
    "s": str.isspace,
    "S": lambda char: not char.isspace(),
    "w": _is_word,
    "W": lambda char: not _is_word(char),
}


def parse(pattern: str) -> Node:
    """Return the tree of `pattern`.

    Raises:
        RegexError: It is too long, does not parse, or asks for what a linear engine has not.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise RegexError(
            f"the pattern has {len(pattern)} characters; at most {MAX_PATTERN_CHARS} are accepted"
        )
    return _Parser(pattern).whole()


class _Parser:
    """Recursive descent over one pattern; `_at` is the position of the next character."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0
        self._flags: frozenset[str] = frozenset()

    def whole(self) -> Node:
        node = self._alternation()
        if self._at < len(self._text):
            raise self._error("unmatched )")
        return node

    def _error(self, what: str) -> RegexError:
        return RegexError(f"{what} at position {self._at} of {self._text!r}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise self._error("the pattern ends too early")
        self._at += 1
        return char

    def _skip(self, literal: str) -> bool:
        if self._text.startswith(literal, self._at):
            self._at += len(literal)
            return True
        return False

    def _alternation(self) -> Node:
        parts = [self._concatenation()]
        while self._skip("|"):
            parts.append(self._concatenation())
        return parts[0] if len(parts) == 1 else Alternation(tuple(parts))

    def _concatenation(self) -> Node:
        parts: list[Node] = []
        while (char := self._peek()) and char not in "|)":
            part = self._atom()
            if part is not None:
                parts.append(self._repeated(part))
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts))

    def _repeated(self, part: Node) -> Node:
        count = self._count()
        if count is None:
            return part
        self._skip("?")  # lazy or greedy: the same answer to "does it occur"
        if self._peek() in ("*", "+", "?") and self._peek():
            raise self._error("nothing to repeat")
        return Repetition(part, *count)

    def _count(self) -> tuple[int, int | None] | None:
        if self._skip("*"):
            return 0, None
        if self._skip("+"):
            return 1, None
        if self._skip("?"):
            return 0, 1
        end = self._text.find("}", self._at)
        if self._peek() != "{" or end < 0:
            return None
        least, comma, most = self._text[self._at + 1 : end].partition(",")
        if not _is_count(least) or (most and not _is_count(most)):
            return None  # a brace that counts nothing is a brace, as in RE2 and Python
        low, high = int(least), (int(most) if most else None if comma else int(least))
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise self._error(f"a repeat count must be ascending and at most {MAX_REPEAT}")
        self._at = end + 1
        return low, high

    def _atom(self) -> Node | None:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return Char(self._folded(self._char_class()))
        if char == "\\":
            return self._escape()
        if char == ".":
            return Char(_any_char if "s" in self._flags else _not_newline)
        if char == "^":
            return Look("line_start" if "m" in self._flags else "start")
        if char == "$":
            return Look("line_end" if "m" in self._flags else "end")
        if char in "*+?":
            raise self._error("nothing to repeat")
        return Char(self._literal(char))

    def _group(self) -> Node | None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"groups nest deeper than {_MAX_DEPTH}")
        outer_flags = self._flags
        if self._skip("?"):
            if self._skip("P<") or (
                self._peek() == "<" and self._text[self._at + 1 : self._at + 2] not in "=!"
            ):
                end = self._text.find(">", self._at)
                if end < 0:
                    raise self._error("a group name without >")
                self._at = end + 1
            elif not self._skip(":") and self._set_flags():
                self._depth -= 1
                return None  # (?i) alone: the flags hold to the end of the enclosing group
        node = self._alternation()
        if not self._skip(")"):
            raise self._error("missing )")
        self._flags = outer_flags
        self._depth -= 1
        return node

    def _set_flags(self) -> bool:
        """Read `flags:` or `flags)`. True for the second form, which is no group."""
        turned_on = True
        while (char := self._take()) not in ":)":
            if char == "-":
                turned_on = False
            elif char in "ims":
                self._flags = self._flags | {char} if turned_on else self._flags - {char}
            else:
                raise self._error("look-around, conditions and back references are not supported: (?" + char)
        return char == ")"

    def _escape(self) -> Node:
        char = self._take()
        if char in _LOOKS:
            return Look(_LOOKS[char])
        if char in _CLASSES:
            return Char(_CLASSES[char])
        return Char(self._literal(self._escaped_char(char)))

    def _escaped_char(self, char: str) -> str:
        if char in _CONTROL:
            return _CONTROL[char]
        if char in "xu":
            digits = 2 if char == "x" else 4
            code = self._text[self._at : self._at + digits]
            if len(code) != digits or any(digit not in "0123456789abcdefABCDEF" for digit in code):
                raise self._error(f"\\{char} needs {digits} hexadecimal digits")
            self._at += digits
            return chr(int(code, 16))
        if char.isalnum():
            raise self._error(f"unknown or unsupported escape \\{char} (back references are not supported)")
        return char

    def _char_class(self) -> CharTest:
        negated = self._skip("^")
        tests: list[CharTest] = []
        while not tests or not self._skip("]"):  # a ] that comes first stands for itself
            char = self._class_item()
            if not isinstance(char, str):
                tests.append(char)
                continue
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._class_item()
                if not isinstance(last, str) or last < char:
                    raise self._error("bad character range")
                tests.append(_between(char, last))
            else:
                tests.append(_equal(char))
        return lambda each: any(test(each) for test in tests) != negated

    def _class_item(self) -> str | CharTest:
        char = self._take()
        if char != "\\":
            return char
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        return "\b" if char == "b" else self._escaped_char(char)

    def _literal(self, char: str) -> CharTest:
        return self._folded(_equal(char))

    def _folded(self, test: CharTest) -> CharTest:
        if "i" not in self._flags:
            return test
        return lambda char: test(char) or test(char.lower()) or test(char.upper())


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _any_char(_char: str) -> bool:
    return True


def _not_newline(char: str) -> bool:
    return char != "\n"


def _equal(expected: str) -> CharTest:
    return lambda char: char == expected


def _between(first: str, last: str) -> CharTest:
    return lambda char: first <= char <= last
