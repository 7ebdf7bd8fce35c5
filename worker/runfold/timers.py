"""Timers: where a process spends its time, summed up between rows and merged into the row that ends each.

In: `with run.timer("data")`. Out: `timing/<name>` cells, and the phase in the spool's header, from which the
node agent tells what a process that says nothing is doing. Nothing here raises but for a wrong argument.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Mapping
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from runfold import terminal
from runfold.spool.phase import INDEX_SHIFT, MAX_NAMES, PHASE_WORD_AT, TIME_SHIFT, store_name

#: Keys that timers make; no timer may have these names.
PREFIX: Final = "timing/"
STEP, COLLECTIVE, BUSY = "step", "collective", "busy"
RESERVED: Final = frozenset({STEP, COLLECTIVE, BUSY})
#: Threads whose sums are kept apart; above, those of ended threads are put together.
_MAX_LANES: Final = 16

F = TypeVar("F", bound=Callable[..., Any])


class _Lane:
    """What one thread has timed. Sums only grow, and only its own thread changes them."""

    __slots__ = ("since_ns", "stack", "sums", "thread", "words")

    def __init__(self) -> None:
        self.sums = [0] * (MAX_NAMES + 1)
        #: Numbers of the timers that the thread is inside of, the innermost last.
        self.stack: list[int] = []
        self.since_ns = 0
        #: The header's words, where this thread's phase is to be seen there.
        self.words: memoryview | None = None
        self.thread = threading.current_thread()


class Timer:
    """A named phase: a context manager, or a decorator of a function. Shared by all uses of the name.

    Of nested timers the innermost counts.
    """

    __slots__ = ("_local", "_number", "_timers", "_word", "name")

    def __init__(self, timers: Timers, name: str, number: int) -> None:
        self.name = name
        self._timers = timers
        self._local = timers.local
        self._number = number
        self._word = number << INDEX_SHIFT

    def __enter__(self) -> Self:
        try:
            lane = self._local.lane
        except AttributeError:
            lane = self._timers.new_lane()
        now_ns = monotonic_ns()
        stack = lane.stack
        if stack:
            lane.sums[stack[-1]] += now_ns - lane.since_ns
        stack.append(self._number)
        lane.since_ns = now_ns
        if lane.words is not None:
            try:
                lane.words[PHASE_WORD_AT] = self._word | now_ns >> TIME_SHIFT
            except ValueError:  # the spool was closed
                lane.words = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            lane = self._local.lane
        except AttributeError:  # entered in the parent of this process, or in another thread
            return
        now_ns = monotonic_ns()
        stack = lane.stack
        if not stack:
            return
        lane.sums[stack[-1]] += now_ns - lane.since_ns
        lane.since_ns = now_ns
        if stack[-1] == self._number:
            stack.pop()
        elif self._number in stack:  # a generator was left in the middle: phases that overlap
            stack.reverse()
            stack.remove(self._number)
            stack.reverse()
        if lane.words is not None:
            try:
                now = now_ns >> TIME_SHIFT
                lane.words[PHASE_WORD_AT] = stack[-1] << INDEX_SHIFT | now if stack else 0
            except ValueError:
                lane.words = None

    def __call__(self, function: F) -> F:
        """Return `function` with its time counted; TypeError for what returns before its work is done."""
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError("a timer decorates plain functions; use `with run.timer(...)` inside of this one")

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return timed  # type: ignore[return-value]  # the same signature


class NoTimer(Timer):
    """Times nothing."""

    def __init__(self) -> None:
        self.name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def __call__(self, function: F) -> F:
        """Return the function as it is."""
        return function


class Timers:
    """All timers of a run in this process. Thread-safe, and safe in signal handlers."""

    def __init__(
        self, log: Callable[[Any, Any, Any], None], header_words: Callable[[], memoryview | None]
    ) -> None:
        """Take what appends a row, and the words of the spool's header, None where it has none."""
        self._log = log
        self._header_words = header_words
        self._plain: dict[str, Timer] = {}
        self._collective: dict[str, Timer] = {}
        self._names: list[str] = [""] * (MAX_NAMES + 1)
        self._collective_numbers: frozenset[int] = frozenset()
        self._numbers = itertools.count(1)
        self._count = 0
        #: Whether rows also say `timing/busy`: what is not spent in collectives.
        self.tells_busy = False
        self.local = threading.local()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lanes: list[_Lane] = []
        #: The thread whose phase the header shows: the one that logs.
        self._shown: _Lane | None = None
        #: Sums of ended threads; what the rows so far have told.
        self._ended = [0] * (MAX_NAMES + 1)
        self._told = [0] * (MAX_NAMES + 1)
        self._row_ns = monotonic_ns()
        self._last_step = -1

    def reset_after_fork(self) -> None:
        """In the child of a fork: its time begins now, and the header of its parent is not its own."""
        self.local.__dict__.clear()
        self._begin()

    def get(self, name: str, *, collective: bool = False) -> Timer:
        """Return the timer of that name; see Run.timer."""
        known = self._collective if collective else self._plain
        found = known.get(name) if type(name) is str else None
        return found if found is not None else self._make(name, known, collective=collective)

    def _make(self, name: object, known: dict[str, Timer], *, collective: bool) -> Timer:
        if not isinstance(name, str) or not name:
            raise TypeError(f"a timer's name is a str that is not empty, not {name!r}")
        if name in RESERVED:
            raise ValueError(
                f"timer({name!r}): {PREFIX}{name} is what runfold itself logs; take another name"
            )
        name = str(name)
        number = next(self._numbers)
        if number > MAX_NAMES:
            terminal.warn_once(
                f"more than {MAX_NAMES} timers: timer({name!r}) and further ones count nothing"
            )
            return known.setdefault(name, NoTimer()) if len(known) < 4 * MAX_NAMES else NoTimer()
        self._names[number] = name
        if collective:
            self._collective_numbers |= {number}
        self._count = max(self._count, number)
        timer = known.setdefault(name, Timer(self, name, number))
        self._show_names(self._shown.words if self._shown is not None else None)
        return timer

    def new_lane(self) -> _Lane:
        """Begin to time this thread."""
        lane = self.local.lane = _Lane()
        self._lanes.append(lane)
        if self._shown is None:
            self._show(lane)
        return lane

    def _show(self, lane: _Lane) -> None:
        """Have the header show the phases of this thread, and of no other."""
        shown, self._shown = self._shown, lane
        if shown is not None:
            shown.words = None
        words = self._header_words()
        self._show_names(words)
        lane.words = words

    def _show_names(self, words: memoryview | None) -> None:
        if words is None:
            return
        try:
            for number, name in enumerate(self._names[1 : self._count + 1], 1):
                if name:
                    store_name(words, number, name, is_collective=number in self._collective_numbers)
        except ValueError:  # the spool was closed
            return

    # --- rows -------------------------------------------------------------------------------------------

    def log(self, data: Any, step: Any = None, commit: Any = None, sync: Any = None) -> None:  # noqa: ARG002
        """Append one row, with the timings since the last one if this call ends a row. See Run.log."""
        if not self._lock.acquire(
            blocking=False
        ):  # another thread's row, or one that this handler interrupts
            self._log(data, step, commit)
            return
        try:
            if not self._ends_a_row(data, step, commit):
                self._log(data, step, commit)
                return
            now_ns = monotonic_ns()
            sums = self._sums(now_ns)
            # The user's own key of that name wins.
            self._log({**self._cells(sums, now_ns), **data}, step, commit)
            self._told, self._row_ns = sums, now_ns
            if step is not None:
                self._last_step = step
        finally:
            self._lock.release()

    def _ends_a_row(self, data: Any, step: Any, commit: Any) -> bool:
        """Return whether timings go with this call: it commits, or begins a later step than any before.

        A wrong argument is the recorder's to refuse.
        """
        if not isinstance(data, Mapping) or (commit is not None and not commit):
            return False
        if step is None:
            return True
        return not isinstance(step, bool) and hasattr(step, "__index__") and step > self._last_step

    def _sums(self, now_ns: int) -> list[int]:
        """Return all sums so far, ns by number; what this thread is inside of counts up to now."""
        lane = getattr(self.local, "lane", None)
        if lane is not None:
            if lane.stack:
                lane.sums[lane.stack[-1]] += now_ns - lane.since_ns
                lane.since_ns = now_ns
            if lane.words is None:
                self._show(lane)
        if len(self._lanes) > _MAX_LANES:
            self._put_together()
        sums = self._ended[: self._count + 1]
        for each in self._lanes:
            sums = [before + more for before, more in zip(sums, each.sums, strict=False)]
        return sums

    def _put_together(self) -> None:
        ended = [lane for lane in self._lanes if not lane.thread.is_alive()]
        for lane in ended:
            self._ended = [before + more for before, more in zip(self._ended, lane.sums, strict=True)]
            self._lanes.remove(lane)

    def _cells(self, sums: list[int], now_ns: int) -> dict[str, float]:
        cells: dict[str, float] = {}
        told, names, collective_numbers = self._told, self._names, self._collective_numbers
        collective_ns = 0
        for number in range(1, self._count + 1):
            spent_ns = sums[number] - told[number]
            if spent_ns <= 0:
                continue
            key = PREFIX + names[number]
            cells[key] = cells.get(key, 0.0) + spent_ns / 1e9
            if number in collective_numbers:
                collective_ns += spent_ns
        step_ns = now_ns - self._row_ns
        cells[PREFIX + STEP] = step_ns / 1e9
        if collective_numbers:
            cells[PREFIX + COLLECTIVE] = collective_ns / 1e9
        if self.tells_busy:
            cells[PREFIX + BUSY] = max(0, step_ns - collective_ns) / 1e9
        return cells
