"""`runfold run -- CMD` as a function: a supervised child, and a note of what happened to it.

In: a command, RUNFOLD_DIR. Out: the child's wait status. Needs no server, no agent and no spool; a note that
can't be written is a note less, nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2
from typing import NoReturn

from runfold.node.processes import boot_id, pid_namespace, start_of
from runfold.parent.note import ParentNote, PassedOn, remove_old_notes, write_note
from runfold.parent.supervise import Arrived, CommandError, Supervisor, end_like

#: Signals that may end a command, or tell it to save its work.
NOTED = frozenset({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2})
#: A home that hangs (its file server is away) holds up signals and the end for no longer, seconds.
PATIENCE_S = 1.0


def run_and_end(command: Sequence[str]) -> NoReturn:
    """Run the command, then end as it ended; say why, when it can't be started."""
    runfold_dir = Path(os.environ.get("RUNFOLD_DIR") or Path.home() / ".runfold").expanduser()
    if not command:
        sys.stderr.write("runfold run: which command?\n")
        sys.exit(2)
    try:
        status = run_command(command, runfold_dir)
    except CommandError as error:
        sys.stderr.write(f"runfold run: {error}\n")
        sys.exit(error.code)
    end_like(status)


def run_command(command: Sequence[str], runfold_dir: Path) -> int:
    """Run the command to its end, passing signals on; return its wait status word. Raises CommandError."""
    notes = _Notes(runfold_dir)
    supervisor = Supervisor(command, on_signal=notes.signalled, on_idle=notes.kept)
    notes.started(supervisor.start())
    status = supervisor.wait()
    notes.ended(status)
    return status


class _Notes:
    """Keeps the child's note up to date."""

    def __init__(self, runfold_dir: Path) -> None:
        self._runfold_dir = runfold_dir
        self._note: ParentNote | None = None
        self._work: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self._is_late = False

    def started(self, pid: int) -> None:
        me = os.getpid()
        self._note = ParentNote(pid, start_of(pid), me, start_of(me), boot_id(), pid_namespace())
        try:
            threading.Thread(target=self._run, name="runfold-notes", daemon=True).start()
        except RuntimeError:  # no more threads: no notes
            self._note = None
        self._write()
        self._do(lambda: remove_old_notes(self._runfold_dir, now_unix_s=time.time()), wait_s=0.0)

    def signalled(self, arrived: Arrived) -> None:
        if self._note is not None and arrived.signum in NOTED:
            signal = PassedOn(arrived.signum, time.time_ns(), arrived.sender_pid, arrived.sender_uid)
            self._note = self._note.with_signal(signal)
            self._write()

    def kept(self) -> None:
        """Write it anew: what nobody wrote for a day counts as left behind."""
        self._write()

    def ended(self, status: int) -> None:
        if self._note is not None:
            self._note = replace(self._note, status=status, ended_ns=time.time_ns())
            self._write()

    def _write(self) -> None:
        """Have the note written, and wait for it: an agent may look for it as soon as the child ends."""
        note = self._note
        if note is not None:
            self._do(lambda: write_note(self._runfold_dir, note), wait_s=PATIENCE_S)

    def _do(self, work: Callable[[], None], *, wait_s: float) -> None:
        is_done = threading.Event()
        self._work.put((work, is_done))
        if wait_s and not self._is_late:
            self._is_late = not is_done.wait(wait_s)

    def _run(self) -> None:
        while True:
            work, is_done = self._work.get()
            try:
                work()
            except OSError:  # full, read-only, not ours: the command matters, not the note
                pass
            is_done.set()
