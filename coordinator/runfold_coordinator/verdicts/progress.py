"""How one writer goes on: when rows of it came last, how long a row takes it, how long it ever paused. Pure.

Two clocks, each compared with itself only: the rows' own clock gives the time between rows, the coordinator's
monotonic clock gives pauses and the present silence. A step of either makes no hang.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

#: Newest times between rows that the robust step time is over.
INTERVALS = 100
#: No word on a writer's step time before it has shown so many.
MIN_INTERVALS = 5
#: A normal distribution's standard deviation in units of the median absolute deviation.
MAD_SCALE = 1.4826
#: The longest pause counts so often.
PAUSE_FACTOR = 3.0
#: A pause that was taken for a hang and ended all the same counts half: the next like it is no hang, but a
#: hang is not waited for three times as long as the last one.
FLAGGED_SHARE = 0.5
#: The first pause (compilers, first batches) counts so often, until the writer has gone on for twice as long
#: since, and for so many steps: what was compiled once may be compiled again.
WARM_FACTOR = 2.0
WARM_INTERVALS = 20
#: A writer without a step time that counts (none yet, or rows of one moment) is waited for so many times as
#: long as any.
START_FACTOR = 10.0
#: Rows that were logged within this share of the least patience are of one moment.
MOMENT_SHARE = 0.05
#: Of a writer whose rows come faster, those of one batch in so many seconds are looked at.
LEARN_EVERY_S = 1.0
#: A timer that was entered at another time by more than this is another use of it, seconds.
PHASE_JITTER_S = 0.5


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
    """One writer. Times in seconds of the coordinator's monotonic clock, but for `progress_unix_s`.

    Attributes:
        progress_s: When its last row came; before the first: when it was first heard of.
        floor_s: Before this nothing of it could have come, or it was seen to go on without rows.
        longest_s: The longest pause so far, but for the first one, `warm_s`.
        usual_s: What a row took it before this coordinator was there; None: not known, or it is new.
    """

    progress_s: float
    progress_unix_s: float
    step: int | None = None
    floor_s: float = 0.0
    longest_s: float = 0.0
    usual_s: float | None = None
    warm_s: float = 0.0
    _has_rows: bool = False
    _warmed_s: float = 0.0
    _is_warm: bool = False
    _learnt_s: float = -1e9
    #: Rows since the last one that was looked at.
    _skipped: int = 0
    _interval_count: int = 0
    #: Sum of all times between rows, by their own clock.
    _shown_s: float = 0.0
    _intervals: deque[float] = field(default_factory=lambda: deque(maxlen=INTERVALS))
    _last_step: int | None = None
    _last_ns: int = 0
    #: Name of the timer it is in, and when that was entered.
    _phase: tuple[str | None, float] | None = None

    def note(
        self,
        now_s: float,
        now_unix_s: float,
        lease_s: float,
        steps: Sequence[int],
        t_ns: Sequence[int],
        *,
        was_flagged: bool,
    ) -> None:
        """Rows were stored: their steps and times by their own clock, in the order they were said.

        Args:
            lease_s: Before this time nothing of anyone could have come: no pause is older.
            was_flagged: The pause that ends was taken for a hang.
        """
        pause_s = now_s - max(self.progress_s, self.floor_s, lease_s)
        self.progress_s, self.progress_unix_s, self._learnt_s = now_s, now_unix_s, now_s
        self._add_intervals(steps, t_ns)
        if not self._has_rows:
            self._has_rows = True
            return
        if not self._is_warm and self.usual_s is None:
            self.warm_s, self._warmed_s = pause_s, now_s
        elif pause_s > self.longest_s:
            self.longest_s = max(self.longest_s, pause_s * (FLAGGED_SHARE if was_flagged else 1.0))
        self._is_warm = True

    def note_more(self, now_s: float, now_unix_s: float, rows: int) -> None:
        """So many rows were stored soon after others: a pace is learnt from some of many."""
        self.progress_s, self.progress_unix_s = now_s, now_unix_s
        self._skipped += rows

    def is_learnt(self, now_s: float) -> bool:
        """Whether its pace is known, and rows were looked at less than LEARN_EVERY_S ago."""
        return self._interval_count >= WARM_INTERVALS and now_s - self._learnt_s < LEARN_EVERY_S

    def _add_intervals(self, steps: Sequence[int], t_ns: Sequence[int]) -> None:
        """Add the times between rows that begin a step later than any before."""
        last_step, last_ns, rows = self._last_step, self._last_ns, self._skipped + 1
        for step, time_ns in zip(steps, t_ns, strict=True):
            if last_step is None or step > last_step:
                # Of a clock that was set back nothing is learnt.
                if last_step is not None and time_ns >= last_ns:
                    passed_s = (time_ns - last_ns) / 1e9
                    self._intervals.append(passed_s / rows)
                    self._interval_count += rows
                    self._shown_s += passed_s
                last_step, last_ns = step, time_ns
                rows = 1
        self._last_step, self._last_ns, self._skipped = last_step, last_ns, 0
        if last_step is not None and (self.step is None or last_step > self.step):
            self.step = last_step

    def note_phase(self, name: str | None, for_s: float | None, heard_s: float) -> None:
        """Take the timer that a heartbeat says it is in: one entered or left shows it going on."""
        phase = (name, 0.0 if name is None else heard_s - (for_s or 0.0))
        before, self._phase = self._phase, phase
        if before is None or (before[0] == name and abs(before[1] - phase[1]) <= PHASE_JITTER_S):
            return
        self.floor_s = max(self.floor_s, heard_s if name is None else phase[1])

    @property
    def is_in_phase(self) -> bool:
        """Whether it was inside of a timer when that was looked at last."""
        return self._phase is not None and self._phase[0] is not None

    def pace(self) -> Pace | None:
        """Return its pace, None while too little is known."""
        if len(self._intervals) < MIN_INTERVALS:
            return None
        return Pace(*spread(self._intervals), self.longest_s)

    @property
    def step_s(self) -> float | None:
        """The median time between rows; None while there is none."""
        return median(self._intervals) if self._intervals else None

    def still_s(self, now_s: float, lease_s: float) -> float:
        """Return for how long no row came while one could have come."""
        return now_s - max(self.progress_s, self.floor_s, lease_s)

    def patience_s(self, limits: StallLimits, of_run: Pace | None, run_longest_s: float) -> float | None:
        """Return the silence after which it is taken to hang; None: that can't be told.

        Args:
            of_run: What the run's writers needed before this coordinator was there.
            run_longest_s: The longest pause of any of them.
        """
        start_s = max(START_FACTOR * limits.min_s, WARM_FACTOR * self.warm_s)
        pace = self.pace()
        if pace is None:
            if of_run is None or self.usual_s is None:
                # Of its rows nothing is known. A timer that it does not leave tells, too, in the end.
                return max(start_s, PAUSE_FACTOR * run_longest_s) if self.is_in_phase else None
            pace = Pace(max(of_run.step_s, self.usual_s), of_run.mad_s, of_run.longest_s)
            patience_s = pace.patience_s(limits)
        else:
            patience_s = pace.patience_s(limits)
            if self._shown_s < MOMENT_SHARE * limits.min_s and self.usual_s is None:
                patience_s = max(patience_s, start_s)
            if (
                self._interval_count < WARM_INTERVALS
                or self.progress_s - self._warmed_s < WARM_FACTOR * self.warm_s
            ):
                patience_s = max(patience_s, WARM_FACTOR * self.warm_s)
        return max(patience_s, PAUSE_FACTOR * run_longest_s)


def spread(values: Sequence[float] | deque[float]) -> tuple[float, float]:
    """Return median and median absolute deviation."""
    middle = median(values)
    return middle, median(abs(value - middle) for value in values)
