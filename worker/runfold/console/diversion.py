"""Diversion: what stands in the place of one output: a pipe, or a pseudo-terminal where it was a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runfold.console.pipes import write_all
from runfold.console.stdio import Output

#: What a pipe holds, where the system allows it: a tee that has to wait for a CPU holds nobody up.
PIPE_BYTES = 1024 * 1024
#: Descriptors of ours are put above those that shells and daemons count on.
_FIRST_FD = 10
#: Longest that other threads are held up, so that nothing overtakes as originals are put back, seconds.
QUIET_S = 0.15
#: Two at once would take each other's switch interval for the program's.
_quiet = threading.Lock()


@dataclass(slots=True)
class Diversion:
    """One output: its original, and the reading end of what stands in its place."""

    output: Output
    original: int
    reading: int
    #: Device and inode of the writing end: a descriptor that is something else by now is left alone.
    stand_in: tuple[int, int]
    #: The same of the original and of the reading end: somebody may have closed all that was not his.
    origin: tuple[int, int]
    outlet: tuple[int, int]

    @property
    def can_be_read(self) -> bool:
        """Whether the reading end is still open, and still ours."""
        return place_of(self.reading) == self.outlet

    def put_back(self) -> None:
        """Have the descriptors lead to the original again."""
        for fd in self.output.fds:
            if place_of(fd) == self.stand_in and place_of(self.original) == self.origin:
                os.dup2(self.original, fd)

    def close(self) -> None:
        """Close our descriptors; idempotent."""
        self.close_reading()
        if place_of(self.original) == self.origin:
            os.close(self.original)
        self.original = -1

    def close_reading(self) -> None:
        """Close the reading end: who still writes is told by the kernel when nobody else reads."""
        if self.can_be_read:
            os.close(self.reading)
        self.reading = -1


def put_back_in_order(diversions: Sequence[Diversion]) -> None:
    """Put the originals back, and what was written to a stand-in before what comes after.

    A thread of Python gives up the GIL for its write(), and may then wait for a CPU: were the originals put
    back meanwhile, its line would overtake those in the stand-in. So this one keeps the GIL until no other
    thread runs (who has written waits for the GIL) and all that they wrote is passed on, or for QUIET_S.
    """
    try:
        import ctypes

        libc = ctypes.PyDLL(None)  # as against CDLL, its calls keep the GIL
    except (ImportError, OSError):
        for each in diversions:
            each.put_back()
        return
    room, status = ctypes.create_string_buffer(select.PIPE_BUF), ctypes.create_string_buffer(512)
    waiting = ctypes.c_int(0)
    libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
    unwritten: list[tuple[int, bytes]] = []
    fds = [
        (each, fd)
        for each in diversions
        for fd in each.output.fds
        if each.can_be_read and place_of(fd) == each.stand_in and place_of(each.original) == each.origin
    ]
    others = _other_threads()

    def is_writable(fd: int) -> bool:
        asked = ctypes.create_string_buffer(struct.pack("ihh", fd, select.POLLOUT, 0))
        return bool(libc.poll(asked, 1, 0) > 0)

    def pass_on() -> bool:
        is_any = False
        for each, _ in fds:
            # Who has to read the original may be a thread that waits for the GIL: it is not waited for.
            while (
                is_writable(each.original)
                and libc.ioctl(each.reading, termios.FIONREAD, ctypes.byref(waiting)) == 0
                and waiting.value > 0
            ):
                is_any = True
                count = libc.read(each.reading, room, len(room))
                if count <= 0:
                    break
                written = max(0, libc.write(each.original, room, count))
                if written < count:
                    unwritten.append((each.original, room.raw[written:count]))
                    break
        return is_any

    def is_running(thread: bytes) -> bool:
        place = libc.open(thread, os.O_RDONLY | os.O_CLOEXEC)
        if place < 0:  # it has ended
            return False
        count = libc.read(place, status, len(status))
        libc.close(place)
        return status.raw[: max(count, 0)].rpartition(b") ")[2][:1] in (b"R", b"D")

    with _quiet:
        interval_s = sys.getswitchinterval()
        sys.setswitchinterval(2 * QUIET_S)  # else whoever waits for the GIL takes it away after 5 ms
        try:
            time.sleep(0.01)  # who has waited by the old interval has it now
            until_s = time.monotonic() + QUIET_S
            libc.usleep(1000)
            while (pass_on() or any(map(is_running, others))) and time.monotonic() < until_s:
                libc.usleep(1000)
            for each, fd in fds:
                libc.dup2(each.original, fd)
            libc.usleep(5000)  # what threads of C were writing
            pass_on()
        finally:
            sys.setswitchinterval(interval_s)
    for original, data in unwritten:
        with contextlib.suppress(OSError):
            write_all(original, data)


def _other_threads() -> list[bytes]:
    """Return where the kernel tells the states of this process's other threads; none where it does not."""
    mine = str(threading.get_native_id())
    try:
        tasks = [task.name for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return []
    return [f"/proc/self/task/{task}/stat".encode() for task in tasks if task != mine]


def divert(output: Output) -> tuple[Diversion, int]:
    """Make the stand-in of an output; return it with its writing end, which is in nobody's place yet.

    Raises:
        OSError: There are no descriptors, or no terminals, to be had.
    """
    original = high(output.fds[0])
    try:
        reading, writing = _terminal_like(original) if output.is_terminal else _pipe()
    except BaseException:
        os.close(original)
        raise
    places = [place_of(fd) or (0, 0) for fd in (writing, original, reading)]
    return Diversion(output, original, reading, *places), writing


def high(fd: int) -> int:
    """Return a duplicate that programs which this one starts do not get."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD)


def _pipe() -> tuple[int, int]:
    reading, writing = _moved_up(*os.pipe())
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over the user's limit
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reading, writing


def _terminal_like(original: int) -> tuple[int, int]:
    """Return a pseudo-terminal that changes nothing on its way: the real one does that."""
    reading, writing = _moved_up(*os.openpty())
    try:
        attributes = termios.tcgetattr(original)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
        termios.tcsetattr(writing, termios.TCSANOW, attributes)
        size = fcntl.ioctl(original, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
    except termios.error as error:
        os.close(reading)
        os.close(writing)
        raise OSError(*error.args) from error
    return reading, writing


def _moved_up(*low: int) -> tuple[int, int]:
    moved = [high(fd) for fd in low]
    for fd in low:
        os.close(fd)
    return moved[0], moved[1]


def place_of(fd: int) -> tuple[int, int] | None:
    """Return device and inode of what a descriptor leads to; None when it is closed."""
    try:
        stat = os.fstat(fd) if fd >= 0 else None
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino) if stat is not None else None
