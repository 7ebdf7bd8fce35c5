"""Progress: a bar on the terminal while many bytes are on their way. Elsewhere nothing."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from runfold import terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

#: Shorter work shows no bar.
_SHOW_AFTER_S = 0.5


def no_progress(_: int) -> None:
    """Count nothing."""


class Progress:
    """Counts bytes; thread-safe. Shows them by rich where standard error is a terminal."""

    def __init__(self, label: str, size: int, files: int) -> None:
        self._label = f"{label} ({files:,} file{'' if files == 1 else 's'})"
        self._size = size
        self._done = 0
        self._began_mono_s = time.monotonic()
        self._is_shown = bool(label) and not terminal.is_silent() and _is_terminal()
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_shown = False
            if self._bar is not None:
                self._bar.stop()

    @property
    def done(self) -> int:
        """Bytes so far."""
        return self._done

    def add(self, size: int) -> None:
        """So many bytes more; fewer, where an attempt begins anew."""
        with self._lock:
            self._done += size
            if not self._is_shown:
                return
            if self._bar is None:
                if time.monotonic() - self._began_mono_s < _SHOW_AFTER_S:
                    return
                self._open()
            assert self._bar is not None, "it was opened"
            assert self._task is not None, "with it"
            self._bar.update(self._task, completed=self._done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        # Not to be redirected: what the script prints is its own.
        self._bar = Bar(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(self._label, total=self._size)
        self._bar.start()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except Exception:  # noqa: BLE001  # stderr may be anything, or nothing
        return False
