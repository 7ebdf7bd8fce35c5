"""Regular expressions whose cost is linear in the text, for filters that strangers write.

In: a pattern in the RE2 subset (no back references, no look-around). Out: does it occur anywhere in a text.
Python's `re` backtracks: `(a+)+$` against thirty letters holds the interpreter for minutes.
"""

from functools import lru_cache

from runfold_coordinator.api.regex_parser import (
    Alternation,
    Char,
    CharTest,
    Concatenation,
    Look,
    Node,
    RegexError,
    Repetition,
    parse,
)

__all__ = ["LinearRegex", "RegexError", "compile_regex"]

#: Largest program after `{m,n}` is written out, in instructions.
MAX_PROGRAM = 5000
#: Longest text looked at, in characters; what comes after is not searched.
MAX_TEXT_CHARS = 10_000
#: Remembered transitions per pattern; the memory is cleared when it is full.
MAX_REMEMBERED = 20_000

_EDGE, _NEWLINE, _WORD, _OTHER = range(4)


class _Program:
    """Instructions as parallel lists: a character test, a look-at-position, or a fork; then where to go."""

    def __init__(self) -> None:
        self.tests: list[CharTest | None] = []
        self.looks: list[str] = []
        self.nexts: list[list[int]] = []

    def add(self, *, test: CharTest | None = None, look: str = "", nexts: list[int] | None = None) -> int:
        if len(self.tests) >= MAX_PROGRAM:
            raise RegexError(
                f"the pattern is too large (over {MAX_PROGRAM} steps once repeats are written out)"
            )
        self.tests.append(test)
        self.looks.append(look)
        self.nexts.append(nexts if nexts is not None else [])
        return len(self.tests) - 1

    def emit(self, node: Node, then: int) -> int:
        """Add `node` so that it continues at `then`; return where it starts."""
        if isinstance(node, Char):
            return self.add(test=node.test, nexts=[then])
        if isinstance(node, Look):
            return self.add(look=node.kind, nexts=[then])
        if isinstance(node, Concatenation):
            for part in reversed(node.parts):
                then = self.emit(part, then)
            return then
        if isinstance(node, Alternation):
            return self.add(nexts=[self.emit(part, then) for part in node.parts])
        return self._emit_repetition(node, then)

    def _emit_repetition(self, node: Repetition, then: int) -> int:
        if node.most is None:
            fork = self.add()
            self.nexts[fork] = [self.emit(node.part, fork), then]
            start = fork
        else:
            start = then
            for _ in range(node.most - node.least):
                start = self.add(nexts=[self.emit(node.part, start), then])
        for _ in range(node.least):
            start = self.emit(node.part, start)
        return start


def _kind(char: str) -> int:
    if char == "\n":
        return _NEWLINE
    return _WORD if char.isalnum() or char == "_" else _OTHER


def _holds(look: str, left: int, right: int) -> bool:
    """Whether the position between a `left` and a `right` kind of character satisfies `look`."""
    if look == "start":
        return left == _EDGE
    if look == "end":
        return right == _EDGE
    if look == "line_start":
        return left in (_EDGE, _NEWLINE)
    if look == "line_end":
        return right in (_EDGE, _NEWLINE)
    return ((left == _WORD) != (right == _WORD)) == (look == "boundary")


class LinearRegex:
    """A compiled pattern: a Thompson automaton, its steps remembered as they are met.

    Not thread-safe in its counters, harmless when shared: two threads at worst compute one step twice.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._program = _Program()
        self._match = self._program.add()
        self._start = self._program.emit(parse(pattern), self._match)
        self._steps: dict[tuple[frozenset[int], int, str, int], frozenset[int] | None] = {}

    def search(self, text: str) -> bool:
        """Tell whether the pattern occurs anywhere in the first MAX_TEXT_CHARS characters of `text`."""
        text = text[:MAX_TEXT_CHARS]
        states: frozenset[int] = frozenset()
        left = _EDGE
        for char in text:
            right = _kind(char)
            after = self._step(states, left, char, right)
            if after is None:
                return True
            states, left = after, right
        return self._match in self._closure(states, left, _EDGE)

    def _step(self, states: frozenset[int], left: int, char: str, right: int) -> frozenset[int] | None:
        """Read one character. None: the pattern has matched before it."""
        key = (states, left, char, right)
        if key in self._steps:
            return self._steps[key]
        reached = self._closure(states, left, right)
        after: frozenset[int] | None = None
        if self._match not in reached:
            program = self._program
            after = frozenset(
                program.nexts[state][0]
                for state in reached
                if (test := program.tests[state]) is not None and test(char)
            )
        if len(self._steps) >= MAX_REMEMBERED:
            self._steps.clear()
        self._steps[key] = after
        return after

    def _closure(self, states: frozenset[int], left: int, right: int) -> set[int]:
        """Follow everything that consumes no character, a fresh start at this position included."""
        program = self._program
        reached: set[int] = set()
        waiting = [*states, self._start]
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            if program.tests[state] is not None:
                continue
            look = program.looks[state]
            if not look or _holds(look, left, right):
                waiting.extend(program.nexts[state])
        return reached


@lru_cache(maxsize=64)
def compile_regex(pattern: str) -> LinearRegex:
    """Return the compiled pattern.

    Raises:
        RegexError: It does not parse, is too large, or needs backtracking.
    """
    return LinearRegex(pattern)
