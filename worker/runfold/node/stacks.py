"""Stacks of processes that are taken to hang, when the server asks for them: by signal, else by py-spy.

In: requests from the downlink. Out: STACK evidence. A process is sent its signal only while it is seen to
catch it, and through a descriptor of exactly that process: the signal's default action would end it.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import stat
import subprocess
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol import evidence
from runfold.protocol.errors import ProtocolError
from runfold.protocol.identity import Identity
from runfold.protocol.streams import unpack_stack_requests
from runfold.redact import redact_text

from .exit_status import is_stopped
from .processes import is_alive
from .tail import WriterTail
from .witness import Witness

logger = logging.getLogger(__name__)

#: As runfold.stack_signal has it; that module is the training process's.
FILE_NAME = "stacks.txt"
#: A dump that takes longer is given up.
WITHIN_S = 10.0
#: Characters of one dump.
MAX_TEXT = 32_000
#: Dumps under way at once, requests remembered.
MAX_AT_ONCE = 16
MAX_REMEMBERED = 4096


@dataclass(slots=True)
class _Dump:
    writer: bytes
    why: str
    tool: str
    until_s: float
    #: What faulthandler writes into, or py-spy's output.
    path: Path | None = None
    child: subprocess.Popen[bytes] | None = None
    size: int = 0


class StackDumps:
    """Takes requests, looks at dumps under way in each step. Not thread-safe; waits for nothing."""

    def __init__(
        self,
        tails: Mapping[bytes, WriterTail],
        witness: Witness,
        *,
        clock: Callable[[], float] = time.monotonic,
        py_spy: str | None = None,
    ) -> None:
        """Prepare.

        Args:
            py_spy: Program for processes without the signal; by default that of PATH, if there is one.
        """
        self._tails = tails
        self._witness = witness
        self._clock = clock
        self._py_spy = py_spy or shutil.which("py-spy")
        self._asked: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._waiting: list[tuple[bytes, str]] = []
        self._dumps: list[_Dump] = []

    def take(self, packed: Sequence[bytes]) -> None:
        """Take what partitions told; the same request told again is the same."""
        for one in packed:
            try:
                requests = unpack_stack_requests(one)
            except ProtocolError:
                continue
            for request in requests:
                for writer in request.writers:
                    asked = (request.request, writer)
                    if writer in self._tails and asked not in self._asked:
                        self._asked[asked] = None
                        self._waiting.append((writer, request.why[:200]))
        while len(self._asked) > MAX_REMEMBERED:
            self._asked.popitem(last=False)

    def writer_found(self, tail: WriterTail) -> None:
        """Nothing: who is asked for is found by its id."""

    def writer_ended(self, tail: WriterTail) -> None:
        """Nothing: what it wrote is read all the same."""

    def step(self, now_s: float) -> None:
        """Begin what was asked for, read what has come."""
        while self._waiting and len(self._dumps) < MAX_AT_ONCE:
            writer, why = self._waiting.pop(0)
            tail = self._tails.get(writer)
            if tail is not None and tail.is_alive and tail.identity.role == "process":
                self._begin(tail, why, now_s)
        for dump in list(self._dumps):
            text = self._read(dump)
            if text is not None or now_s >= dump.until_s:
                self._dumps.remove(dump)
                self._end(dump)
                if text:
                    self._testify(dump, text)

    def close(self) -> None:
        """Give up what is under way."""
        for dump in self._dumps:
            self._end(dump)
        self._dumps.clear()

    def _begin(self, tail: WriterTail, why: str, now_s: float) -> None:
        who, path = tail.identity, tail.directory / FILE_NAME
        if who.pid is None or is_stopped(who.pid):
            return  # it could only answer when it goes on
        if _is_caught(who) and _empty(path) and _signal(who):
            self._dumps.append(_Dump(tail.writer, why, "faulthandler", now_s + WITHIN_S, path))
        elif self._py_spy is not None and is_alive(who.pid, who.pid_start):
            command = [self._py_spy, "dump", "--nonblocking", "--pid", str(who.pid)]
            path = tail.directory.parent / f".stacks-{tail.writer.hex()}"
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(path, flags, 0o600)
                try:
                    child = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=fd, stderr=subprocess.DEVNULL
                    )
                finally:
                    os.close(fd)
            except OSError as error:
                logger.info("py-spy does not start", extra={"event": "stack_failed", "reason": str(error)})
                return
            self._dumps.append(_Dump(tail.writer, why, "py-spy", now_s + WITHIN_S, path, child))

    def _read(self, dump: _Dump) -> str | None:
        """Return the dump when it is whole: py-spy has ended, or nothing was added since the last look."""
        assert dump.path is not None, "every dump goes into a file"
        if dump.child is not None and dump.child.poll() is None:
            return None
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(dump.path, flags), "rb") as file:
                data = file.read(4 * MAX_TEXT)
        except OSError:
            return ""
        size, dump.size = dump.size, len(data)
        if dump.child is None and (not data or len(data) != size):
            return None
        return data.decode("utf-8", "replace")[:MAX_TEXT]

    def _end(self, dump: _Dump) -> None:
        if dump.child is None:
            return
        if dump.child.poll() is None:
            dump.child.kill()
        dump.child.wait()
        if dump.path is not None:
            dump.path.unlink(missing_ok=True)

    def _testify(self, dump: _Dump, text: str) -> None:
        facts = {"tool": dump.tool, "text": redact_text(text), "why": dump.why}
        self._witness.testify(dump.writer, evidence.STACK, facts)


def _is_caught(who: Identity) -> bool:
    """Return whether the process catches its signal now."""
    if who.stack_signum is None or not 1 <= who.stack_signum <= 64:
        return False
    try:
        status = Path(f"/proc/{who.pid}/status").read_text()
        mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(mask, 16) >> who.stack_signum - 1 & 1)
    except (OSError, StopIteration, IndexError, ValueError):
        return False


def _signal(who: Identity) -> bool:
    """Send the signal to this very process; return whether that could be done."""
    if who.pid is None or who.stack_signum is None or not hasattr(signal, "pidfd_send_signal"):
        return False
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return False
    try:
        # Looked at again: from here on the descriptor means the process that was looked at.
        if not is_alive(who.pid, who.pid_start) or not _is_caught(who):
            return False
        signal.pidfd_send_signal(fd, who.stack_signum)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _empty(path: Path) -> bool:
    """Empty the file; return whether it is one that is the process's own, and nothing else."""
    try:
        # Not to wait: whoever owns the folder may have put a FIFO there, or a link to somebody's file.
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
                return False
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True
