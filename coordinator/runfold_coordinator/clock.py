"""Time as the coordinator sees it; tests pass their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds decide, wall-clock seconds are shown."""

    def mono_s(self) -> float:
        """Return monotonic seconds; never goes back."""
        ...

    def unix_s(self) -> float:
        """Return wall-clock seconds since 1970; may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    def mono_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()
