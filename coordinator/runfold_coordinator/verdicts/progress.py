"""How one writer goes on: when rows of it came last, how long a row takes it, how long it ever paused. Pure.

Two clocks, each compared with itself only: the rows' own clock gives the time between rows, the coordinator's
monotonic clock gives pauses and the present silence. A step of either makes no hang.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from runfold_coordinator.store.model import I64, U64

#: Newest times between rows that the robust step time is over.
INTERVALS = 100
#: No word on a writer before it has shown so many.
MIN_INTERVALS = 5
#: A normal distribution's standard deviation in units of the median absolute deviation.
MAD_SCALE = 1.4826
#: The longest pause counts so often.
PAUSE_FACTOR = 3.0
#: A pause that was taken for a hang and ended all the same counts half: the next like it is no hang, but a
#: hang is not waited for three times as long as the last one.
FLAGGED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class StallLimits:
    """When no progress means something: after the longest of these.

    Attributes:
        min_s: Never earlier.
        factor: So many robust step times.
    """

    min_s: float = 60.0
    factor: float = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds from row to row: median and median absolute deviation; the longest pause so far."""

    step_s: float
    mad_s: float
    longest_s: float

    def patience_s(self, limits: StallLimits) -> float:
        """Return the silence after which a writer of this pace is taken to hang."""
        robust_s = self.step_s + 3 * MAD_SCALE * self.mad_s
        return max(limits.min_s, limits.factor * robust_s, PAUSE_FACTOR * self.longest_s)

    def to_map(self) -> dict[str, float]:
        """Return what is kept in the database."""
        return {"step_s": self.step_s, "mad_s": self.mad_s, "longest_s": self.longest_s}

    @classmethod
    def from_map(cls, found: object) -> Pace | None:
        """Return what was kept; None where nothing was."""
        if not isinstance(found, dict):
            return None
        try:
            return cls(float(found["step_s"]), float(found["mad_s"]), float(found["longest_s"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(slots=True)
class Progress:
    """One writer. Times in seconds of the coordinator's monotonic clock, but for `progress_unix_s`."""

    progress_s: float
    progress_unix_s: float
    step: int | None = None
    longest_s: float = 0.0
    _pause_count: int = 0
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=INTERVALS))
    _last: tuple[int, int] | None = None

    def note(
        self, now_s: float, now_unix_s: float, lease_s: float, steps: I64, t_ns: U64, *, was_flagged: bool
    ) -> None:
        """Rows were stored: their steps and times by their own clock, in the order they were said.

        Args:
            lease_s: Before this time nothing could have come: no pause is older.
            was_flagged: The pause that ends was taken for a hang.
        """
        pause_s = now_s - max(self.progress_s, lease_s)
        self.progress_s, self.progress_unix_s = now_s, now_unix_s
        is_first = self._last is None
        self._add_intervals(steps[-INTERVALS - 1 :].tolist(), t_ns[-INTERVALS - 1 :].tolist())
        if is_first:
            return
        self._pause_count += 1
        if self._pause_count > 1:  # the first step warms up, for as long as it likes
            self.longest_s = max(self.longest_s, pause_s * (FLAGGED_SHARE if was_flagged else 1.0))

    def _add_intervals(self, steps: Sequence[int], t_ns: Sequence[int]) -> None:
        """Add the times between rows that begin a step later than any before."""
        last = self._last
        # Not in numpy: most batches of a job bring a few rows of each rank.
        for step, time_ns in zip(steps, t_ns, strict=True):
            if last is None or step > last[0]:
                # Of a clock that was set back nothing is learnt.
                if last is not None and time_ns >= last[1]:
                    self._intervals.append((time_ns - last[1]) / 1e9)
                last = (step, time_ns)
        if last is not None:
            self._last, self.step = last, max(last[0], self.step or 0)

    def pace(self) -> Pace | None:
        """Return its pace, None while too little is known."""
        if len(self._intervals) < MIN_INTERVALS:
            return None
        return Pace(*spread(self._intervals), self.longest_s)

    def still_s(self, now_s: float, lease_s: float) -> float:
        """Return for how long no row came while one could have come."""
        return now_s - max(self.progress_s, lease_s)


def spread(values: Sequence[float] | deque[float]) -> tuple[float, float]:
    """Return median and median absolute deviation."""
    middle = median(values)
    return middle, median(abs(value - middle) for value in values)
