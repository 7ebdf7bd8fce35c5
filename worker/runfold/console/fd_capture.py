"""FdCapture: diverts descriptors 1 and 2 into the tee, and puts them back.

In: where a run's lines are to be kept. Out: the same output as ever, and a console's spool. The training
process must not suffer from any of it:

- it holds the reading end too, so that a tee that was killed means no SIGPIPE; a thread puts the originals
  back then, and passes on what is left in the pipe. One that was stopped is continued, or else given up;
- `close` puts the originals back when everything printed was passed on, or not at all: nothing overtakes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runfold.console.diversion import Diversion, divert, high, place_of, put_back_in_order
from runfold.console.pipes import can_be_read, pass_on, state_of, waiting_bytes
from runfold.console.start_tee import start_tee
from runfold.console.stdio import flush, outputs

if TYPE_CHECKING:
    from runfold.console.place import ConsolePlace

#: Longest wait for an answer of the tee, seconds; longer than the tee's own wait for its pumps.
ANSWER_S = 1.5
#: Whether the tee was stopped is looked at this often, seconds.
LOOK_S = 1.0
#: Longest that the originals are not put back because the program prints all the time, seconds.
EMPTY_S = 1.0


class FdCapture:
    """The diversion of one process's output. Thread-safe; made by `start`."""

    def __init__(
        self, control: socket.socket, diversions: list[Diversion], warn: Callable[[str], None]
    ) -> None:
        self._control = control
        self._control_place = place_of(control.fileno())
        self._diversions = diversions
        self._warn = warn
        self._owner_pid = os.getpid()
        self._tee_pid: int | None = None
        self._lock = threading.RLock()
        self._heard = threading.Condition()
        self._answers: dict[str, Any] = {}
        self._is_diverted = False
        #: No tee any more: it is gone, or was let go.
        self._is_alone = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._watch, name="runfold-console", daemon=True)

    @classmethod
    def start(cls, place: ConsolePlace, log_dir: Path, warn: Callable[[str], None]) -> FdCapture | None:
        """Divert the output and keep its lines; None when there is none to divert.

        Args:
            warn: Told when the capture ends before its time.

        Raises:
            OSError: No pipe, no child: nothing has changed then.
        """
        made: list[tuple[Diversion, int]] = []
        ours, theirs = _socket_pair()
        try:
            for output in outputs():
                made.append(divert(output))  # noqa: PERF401  # those made before one fails are to be closed
            if not made:
                ours.close()
                return None
            diversions = [diversion for diversion, _ in made]
            start_tee(theirs.fileno(), diversions, log_dir)
            capture = cls(ours, diversions, warn)
            capture._ask({"do": "open", "place": asdict(place)})
            capture._begin([writing for _, writing in made])
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread
            ours.close()
            for diversion, _ in made:
                diversion.close()
            raise OSError(str(error)) from error
        finally:
            theirs.close()
            for _, writing in made:
                os.close(writing)
        return capture

    def _begin(self, writing: list[int]) -> None:
        self._thread.start()
        _captures.add(self)
        flush(of_c=False)  # what was printed before is not the run's
        with self._heard:
            if self._is_alone:  # it has ended already
                self._warn("the console's process did not start; output goes on without it")
                return
            for diversion, end in zip(self._diversions, writing, strict=True):
                for fd in diversion.output.fds:
                    os.dup2(end, fd)
            self._is_diverted = True

    @property
    def is_working(self) -> bool:
        """Whether lines are kept."""
        return not self._is_alone and self._owner_pid == os.getpid()

    def hand_over(self, place: ConsolePlace) -> tuple[Path, int] | None:
        """End the lines of one run and begin another's; return the first's folder and last seq."""
        with self._lock:
            flush()
            found = self._exchange({"do": "next", "place": asdict(place)}, "closed")
        return _spool_of(found)

    def close(self) -> tuple[Path, int] | None:
        """Put the originals back, once all that was printed has reached them, and end the spool.

        Returns:
            The spool's folder and last seq; None when nothing was printed, or the tee is gone.

        When the tee can't pass it on in time, since nobody reads its output, the diversion stays: what the
        program still prints would overtake it.
        """
        with self._lock:
            if self._owner_pid != os.getpid() or self._is_closed:
                return None
            self._is_closed = True
            flush()
            if self._is_alone:
                self._empty_pipes()
            elif self._exchange({"do": "drain"}, "drained"):
                self._put_back()
            elif self._is_tee_stopped():
                self._go_alone()
            found = self._exchange({"do": "close"}, "closed")
            if not self._is_diverted:
                self._hang_up()
        return _spool_of(found)

    def forget_in_child(self) -> None:
        """In a fork's child, which prints into its parent's diversion: let go of what is the parent's."""
        self._is_diverted = False
        self._is_alone = True
        self._control.close()
        for diversion in self._diversions:
            diversion.close()

    # -- talking to the tee --

    def _exchange(self, request: dict[str, Any], answer: str) -> Any:
        """Ask, and return the answer; None when it does not come in time."""
        with self._heard:
            self._answers.pop(answer, None)
            if self._is_alone or not self._ask(request):
                return None
            self._heard.wait_for(lambda: answer in self._answers or self._is_alone, ANSWER_S)
            return self._answers.pop(answer, None)

    def _ask(self, request: dict[str, Any]) -> bool:
        if place_of(self._control.fileno()) != self._control_place:
            return False  # somebody closed every descriptor, as daemons do
        try:
            self._control.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            return False
        return True

    def _hang_up(self) -> None:
        """Let the tee go; the thread finds the end of the socket, and closes everything."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    # -- the thread --

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        received = b""
        stuck_count = 0
        while True:
            if not poll.poll(LOOK_S * 1000):
                is_stuck = self._has_waiting() and self._is_tee_stopped()
                stuck_count = stuck_count + 1 if is_stuck else 0
                self._unstick(stuck_count)
                continue
            try:
                data = self._control.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))
        if self._is_diverted:
            self._warn("console capture ended before its time; the output itself goes on as without it")
        self._go_alone()
        self._pass_on_rest()
        if place_of(self._control.fileno()) == self._control_place:
            self._control.close()
        else:
            self._control.detach()
        for diversion in self._diversions:
            diversion.close()

    def _unstick(self, stuck_count: int) -> None:
        """Output waits for a tee that was stopped: have it go on, or do without it."""
        if stuck_count == 1 and self._tee_pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._tee_pid, signal.SIGCONT)
        elif stuck_count > 1:
            self._hang_up()

    def _hear(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            self._tee_pid = message["pid"]
        elif "broken" in message:
            self._give_up(message["broken"])
        else:
            with self._heard:
                self._answers |= message
                self._heard.notify_all()

    def _give_up(self, name: str) -> None:
        """An original can't be written to: the program is to meet the error itself, with its next line."""
        with self._heard:
            for diversion in self._diversions:
                if diversion.output.name == name:
                    diversion.put_back()
                    diversion.close_reading()

    def _go_alone(self) -> None:
        self._empty_pipes()
        with self._heard:
            if self._is_diverted:
                self._is_diverted = False
                put_back_in_order(self._diversions)
            self._is_alone = True
            self._heard.notify_all()

    def _put_back(self) -> None:
        with self._heard:
            if self._is_diverted:
                self._is_diverted = False
                for diversion in self._diversions:
                    diversion.put_back()

    def _empty_pipes(self) -> None:
        """Pass on what waits, before the originals are put back: else the next lines would overtake it."""
        until_s = time.monotonic() + EMPTY_S
        with self._heard:
            for diversion in self._open_diversions():
                while waiting_bytes(diversion.reading) and time.monotonic() < until_s:
                    if not pass_on(diversion.reading, diversion.original):
                        break

    def _pass_on_rest(self) -> None:
        """Do the tee's work: for what is left in the pipes, and for children that still print into them."""
        ends = {each.reading: each.original for each in self._open_diversions()}
        poll = select.poll()
        for reading in ends:
            poll.register(reading, select.POLLIN)
        while ends:
            if self._is_closed and not self._has_waiting():
                return
            for reading, _ in poll.poll():
                with self._heard:  # who closes waits for what is in our hands, or has taken it first
                    if can_be_read(reading) and not pass_on(reading, ends[reading]):
                        poll.unregister(reading)
                        del ends[reading]

    def _open_diversions(self) -> list[Diversion]:
        return [each for each in self._diversions if each.can_be_read]

    def _has_waiting(self) -> bool:
        return any(waiting_bytes(each.reading) for each in self._open_diversions())

    def _is_tee_stopped(self) -> bool:
        return self._tee_pid is not None and state_of(self._tee_pid) in ("T", "t")


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    try:
        ours, theirs = (socket.socket(fileno=high(each.fileno())) for each in pair)
    finally:
        for each in pair:
            each.close()
    return ours, theirs


def _spool_of(found: Any) -> tuple[Path, int] | None:
    return (Path(found[0]), found[1]) if found else None


_captures: weakref.WeakSet[FdCapture] = weakref.WeakSet()


def _forget_all_in_child() -> None:
    for capture in list(_captures):
        capture.forget_in_child()
    _captures.clear()


os.register_at_fork(after_in_child=_forget_all_in_child)
