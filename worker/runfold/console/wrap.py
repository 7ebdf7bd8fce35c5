"""WrapCapture: keeps what Python prints, in the process itself: for notebooks, and where no child may start.

Lines of C code and of children are not seen. In: sys.stdout and sys.stderr as they are when it starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from runfold.console.keeper import ConsoleKeeper
from runfold.console.place import ConsolePlace

#: Lines are appended to the spool this often while there are some, seconds.
FLUSH_S = 0.2
#: What was printed and not looked at yet, in calls of write(); more is counted.
MAX_HELD = 100_000


class WrapCapture:
    """Stands before the write() of sys.stdout and sys.stderr. Made by `start`; thread-safe.

    What is printed goes into a queue that needs no lock, so that signal handlers and destructors may print.
    """

    def __init__(self, place: ConsolePlace) -> None:
        self._keeper = ConsoleKeeper(place)
        self._owner_pid = os.getpid()
        self._held: deque[tuple[str, str]] = deque()
        self._lost: dict[str, int] = {}
        self._news = threading.Event()
        self._over = threading.Event()
        self._lock = threading.RLock()
        #: (stream, the write() before ours, ours)
        self._wrapped: list[tuple[Any, Any, Any]] = []
        self._thread = threading.Thread(target=self._work, name="runfold-console", daemon=True)

    @classmethod
    def start(cls, place: ConsolePlace) -> WrapCapture:
        """Begin to keep lines.

        Raises:
            OSError: No thread can be started here.
        """
        capture = cls(place)
        try:
            capture._thread.start()
        except RuntimeError as error:
            raise OSError(str(error)) from error
        for name in ("stdout", "stderr"):
            capture._wrap(name, getattr(sys, name))
        return capture

    @property
    def is_working(self) -> bool:
        """Whether lines are kept."""
        return not self._over.is_set() and self._owner_pid == os.getpid()

    def hand_over(self, place: ConsolePlace) -> tuple[Path, int] | None:
        """End the lines of one run and begin another's; return the first's folder and last seq."""
        with self._lock:
            self._take_held()
            ended, self._keeper = self._keeper, ConsoleKeeper(place)
            return ended.close()

    def close(self) -> tuple[Path, int] | None:
        """Take the writes back and end the spool; return its folder and last seq, None without lines."""
        if not self.is_working:
            return None
        self._over.set()
        for stream, before, ours in self._wrapped:
            with contextlib.suppress(Exception):  # somebody else's stream
                if stream.write is ours:
                    del stream.write
                    if stream.write != before:  # somebody stood there before us
                        stream.write = before
        self._news.set()
        with self._lock:
            self._take_held()
            return self._keeper.close()

    def _wrap(self, name: str, stream: Any) -> None:
        before = getattr(stream, "write", None)
        if before is None:
            return

        def write(text: Any) -> Any:
            written = before(text)
            if self.is_working:
                self._hold(name, text)
            return written

        with contextlib.suppress(AttributeError, TypeError):  # a stream that takes no attributes
            stream.write = write
            self._wrapped.append((stream, before, write))

    def _hold(self, name: str, text: Any) -> None:
        if not isinstance(text, str):
            return
        if len(self._held) < MAX_HELD:
            self._held.append((name, text))
        else:
            self._lost[name] = self._lost.get(name, 0) + text.count("\n")
        if not self._news.is_set():
            self._news.set()

    def _work(self) -> None:
        while not self._over.is_set():
            self._news.wait()
            self._news.clear()
            time.sleep(FLUSH_S)
            with self._lock:
                if self._over.is_set():
                    return
                self._take_held()
                self._keeper.flush()
                if not self._keeper.is_idle:
                    self._news.set()

    def _take_held(self) -> None:
        while self._held:
            name, text = self._held.popleft()
            self._keeper.feed(name, text.encode("utf-8", "replace"))
        lost, self._lost = self._lost, {}
        for name, count in lost.items():
            self._keeper.lose(name, count)
