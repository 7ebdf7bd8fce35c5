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


class SignalWatch:
    """Handlers for signals that had their default effect or a Python handler; others are left alone.

    `install` and `uninstall` belong to the main thread.
    """

    def __init__(self, tell: Callable[[int, Callable[[], None]], None]) -> None:
        self._tell = tell
        self._previous: dict[int, Any] = {}
        self._handled = threading.Event()
        self._wakeup: tuple[int, int] | None = None
        self._old_wakeup_fd = -1

    def install(self, signals: tuple[signal.Signals, ...]) -> None:
        """Take the signals whose present effect we can carry out ourselves."""
        for signum in signals:
            current = signal.getsignal(signum)
            if current == self._on_signal or current is signal.SIG_IGN or current is None:
                continue  # ours; ignored on purpose (nohup); or written in C: we could not call it
            try:
                signal.signal(signum, self._on_signal)
            except (ValueError, OSError):
                continue
            self._previous[signum] = current
        if self._wakeup is None and signal.SIG_DFL in self._previous.values():
            self._watch()

    def uninstall(self) -> None:
        """Put back what was there, where it is still ours to put back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum, previous in self._previous.items():
            if signal.getsignal(signum) == self._on_signal:
                signal.signal(signum, previous)
        self._previous.clear()
        self._unwatch()

    def forget_in_child(self) -> None:
        """In the child of a fork: as if we had never been here."""
        wakeup = self._wakeup
        self.uninstall()
        if wakeup is not None:
            os.close(wakeup[0])  # the thread that reads it stayed in the parent

    def _on_signal(self, signum: int, frame: Any) -> None:
        self._handled.set()
        previous = self._previous.get(signum, signal.SIG_DFL)
        self._tell(signum, lambda: self._carry_out(signum, previous, frame))

    def _carry_out(self, signum: int, previous: Any, frame: Any) -> None:
        if callable(previous):
            previous(signum, frame)
            return
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

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
        threading.Thread(
            target=self._wait_for_signals, args=(reads, forward), name="runfold-signals", daemon=True
        ).start()

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
        return self._previous.get(signum) is signal.SIG_DFL and signal.getsignal(signum) == self._on_signal


def _die_by(signum: int) -> None:
    """Give the signal back its default effect, from a thread that is not the main one, and let it have it."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signum, None)  # SIG_DFL
    os.kill(os.getpid(), signum)
