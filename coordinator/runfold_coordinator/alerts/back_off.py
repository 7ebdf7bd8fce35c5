"""When a delivery that failed is tried again, and when nobody tries any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 2.0
LONGEST_DELAY_S = 3600.0
#: After so long an alert is old news.
GIVE_UP_AFTER_S = 24 * 3600.0


def retry_delay_s(attempts: int, jitter: float, asked_s: float = 0.0) -> float:
    """Return the pause after so many attempts: doubled each time, up to an hour, spread by half.

    Args:
        attempts: 1 or more.
        jitter: 0 to 1, random.
        asked_s: What the receiver asked for (Retry-After); at least that, as far as an hour.
    """
    doubled = FIRST_DELAY_S * 2.0 ** min(attempts - 1, 30)
    delay_s = min(LONGEST_DELAY_S, doubled) * (0.75 + 0.5 * jitter)
    return max(delay_s, min(asked_s, LONGEST_DELAY_S))


def is_given_up(enqueued_unix_s: float, next_unix_s: float) -> bool:
    """Tell whether the next attempt would come too late."""
    return next_unix_s - enqueued_unix_s > GIVE_UP_AFTER_S


@dataclass(slots=True)
class Allowance:
    """At most so many a minute, evenly refilled (a token bucket). Monotonic seconds."""

    per_minute: int
    left: float
    at_s: float

    @classmethod
    def full(cls, per_minute: int, now_s: float) -> Allowance:
        return cls(per_minute, float(per_minute), now_s)

    def has_any(self, now_s: float) -> bool:
        """Refill, and tell whether one more may go."""
        self.left = min(self.per_minute, self.left + max(0.0, now_s - self.at_s) * self.per_minute / 60.0)
        self.at_s = now_s
        return self.left >= 1.0

    def take(self) -> None:
        self.left -= 1.0
