"""How much to send in one round trip and how long to wait for its answer, learnt from the link. Pure.

A fixed time limit fails on one of two links: on a slow one a megabyte never arrives within it, on a dead
one a long limit hides the death. So the limit follows what the link was seen to carry.
"""

from __future__ import annotations

#: Bytes of frames in one round trip.
SMALLEST_BUDGET_BYTES = 32_000
LARGEST_BUDGET_BYTES = 4_000_000
#: A round trip should take about this long, seconds.
WANTED_ROUND_S = 0.5
#: No answer is waited for longer than this, seconds.
LONGEST_WAIT_S = 60.0
_SLOWEST_BYTES_S = 4_000.0
_FIRST_GUESS_BYTES_S = 20e6


class Pace:
    """Remembers the speed of a link over its reconnects. Not thread-safe."""

    def __init__(self, *, base_wait_s: float = 1.5) -> None:
        self._base_wait_s = base_wait_s
        self._bytes_s = _FIRST_GUESS_BYTES_S
        #: What a full Redis was last able to take; its input buffers count against its memory too.
        self._room_bytes = float(LARGEST_BUDGET_BYTES)

    @property
    def budget_bytes(self) -> int:
        """Bytes of frames for the next round trip (the last frame may overshoot)."""
        return int(min(self._room_bytes, max(SMALLEST_BUDGET_BYTES, self._bytes_s * WANTED_ROUND_S)))

    def wait_s(self, bytes_count: int) -> float:
        """Return how long to wait for the answer to this many bytes: four times what they should need."""
        return min(LONGEST_WAIT_S, self._base_wait_s + 4.0 * bytes_count / self._bytes_s)

    def succeeded(self, bytes_count: int, took_s: float) -> None:
        """Learn from a round trip that was answered; small ones say nothing about the speed."""
        self._room_bytes = min(LARGEST_BUDGET_BYTES, self._room_bytes + bytes_count)
        if bytes_count >= SMALLEST_BUDGET_BYTES // 2:
            seen = bytes_count / max(took_s, 1e-4)
            self._bytes_s = max(_SLOWEST_BYTES_S, 0.7 * self._bytes_s + 0.3 * min(seen, 2.0 * self._bytes_s))

    def was_full(self) -> None:
        """Learn from a refusal for want of memory: half as much next time."""
        self._room_bytes = max(SMALLEST_BUDGET_BYTES, self.budget_bytes / 2.0)

    def timed_out(self) -> None:
        """Learn from an answer that did not come: expect a quarter of the speed."""
        self._bytes_s = max(_SLOWEST_BYTES_S, self._bytes_s / 4.0)
