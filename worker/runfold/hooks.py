"""What the process does outside of our calls: exit, exceptions, signals, fork. Tells it to the active runs.

Never changes what would have happened: hooks chain, signals take their effect, exit statuses stay.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any, Protocol

from runfold import terminal
from runfold.process_end import Ending, EndWatch, of_exception
from runfold.signal_watch import SignalWatch

#: Signals by which people and schedulers stop a process.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Subject(Protocol):
    """A run, as far as hooks need it. None of the calls may raise."""

    def tell_ending(self, ending: Ending) -> None:
        """The process is about to end that way; more may be said yet."""

    def tell_exit(self, ending: Ending) -> None:
        """The interpreter shuts down: say so, wait for nobody. Code None: it is yet to be learnt."""

    def await_delivery(self, since_mono_s: float) -> None:
        """All runs have ended: wait for this one to be stored, for what is left of its time since then."""

    def tell_signal(self, signum: int) -> None:
        """A signal came in."""

    def defer(self, action: Callable[[], None]) -> bool:
        """Run `action` after the append under way in this thread; False when there is none."""
        ...

    def prepare_fork(self) -> None:
        """This process forks now."""

    def reset_after_fork(self) -> None:
        """This is the child of a fork."""


class ProcessHooks:
    """One per process. Installed with the first run, in the main thread or without signals elsewhere."""

    def __init__(self) -> None:
        self._subjects: list[Subject] = []
        self._end: EndWatch | None = None
        self._previous_excepthook: Callable[..., Any] | None = None
        self._signals = SignalWatch(self._on_signal)
        self._is_registered = False

    def add(self, subject: Subject, *, record_signals: bool) -> None:
        """Begin to tell `subject`; hooks are installed with the first one."""
        if all(other is not subject for other in self._subjects):
            self._subjects.append(subject)
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self._at_exit)
            os.register_at_fork(before=self._before_fork, after_in_child=self._after_fork)
        if self._end is None:
            self._end = EndWatch()
            self._wrap_exit()
            self._wrap_excepthook()
        if record_signals and threading.current_thread() is threading.main_thread():
            # In a notebook or at a prompt, SIGINT stops a cell and not the process.
            self._signals.install(STOP_SIGNALS[1:] if _is_interactive() else STOP_SIGNALS)

    def remove(self, subject: Subject) -> None:
        """Stop telling `subject`. Signals go back to what they were with the last one."""
        self._subjects = [other for other in self._subjects if other is not subject]
        if not self._subjects:
            self._signals.uninstall(STOP_SIGNALS)

    def _wrap_exit(self) -> None:
        previous = sys.exit
        end = self._end

        def exit(status: Any = None, /) -> Any:  # noqa: A001  # it stands in for sys.exit
            try:
                previous(status)
            except SystemExit as error:
                if end is not None and self._subjects:  # else nobody asks, and it would keep frames alive
                    end.note_exit(error)
                raise error.with_traceback(None) from None

        sys.exit = exit

    def _wrap_excepthook(self) -> None:
        previous = self._previous_excepthook = sys.excepthook

        def excepthook(
            kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
        ) -> None:
            try:
                # At a prompt, an exception ends a line and not the process.
                if self._end is not None and not hasattr(sys, "ps1") and self._subjects:
                    self._end.note_exception(error)
                    ending = of_exception(error)
                    for subject in self._subjects:
                        if isinstance(error, KeyboardInterrupt):
                            subject.tell_signal(signal.SIGINT)
                        subject.tell_ending(ending)
            finally:
                previous(kind, error, trace)

        sys.excepthook = excepthook

    def _at_exit(self) -> None:
        ending = self._end.find() if self._end is not None else Ending(0, "atexit")
        subjects = self._subjects[::-1]
        for subject in subjects:
            subject.tell_exit(ending)
        self._subjects = []
        since_mono_s = time.monotonic()
        try:
            for subject in subjects:
                subject.await_delivery(since_mono_s)
        except KeyboardInterrupt:
            # The script has come to its end before: its exit status stays.
            terminal.info("interrupted while runs were delivered; what is left is delivered later")
        if self._end is not None:
            self._end.keep_interrupt(ending)
            self._end.forget()

    def _on_signal(self, signum: int, then: Callable[[], None]) -> None:
        """Record the signal, then let it take its effect; after the append that it interrupted, if any."""
        for subject in self._subjects:
            if subject.defer(lambda: self._on_signal(signum, then)):
                return
        for subject in self._subjects:
            subject.tell_signal(signum)
        then()

    def _before_fork(self) -> None:
        for subject in self._subjects:
            subject.prepare_fork()

    def _after_fork(self) -> None:
        self._signals.forget_in_child(STOP_SIGNALS)
        for subject in self._subjects:
            subject.reset_after_fork()
        self._subjects = []


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or terminal.is_notebook()


hooks = ProcessHooks()
