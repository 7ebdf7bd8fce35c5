"""RunEnd: how a run ends in this process, by finish(), `with`, exit, exception or signal. Part of Run."""

from __future__ import annotations

import operator
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from runfold import terminal
from runfold.hooks import hooks
from runfold.process_end import Ending, of_exception, of_system_exit, write_status_at_last
from runfold.protocol.identity import Identity
from runfold.protocol.records import ExitRecord, RecordKind, SignalRecord
from runfold.run_console import RunConsole
from runfold.run_spool import share_step


class RunEnd(RunConsole):
    """The end of a run, and with it of its console. What hooks call never raises."""

    _on_finish: Callable[[Any, int | None], None] | None

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End this process's part: say the exit code, then wait until everything is stored, 30 s at most.

        What is not delivered by then goes on being delivered by the node agent. A second call does nothing.

        Raises:
            TypeError: The exit code is no integer; ValueError: one of more than 32 bits.
        """
        said = self._said_ending
        code = exit_code or (said.code if said is not None and said.code else 0)
        self._finish(Ending(_exit_code(code), "finish"), quiet=bool(quiet))

    def __enter__(self) -> Self:
        """Return the run; leaving the block finishes it, and an exception marks it failed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            ending = Ending(0, "context")
        elif isinstance(error, SystemExit):
            ending = of_system_exit(error.code, "context")
        else:
            if isinstance(error, KeyboardInterrupt):
                self.tell_signal(signal.SIGINT)
            ending = replace(of_exception(error, "context"), code=1)
        self._finish(ending)

    def _begin_end(self) -> None:
        #: The ending that an EXIT record has told already.
        self._said_ending: Ending | None = None
        self._end_of_child: Any = None
        self._is_over = threading.Event()

    def _on_open(self, identity: Identity) -> None:
        super()._on_open(identity)
        hooks.add(self, record_signals=self._settings.x_record_signals)
        self._end_of_child = watch_end_of_child(self._finish_in_child)

    def _finish(self, ending: Ending, *, quiet: bool = False) -> None:
        if self._recorder.is_ended:
            return
        self._end(ending)
        self._wait(quiet=quiet)

    def _end(self, ending: Ending) -> None:
        try:
            self._before_end()
        finally:  # whatever stops that, also an interrupt: how the process ended is said
            if self._said_ending is not None:
                self._recorder.end(None)
            elif ending.code is None:
                self._recorder.end_with_status(self._exit_payload(ending), write_status_at_last)
            else:
                self._recorder.end(self._exit_payload(ending))
            self._leave(ending.code)

    def _leave(self, code: int | None = 0) -> None:
        super()._leave(code)
        hooks.remove(self)
        self._end_console()
        if self._end_of_child is not None:
            self._end_of_child.cancel()
        self._is_over.set()
        self._spool.leave()
        if self._on_finish is not None:
            self._on_finish(self, code)

    def _wait(self, *, quiet: bool = False, since_mono_s: float | None = None) -> None:
        super()._wait(quiet=quiet, since_mono_s=since_mono_s)
        spool = self._recorder.spool
        if spool is None:
            return
        since_mono_s = time.monotonic() if since_mono_s is None else since_mono_s
        quiet = quiet or self._settings.quiet
        in_time = self._spool.wait(spool.last_seq, quiet=quiet, since_mono_s=since_mono_s)
        if in_time and self._console is not None:
            self._spool.wait_for_console(*self._console, since_mono_s=since_mono_s)
        if not in_time and self._settings.finish_timeout_raises and not self._membership.is_offline:
            raise TimeoutError(f"run {self._membership.identity.run_id} was not stored in time")

    def _exit_payload(self, ending: Ending) -> bytes:
        runtime_s = max((time.time_ns() - self._spool.identity.started_unix_ns) / 1e9, 0.0)
        return ExitRecord(ending.code or 0, ending.how, ending.exception, ending.traceback, runtime_s).pack()

    # -- called by hooks --

    def tell_ending(self, ending: Ending) -> None:
        """Record an uncaught exception at once: what follows may hang."""
        try:
            if self._said_ending is None and not self._recorder.is_ended:
                self._said_ending = ending
                self._recorder.append(RecordKind.EXIT, self._exit_payload(ending))
        except Exception as error:  # noqa: BLE001  # the user's own exception is the one to be seen
            terminal.warn(f"the end of the run could not be recorded: {error}")

    def tell_exit(self, ending: Ending) -> None:
        """End this process's part at exit; `await_delivery` is called after that of all runs."""
        try:
            if not self._recorder.is_ended:
                self._end(ending)
        except Exception as error:  # noqa: BLE001  # the process ends anyway
            terminal.warn(f"the run could not be finished: {error}")

    def await_delivery(self, since_mono_s: float) -> None:
        """Wait until everything is stored, as long as settings allow since then."""
        try:
            self._wait(since_mono_s=since_mono_s)
        except Exception as error:  # noqa: BLE001  # the process ends anyway
            terminal.warn(f"the run could not be finished: {error}")

    def tell_signal(self, signum: int) -> None:
        """Record a signal before it takes its effect."""
        try:
            name = signal.Signals(signum).name
            self._recorder.append_if_active(RecordKind.SIGNAL, SignalRecord(signum=signum, name=name).pack())
        except Exception:  # noqa: BLE001  # a signal handler has nobody to tell
            return

    def defer(self, action: Callable[[], None]) -> bool:
        """Run `action` after the append under way in this thread; False when there is none."""
        return self._recorder.defer(action)

    def prepare_fork(self) -> None:
        """This process forks: its child may log into the run, and then counts steps together with it."""
        share_step(self._recorder, self._spool)

    def reset_after_fork(self) -> None:
        """This is the child of a fork: it becomes a writer of its own when it says something."""
        super().reset_after_fork()
        self._said_ending = None
        self._recorder.reset_after_fork()
        self._is_over = threading.Event()

    def _finish_in_child(self) -> None:
        """A multiprocessing child ends; its finalizers run while its exception, if any, is on the way."""
        error = sys.exc_info()[1]
        if error is None:
            ending = Ending(0, "atexit")
        elif isinstance(error, SystemExit):
            ending = of_system_exit(error.code)
        else:
            ending = of_exception(error)
        self.tell_exit(ending)
        self.await_delivery(time.monotonic())


def _exit_code(code: object) -> int:
    if isinstance(code, bool):
        raise TypeError("exit_code: expected an int, got a boolean")
    number = operator.index(code)  # type: ignore[arg-type]  # raises for what is none
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"exit_code: value out of range: {number}")
    return number


def watch_end_of_child(finish: Callable[[], None]) -> Any:
    """Have `finish` called when this multiprocessing child ends: it leaves by os._exit, past atexit.

    Returns:
        What takes that back by its `cancel()`; None when this is no such child.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return None
    from multiprocessing.util import Finalize

    return Finalize(None, finish, exitpriority=-1)
