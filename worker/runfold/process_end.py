"""How this process ends: exit status, exception, traceback. In: what the interpreter leaves. Out: an Ending.

`raise SystemExit(n)` passes by every hook. But the outermost frame, held since init(), tells whether the
script ran to its end; and if it did not, and no exception was reported, the C library knows the status at
the last.
"""

from __future__ import annotations

import contextlib
import dis
import sys
import threading
import types
from dataclasses import dataclass

from runfold.protocol.limits import MAX_TRACEBACK_BYTES
from runfold.redact import redact_text

#: Status of a process that ended by an uncaught KeyboardInterrupt, as W&B records it.
INTERRUPTED_CODE = 255


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit status (None: only the C library will know it), and how it came to it."""

    code: int | None
    how: str
    exception: str | None = None
    traceback: str | None = None


def of_exception(error: BaseException, how: str = "exception") -> Ending:
    """Return the ending that an uncaught exception makes."""
    code = INTERRUPTED_CODE if isinstance(error, KeyboardInterrupt) else 1
    return Ending(code, how, type(error).__name__, render_traceback(error))


def of_system_exit(code: object, how: str = "sys.exit") -> Ending:
    """Return the ending that SystemExit(code) makes: None is 0, an int its low byte, anything else 1."""
    if code is None:
        return Ending(0, how)
    if isinstance(code, int):
        return Ending(int(code) & 0xFF, how)
    return Ending(1, how)


def render_traceback(error: BaseException) -> str:
    """Return the traceback as text, secrets removed, cut in the middle when it is too long."""
    import traceback

    try:
        text = redact_text("".join(traceback.format_exception(error)))
    except Exception:  # noqa: BLE001  # an exception whose text can't be made must not hide the ending
        text = f"{type(error).__name__} (its text can't be shown)"
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TRACEBACK_BYTES:
        return text
    half = MAX_TRACEBACK_BYTES // 2 - 16
    return data[:half].decode("utf-8", "ignore") + "\n  [...]\n" + data[-half:].decode("utf-8", "ignore")


class EndWatch:
    """Knows, when the interpreter shuts down, how the main thread came to its end."""

    def __init__(self) -> None:
        # Loaded now: after an uncaught KeyboardInterrupt nothing may run exec() on text, as imports do that
        # make named tuples. CPython would forget the interrupt, and the process end with 1, not by SIGINT.
        import traceback  # noqa: F401

        self._outermost = outermost_frame()
        self._exit: SystemExit | None = None
        self._reported: BaseException | None = None

    def note_exit(self, error: SystemExit) -> None:
        """Remember what sys.exit() raised last."""
        self._exit = error

    def note_exception(self, error: BaseException) -> None:
        """Remember an exception that the interpreter reported as uncaught."""
        self._reported = error

    def find(self) -> Ending:
        """Return the ending; to be called at exit."""
        frame = self._outermost
        if frame is not None and _has_returned(frame):
            return Ending(0, "atexit")  # a sys.exit() or an exception on the way was caught by somebody
        reported = self._reported or getattr(sys, "last_value", None)
        is_error = not isinstance(reported, SystemExit)
        if (
            is_error
            and isinstance(reported, BaseException)
            and (frame is None or self._reported is not None or _leaves(reported, frame))
        ):
            return of_exception(reported)
        if self._exit is not None and (frame is None or _went_to_the_top(self._exit)):
            return of_system_exit(self._exit.code)
        return Ending(0, "atexit") if frame is None else Ending(None, "sys.exit")

    def keep_interrupt(self, ending: Ending) -> None:
        """Have a process that ended by an uncaught KeyboardInterrupt still end by SIGINT.

        CPython notes the interrupt, and forgets it with the next text that is compiled and run, as imports of
        dataclasses do at exit: it would end with 1. The same again has it noted again.
        (Python/pythonrun.c, run_eval_code_obj)
        """
        # What a script hands to sys.excepthook itself is not the interpreter's last exception.
        last = getattr(sys, "last_value", None)
        if ending.code == INTERRUPTED_CODE and isinstance(last, KeyboardInterrupt) and last is self._reported:
            with contextlib.suppress(KeyboardInterrupt):
                exec("raise KeyboardInterrupt")  # noqa: S102  # text of our own: see above

    def forget(self) -> None:
        """Let go of frames and exceptions."""
        self._outermost = self._exit = self._reported = None


def outermost_frame() -> types.FrameType | None:
    """Return the first frame of the main thread: the script's, or runpy's."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001  # the documented way
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _has_returned(frame: types.FrameType) -> bool:
    code = frame.f_code.co_code
    at = frame.f_lasti
    return 0 <= at < len(code) and dis.opname[code[at]].startswith(("RETURN_", "INSTRUMENTED_RETURN_"))


def _leaves(error: BaseException, frame: types.FrameType) -> bool:
    """Whether an exception's way up went through the outermost frame, where that frame stopped."""
    trace = error.__traceback__
    return trace is not None and trace.tb_frame is frame and trace.tb_lasti == frame.f_lasti


def _went_to_the_top(error: SystemExit) -> bool:
    """Whether this is surely the exception that ended the script.

    Who catches an exception leaves a traceback in it. If the frame that caught it last stopped elsewhere, it
    was swallowed there, and perhaps another one ended the script.
    """
    trace = error.__traceback__
    return trace is None or (not _has_returned(trace.tb_frame) and trace.tb_lasti == trace.tb_frame.f_lasti)


def write_status_at_last(fd: int) -> bool:
    """Have the status that this process gives to exit(3) written to `fd`, one byte, as the very last thing.

    Nothing is written when the process ends without exit(3). Returns False without glibc: it can't be done.
    """
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        libc.fdopen.restype = ctypes.c_void_p
        libc.fdopen.argtypes = (ctypes.c_int, ctypes.c_char_p)
        libc.on_exit.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        put = ctypes.cast(libc.fputc, ctypes.c_void_p)
        # on_exit() calls fputc(status, stream), and exit(3) flushes what streams hold after that.
        stream = libc.fdopen(fd, b"a")
        return bool(stream and libc.on_exit(put, stream) == 0)
    except (ImportError, AttributeError, OSError):
        return False
