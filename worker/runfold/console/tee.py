"""The tee: a process that passes a training process's output on unchanged, and keeps its lines.

Started by fd_capture.py as a script, so that bytes flow before anything of runfold is imported: Python needs
20 ms for the standard library, four times as long for the rest. Never imported by the training process.

In: pipes or pseudo-terminals, and requests, one JSON object a line, over a socket. Out: the same bytes to the
original descriptors, lines in a spool, answers over the socket:

    {"do": "open", "place": {...}}  keep lines from now on, for this run
    {"do": "next", "place": {...}}  the same, for the next run: answered as "close" is, for the one before
    {"do": "drain"}                 -> {"drained": true} when everything written so far was passed on
    {"do": "close"}                 -> {"closed": [folder, seq] or null}; from now on bytes are only passed on
                                    -> {"broken": name}: the original of a stream can't be written to

It ends when nobody can write to it any more. A process that dies or calls exec() leaves its last lines here:
they are kept before the spool is ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import sys
import termios
import threading
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runfold.console.keeper import ConsoleKeeper

READ_BYTES = 256 * 1024
#: A program that prints all the time is read this often, seconds: each line for itself would cost 60 us.
PACE_S = 0.005
#: Lines are appended to the spool this often while there are some, seconds.
FLUSH_S = 0.2
#: The size of a terminal is looked at this often: nobody tells a process of another session, seconds.
WINDOW_S = 0.5
#: Lines of children count for so long after the process is gone, seconds.
GRACE_S = 1.0
#: Output that is held while the rest of runfold is imported.
EARLY_BYTES = 1_000_000
#: Longest wait for the pumps to pass on what was written before a request, seconds.
DRAIN_S = 1.0


class Pump:
    """Passes one stream on, in a thread of its own: a target that blocks holds up no other."""

    def __init__(self, name: str, source: int, target: int, tee: Tee) -> None:
        self.name = name
        self.source = source
        self.target = target
        self._tee = tee
        #: Less than this leaves room enough in the pipe for a pause; a pseudo-terminal holds little.
        self._small_bytes = 1024 if os.isatty(source) else _pipe_bytes(source) // 8
        #: Set before a read, cleared when what was read is passed on: between the two, more is to come.
        self.is_busy = False
        self.is_over = False
        self.thread = threading.Thread(target=self._run, name=f"pump-{name}")

    def is_drained(self) -> bool:
        """Whether nothing waits in the pipe, and nothing of it in our hands."""
        return self.is_over or (_waiting_bytes(self.source) == 0 and not self.is_busy)

    def _run(self) -> None:
        buffer = bytearray(READ_BYTES)
        view = memoryview(buffer)
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        before_s = 0.0
        try:
            while True:
                poll.poll()
                self.is_busy = True
                count = _read(self.source, buffer)
                if count == 0:
                    return
                self._pass_on(view[:count])
                self._tee.keep(self.name, view[:count])
                self.is_busy = False
                now_s = time.monotonic()
                if now_s - before_s < 2 * PACE_S and count < self._small_bytes:
                    self._tee.hurry.wait(PACE_S)
                before_s = now_s
        except OSError as error:
            # As it would have met the program: nobody reads on, the disk is full, the terminal is gone.
            self._tee.say({"broken": self.name, "why": error.strerror})
        finally:
            self.is_over = True
            os.close(self.source)  # who still writes is told so by the kernel
            self._tee.wake()

    def _pass_on(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self.target, data) :]
            except BlockingIOError:  # somebody made the original non-blocking; we wait in the program's place
                writable = select.poll()
                writable.register(self.target, select.POLLOUT)
                writable.poll()


class Tee:
    """One per training process, for all of its runs in turn."""

    def __init__(self, control: int, pid: int, import_path: list[str]) -> None:
        self._control = control
        self._import_path = import_path
        self._keeper: ConsoleKeeper | None = None
        #: What comes before the keeper is there: it takes some time to be imported. None: nothing is kept.
        self._early: list[tuple[str, bytes | int, int]] | None = []
        self._early_bytes = 0
        self._lock = threading.Lock()
        self._pumps: list[Pump] = []
        self._terminals: list[tuple[int, int]] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._is_awake = threading.Event()
        #: Somebody waits for what is in the pipes.
        self.hurry = threading.Event()
        self._received = b""
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        self._pidfd = self._watch(pid)
        self._flushed_s = time.monotonic()
        self._ends_s: float | None = None

    def add(self, name: str, source: int, target: int) -> None:
        """Take a stream."""
        self._pumps.append(Pump(name, source, target, self))
        if os.isatty(source):
            self._terminals.append((source, target))

    def run(self) -> None:
        """Work until every stream has come to its end."""
        for pump in self._pumps:
            pump.thread.start()
        self.say({"pid": os.getpid()})
        while self._early is not None and self._ends_s is None:
            self._hear()  # a program that is over before we are up has asked for its lines all the same
        while not all(pump.is_over for pump in self._pumps):
            self._wait()
            self._keep_window_sizes()
            self._flush()
            if self._ends_s is not None and time.monotonic() >= self._ends_s:
                self._close()
        self._close()

    # -- called by pumps --

    def keep(self, stream: str, data: memoryview) -> None:
        """Keep the lines in what was passed on; a fault here must not stop the stream."""
        try:
            with self._lock:
                keeper = self._keeper
                if keeper is None and self._early is not None:
                    self._keep_early(stream, data)
            if keeper is not None:
                keeper.feed(stream, data)
                if not self._is_awake.is_set():
                    self._is_awake.set()
                    self.wake()
        except Exception:  # noqa: BLE001  # see _tell_fault
            _tell_fault()

    def _keep_early(self, stream: str, data: memoryview) -> None:
        assert self._early is not None, "asked before"
        self._early_bytes += len(data)
        is_flood = self._early_bytes > EARLY_BYTES
        held = bytes(data).count(b"\n") if is_flood else bytes(data)
        self._early.append((stream, held, time.time_ns()))

    def say(self, message: dict[str, Any]) -> None:
        """Send a line to the training process, if it still listens."""
        try:
            os.write(self._control, json.dumps(message).encode() + b"\n")
        except OSError:
            pass

    def wake(self) -> None:
        """Have the main thread look."""
        try:
            os.write(self._wake_write, b".")
        except OSError:
            pass

    # -- the main thread --

    def _watch(self, pid: int) -> int | None:
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, AttributeError):
            return None  # it is gone, or the kernel has no such: then the socket tells
        self._poll.register(pidfd, select.POLLIN)
        return pidfd

    def _wait(self) -> None:
        timeouts = [self._flushed_s + FLUSH_S - time.monotonic()] if self._is_awake.is_set() else []
        if self._terminals:
            timeouts.append(WINDOW_S)
        if self._ends_s is not None:
            timeouts.append(self._ends_s - time.monotonic())
        ready = self._poll.poll(max(0.0, min(timeouts)) * 1000 if timeouts else None)
        for fd, _ in ready:
            if fd == self._wake_read:
                os.read(fd, 4096)
            elif fd == self._pidfd:
                self._poll.unregister(fd)
                self._process_is_gone()
            else:
                self._hear()

    def _hear(self) -> None:
        try:
            data = os.read(self._control, 65536)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(self._control)
            self._process_is_gone()
            return
        *requests, self._received = (self._received + data).split(b"\n")
        for request in requests:
            self._obey(json.loads(request))

    def _obey(self, request: dict[str, Any]) -> None:
        match request["do"]:
            case "open":
                self._open(request["place"])
            case "next":
                self._drain()
                self.say({"closed": self._close(goes_on=True)})
                self._open(request["place"])
            case "drain":
                self._drain()
                self.say({"drained": True})
            case "close":
                self._drain()
                self.say({"closed": self._close()})

    def _process_is_gone(self) -> None:
        """It died, or has become another program: its last words are here already."""
        if self._ends_s is None:
            self._drain()
            self._is_awake.set()
            self._flushed_s = -1e9
            self._ends_s = time.monotonic() + GRACE_S

    def _drain(self) -> None:
        until_s = time.monotonic() + DRAIN_S
        self.hurry.set()
        while not all(pump.is_drained() for pump in self._pumps) and time.monotonic() < until_s:
            time.sleep(0.0005)
        self.hurry.clear()

    def _open(self, place: dict[str, Any]) -> None:
        keeper = None
        try:
            _import_only_what_is_needed(self._import_path)
            from runfold.console.keeper import ConsoleKeeper
            from runfold.console.place import ConsolePlace

            keeper = ConsoleKeeper(ConsolePlace(**place))
        except Exception:  # noqa: BLE001  # see _tell_fault
            _tell_fault()
        with self._lock:
            early, self._early = self._early, None
            for stream, held, t_ns in early or ():
                if keeper is None:
                    break
                if isinstance(held, int):
                    keeper.lose(stream, held)
                else:
                    keeper.feed(stream, held, t_ns)
            self._keeper = keeper
            self._is_awake.set()

    def _flush(self) -> None:
        if self._keeper is None or not self._is_awake.is_set():
            return
        now_s = time.monotonic()
        if now_s - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = now_s
        try:
            self._is_awake.clear()
            self._keeper.flush()
            if not self._keeper.is_idle:
                self._is_awake.set()
        except Exception:  # noqa: BLE001  # see _tell_fault
            _tell_fault()
            self._keeper = None

    def _close(self, *, goes_on: bool = False) -> tuple[str, int] | None:
        with self._lock:
            keeper, self._keeper = self._keeper, None
            self._early, self._early_bytes = [] if goes_on else None, 0
            self._ends_s = None
        try:
            found = keeper.close() if keeper is not None else None
        except Exception:  # noqa: BLE001  # see _tell_fault
            _tell_fault()
            return None
        return (str(found[0]), found[1]) if found is not None else None

    def _keep_window_sizes(self) -> None:
        for terminal, original in self._terminals:
            try:
                size = fcntl.ioctl(original, termios.TIOCGWINSZ, bytes(8))
                if fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)) != size:
                    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
            except OSError:
                continue


def main(arguments: list[str]) -> None:
    """Work for the process that started this one.

    Args:
        arguments: Descriptor of a stream socket; pid of the training process; "name:source:target" a stream,
            with descriptors, joined by commas; folders where msgpack is to be found.
    """
    control, pid, streams, *import_path = arguments
    # What stops a job is meant for the job; this process ends with it, after its last words.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_IGN)
    # A pump waits for whoever computes: 0.5 ms, not 5.
    sys.setswitchinterval(0.0005)
    tee = Tee(int(control), int(pid), import_path)
    for stream in streams.split(","):
        name, source, target = stream.split(":")
        tee.add(name, int(source), int(target))
    tee.run()


def _import_only_what_is_needed(import_path: list[str]) -> None:
    """Make `runfold.*` importable without the SDK that the package imports: 5 MB that a tee never uses."""
    if "runfold" in sys.modules:
        return
    sys.path[:0] = import_path
    package = types.ModuleType("runfold")
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["runfold"] = package


def _tell_fault() -> None:
    """Write a traceback to the log; whatever goes wrong with keeping lines, the output goes on."""
    import traceback

    traceback.print_exc()


def _read(fd: int, buffer: bytearray) -> int:
    try:
        return os.readv(fd, [buffer])
    except OSError as error:
        if error.errno == errno.EIO:  # how a pseudo-terminal says that nobody has it open
            return 0
        raise


def _pipe_bytes(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (OSError, AttributeError):
        return 0


def _waiting_bytes(fd: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0


if __name__ == "__main__":
    main(sys.argv[1:])
