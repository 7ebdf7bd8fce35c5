"""Budget: how many lines and bytes may be kept now. Pure: the clock is passed in."""

from __future__ import annotations

#: Kept for ever, per second and at once. Training prints a few lines a step; what prints more is a mistake
#: or a debug level, and its first and last lines tell as much as a million of them.
LINES_PER_S = 1_000.0
BURST_LINES = 10_000.0
BYTES_PER_S = 1_000_000.0
BURST_BYTES = 2_000_000.0
#: After so many bytes of one run, only this share of the rates is left.
FULL_BYTES = 100_000_000
FULL_RATIO = 0.01


class Budget:
    """A token bucket for lines and one for bytes. Not thread-safe."""

    def __init__(
        self,
        *,
        lines_per_s: float = LINES_PER_S,
        burst_lines: float = BURST_LINES,
        bytes_per_s: float = BYTES_PER_S,
        burst_bytes: float = BURST_BYTES,
        full_bytes: float = FULL_BYTES,
    ) -> None:
        self._rates = (lines_per_s, bytes_per_s)
        self._bursts = (burst_lines, burst_bytes)
        self._lines, self._bytes = burst_lines, burst_bytes
        self._full_bytes = full_bytes
        self._kept_bytes = 0
        self._filled_s: float | None = None

    def refill(self, now_s: float) -> None:
        """Add what the time since the last call gives."""
        passed_s = 0.0 if self._filled_s is None else max(0.0, now_s - self._filled_s)
        self._filled_s = now_s
        share = passed_s * (FULL_RATIO if self._kept_bytes >= self._full_bytes else 1.0)
        self._lines = min(self._bursts[0], self._lines + share * self._rates[0])
        self._bytes = min(self._bursts[1], self._bytes + share * self._rates[1])

    def allows(self) -> bool:
        """Say whether one more line may be kept. Its bytes may overdraw: they are known only after."""
        return self._lines >= 1 and self._bytes > 0

    def spend(self, byte_count: int) -> None:
        """Take one line of so many bytes."""
        self._lines -= 1
        self._bytes -= byte_count
        self._kept_bytes += byte_count
