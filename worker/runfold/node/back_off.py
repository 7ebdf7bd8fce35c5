"""Waits that double up to a limit, with jitter, so that a thousand agents do not return in step. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable


class BackOff:
    """The wait after each failure in a row. Not thread-safe."""

    def __init__(
        self, first_s: float, longest_s: float, *, spread: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._spread = spread
        self.failures = 0

    def fail(self) -> float:
        """Count one failure; return seconds to wait: between half and all of the doubled wait."""
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait_s * (0.5 + 0.5 * self._spread())

    def succeed(self) -> None:
        """Forget the failures."""
        self.failures = 0
