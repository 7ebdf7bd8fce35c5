"""Asks again and again, in a thread of its own, so that what is shown never waits for a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runfold.errors import Error


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, or why there is none. `at_s` is monotonic."""

    at_s: float
    value: Any = None
    error: str = ""


class Feed:
    """Asks every `interval_s` and tells what it heard, in its own thread. close() waits for no answer."""

    def __init__(
        self,
        ask: Callable[[], Any],
        tell: Callable[[Heard], object],
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._interval_s = interval_s
        self._clock = clock
        self._wake = threading.Event()
        self._closed = threading.Event()
        # Nobody has to wait for a server that is away in order to leave.
        self._thread = threading.Thread(target=self._run, name="runfold-top-feed", daemon=True)

    def start(self) -> None:
        """Ask at once, and from then on."""
        self._thread.start()

    def hurry(self) -> None:
        """Ask again now."""
        self._wake.set()

    def close(self) -> None:
        """Ask no more, tell nothing any more."""
        self._closed.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            began_s = self._clock()
            heard = self._hear()
            if self._closed.is_set():
                return
            self._tell(heard)
            self._wake.wait(max(0.05, self._interval_s - (self._clock() - began_s)))

    def _hear(self) -> Heard:
        try:
            return Heard(self._clock(), self._ask())
        except (Error, OSError, ValueError) as error:
            return Heard(self._clock(), error=str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - an answer that we don't understand ends no view
            return Heard(self._clock(), error=f"{type(error).__name__}: {error}")
