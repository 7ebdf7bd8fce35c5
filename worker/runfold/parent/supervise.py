"""The parent's loop: start the child, pass signals on, end as it ended. In: a command. Out: a wait status.

Session, process group, terminal and descriptors stay as they are: for the shell and the terminal there is one
job. Signals are taken one by one by sigtimedwait(2), which tells who sent them.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

#: Passed on to the child. Stop signals of the terminal (Ctrl-Z) reach parent and child alike, and stop both.
FORWARDED = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGCONT,
        signal.SIGWINCH,
    }
)
#: si_code of a signal that the terminal sent: the kernel's own word (SI_KERNEL of asm-generic/siginfo.h).
_BY_KERNEL = 0x80
#: What a shell says of a command that it can't find, and of one that it can't run.
NOT_FOUND, NOT_RUNNABLE = 127, 126
#: Runs scripts that do not say what runs them, as a shell or execvp(3) would.
_SHELL = "/bin/sh"
#: Between calls of `on_idle`, seconds.
IDLE_EVERY_S = 3600.0
#: Python ignores these from its start on; a child should have them as usual.
_IGNORED_BY_PYTHON = [signal.Signals(number) for number in (signal.SIGPIPE, signal.SIGXFSZ)]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A signal that came to the parent; the sender is None where the kernel or the terminal sent it."""

    signum: int
    sender_pid: int | None
    sender_uid: int | None
    is_by_kernel: bool


class CommandError(Exception):
    """The command can't be started; `code` is the exit status that a shell would give."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Supervisor:
    """Runs one command. Belongs to the main thread; others are started after the child, so that they have its
    signals blocked.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_signal: Callable[[Arrived], None],
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            on_signal: Hears of every signal that is passed on, before the child does; it may not raise.
            on_idle: Called when nothing came for IDLE_EVERY_S; it may not raise.
        """
        self._command = list(command)
        self._on_signal = on_signal
        self._on_idle = on_idle
        # What is ignored here (nohup, a shell's background) is so in the child, and no concern of ours.
        heeded = {signum for signum in FORWARDED if signal.getsignal(signum) is not signal.SIG_IGN}
        self._awaited = {*heeded, signal.SIGCHLD}
        self.pid = 0

    def start(self) -> int:
        """Start the child and return its pid. Raises CommandError."""
        # Not ignored, or the kernel would throw the status away.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        try:
            self.pid = self._spawn(before)
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise _command_error(self._command[0], error) from error
        return self.pid

    def _spawn(self, mask: set[int]) -> int:
        name, environ = self._command[0], _environment_as_given()
        if not name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            return os.posix_spawnp(
                name, self._command, environ, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON
            )
        except OSError as error:
            path = shutil.which(name) if error.errno == errno.ENOEXEC else None
            if path is None:
                raise
            command = [_SHELL, path, *self._command[1:]]
            return os.posix_spawn(_SHELL, command, environ, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON)

    def wait(self) -> int:
        """Pass signals on until the child ends; return its wait status word."""
        while True:
            found = signal.sigtimedwait(self._awaited, IDLE_EVERY_S)
            if found is None:
                self._on_idle()
                continue
            if found.si_signo == signal.SIGCHLD:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return status
                continue  # it stopped or went on, or somebody else's child that was left to us
            is_by_kernel = found.si_code == _BY_KERNEL
            sender_pid, sender_uid = (None, None) if is_by_kernel else (found.si_pid, found.si_uid)
            self._pass_on(Arrived(found.si_signo, sender_pid, sender_uid, is_by_kernel))

    def _pass_on(self, arrived: Arrived) -> None:
        if arrived.sender_pid == self.pid:
            return  # the child's own
        self._on_signal(arrived)
        if not (arrived.is_by_kernel and self._has_child_got_it(arrived.signum)):
            try:
                os.kill(self.pid, arrived.signum)
            except ProcessLookupError:  # not before it is waited for, so hardly ever
                pass

    def _has_child_got_it(self, signum: int) -> bool:
        """Return whether the terminal's signal went to the child too: it goes to the foreground group.

        But a terminal that is hung up tells the leader of its session alone.
        """
        if signum == signal.SIGHUP and os.getsid(0) == os.getpid():
            return False
        return os.getpgid(self.pid) == os.getpgrp()


def end_like(status: int) -> NoReturn:
    """End this process so that its parent sees the same wait status; never returns."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    signum = os.WTERMSIG(status)
    if os.WCOREDUMP(status) or signum in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
        _leave_no_core()
    if signum not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    # Not by a signal that is ignored for whoever is process 1 in a container.
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(128 + signum)


def _environment_as_given() -> Mapping[bytes, bytes]:
    """Return the environment without what Python put there: LC_CTYPE, where there is no locale (PEP 538)."""
    environ = dict(os.environb)
    try:
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return environ
    name = b"LC_CTYPE"
    environ.pop(name, None)
    environ.update((name, word[len(name) + 1 :]) for word in given if word.startswith(name + b"="))
    return environ


def _leave_no_core() -> None:
    """The child has left one, if any is wanted."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        # PR_SET_DUMPABLE: programs that take cores through a pipe don't heed the limit.
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def _command_error(name: str, error: OSError) -> CommandError:
    if isinstance(error, FileNotFoundError):
        return CommandError(NOT_FOUND, f"{name or repr(name)}: not found")
    return CommandError(NOT_RUNNABLE, f"{name}: can't be run: {error.strerror}")
