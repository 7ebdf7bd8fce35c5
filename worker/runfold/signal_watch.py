"""SignalWatch: learns of stop signals and lets them take their effect.

Python runs its handlers only when the main thread comes back from C code. A signal that would have killed at
once still does, a second later at most.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

#: How long the main thread may take to run its handler before a watching thread acts in its place.
HANDLER_GRACE_S = 1.0


class _Handler:
    """Our handler for one signal. Scripts that put their own in its place may still call it, at any time."""

    def __init__(self, watch: SignalWatch, previous: Any) -> None:
        self.previous = previous
        self._watch = watch

    def __call__(self, signum: int, frame: Any) -> None:
        self._watch.on_signal(self, signum, frame)


class SignalWatch:
    """Handlers for signals that had their default effect or a Python handler; others are left alone.

    Ctrl-C that raises KeyboardInterrupt is left alone too: asyncio takes it over only where it finds Python's
    own handler. `install` and `uninstall` belong to the main thread.
    """

    def __init__(self, tell: Callable[[int, Callable[[], None]], None]) -> None:
        self._tell = tell
        #: Signals whose former handlers run now: what comes back to us through them was told already.
        self._passing_on: set[int] = set()
        self._handled = threading.Event()
        self._wakeup: tuple[int, int] | None = None
        self._old_wakeup_fd = -1

    def install(self, signals: tuple[signal.Signals, ...]) -> None:
        """Take the signals whose present effect we can carry out ourselves."""
        for signum in signals:
            current = signal.getsignal(signum)
            if isinstance(current, _Handler) or current in (signal.SIG_IGN, None, signal.default_int_handler):
                continue  # ours; ignored on purpose (nohup); or written in C: we could not call it
            try:
                signal.signal(signum, _Handler(self, current))
            except (ValueError, OSError):
                continue
        if self._wakeup is None and any(map(self._is_to_be_killed_by, signals)):
            self._watch()

    def uninstall(self, signals: tuple[signal.Signals, ...]) -> None:
        """Put back what was there, where it is still ours to put back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in signals:
            current = signal.getsignal(signum)
            if isinstance(current, _Handler):
                signal.signal(signum, current.previous)
        self._unwatch()

    def forget_in_child(self, signals: tuple[signal.Signals, ...]) -> None:
        """In the child of a fork: as if we had never been here."""
        wakeup = self._wakeup
        self.uninstall(signals)
        if wakeup is not None:
            os.close(wakeup[0])  # the thread that reads it stayed in the parent

    def on_signal(self, handler: _Handler, signum: int, frame: Any) -> None:
        """Tell of the signal, then do what was done before `handler` was there."""
        self._handled.set()
        if signum in self._passing_on:
            self._carry_out(handler, signum, frame)
        else:
            self._tell(signum, lambda: self._carry_out(handler, signum, frame))

    def _carry_out(self, handler: _Handler, signum: int, frame: Any) -> None:
        if callable(handler.previous):
            is_outer = signum not in self._passing_on
            self._passing_on.add(signum)
            try:
                handler.previous(signum, frame)
            finally:
                if is_outer:
                    self._passing_on.discard(signum)
        elif signal.getsignal(signum) is handler:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        # Else the script's own handler has called us: without us there was nothing here for it to call.

    def _watch(self) -> None:
        """Start the thread that acts when the main thread is stuck in C code, as a hanging collective."""
        try:
            reads, writes = os.pipe()
            os.set_blocking(writes, False)
            self._old_wakeup_fd = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        except (OSError, ValueError):
            return
        self._wakeup = (reads, writes)
        forward = self._old_wakeup_fd
        watch = threading.Thread(
            target=self._wait_for_signals, args=(reads, forward), name="runfold-signals", daemon=True
        )
        try:
            watch.start()
        except RuntimeError:  # the process can have no more threads
            self._unwatch()
            os.close(reads)

    def _unwatch(self) -> None:
        if self._wakeup is None:
            return
        _reads, writes = self._wakeup
        self._wakeup = None
        try:
            found = signal.set_wakeup_fd(self._old_wakeup_fd)
            if found not in (writes, -1):
                signal.set_wakeup_fd(found)  # somebody (asyncio) took it over after us
        except (OSError, ValueError):
            pass
        os.close(writes)  # the thread finds the end of the pipe, closes its side, and ends

    def _wait_for_signals(self, reads: int, forward: int) -> None:
        while True:
            try:
                numbers = os.read(reads, 64)
            except OSError:
                return
            if not numbers:
                os.close(reads)
                return
            if forward >= 0:
                try:
                    os.write(forward, numbers)
                except OSError:
                    pass
            for signum in numbers:
                if self._is_to_be_killed_by(signum):
                    self._act_if_nobody_does(signum)

    def _act_if_nobody_does(self, signum: int) -> None:
        self._handled.clear()
        if self._handled.wait(HANDLER_GRACE_S) or not self._is_to_be_killed_by(signum):
            return  # the main thread runs our handler, or the script has put its own in our place
        self._tell(signum, lambda: _die_by(signum))

    def _is_to_be_killed_by(self, signum: int) -> bool:
        current = signal.getsignal(signum)
        return isinstance(current, _Handler) and current.previous is signal.SIG_DFL


def _die_by(signum: int) -> None:
    """Give the signal back its default effect, from a thread that is not the main one, and let it have it."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signum, None)  # SIG_DFL
    os.kill(os.getpid(), signum)
