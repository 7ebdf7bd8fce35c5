"""How much of a run's wall clock brought steps that still count: a pure function of its attempts' times.

Goodput is productive time over elapsed time, as Google's ML Goodput Measurement has it ("productive,
preserved training progress"; the rest is badput, by cause) and as Meta's effective training time ratio has
it (Kokolis et al. 2024, arXiv:2410.21680: work that is done again after a failure is not productive). Steps
are all that is looked at: a checkpoint or an evaluation between two rows is part of the step it delays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """One attempt by the clock of the machine of its lowest rank, unix seconds.

    Attributes:
        ended_unix_s: Newest word of its processes, or when their end was seen; now, while they run.
        first_row_unix_s: Its first row; None without rows.
        kept_until_unix_s: Its last row that no later attempt has superseded; None when there is none.
        is_cut: Some of its rows are superseded.
        stalls: (from, to) where it was alive without progress.
        has_failed: One of its processes ended otherwise than finished.
    """

    attempt: int
    started_unix_s: float
    ended_unix_s: float
    first_row_unix_s: float | None = None
    kept_until_unix_s: float | None = None
    is_cut: bool = False
    lost_steps: int = 0
    stalls: tuple[tuple[float, float], ...] = ()
    has_failed: bool = False


#: What the wall clock of a run is made of; they add up to it.
PARTS = ("productive_s", "lost_s", "startup_s", "stalled_s", "restart_s", "other_s")


def measure_goodput(attempts: Sequence[AttemptTimes]) -> dict[str, Any]:
    """Return the report over the attempts, first to last.

    Attempts run on machines whose clocks may differ: each begins no earlier than the one before it, and
    the one before it is over when it begins. Whatever the clocks say, no part is negative.

    Of an attempt that begins at b, has its first row at f, its last kept row at k and ends at e
    (b <= f <= k <= e): startup = f - b, productive = k - f, lost = e - k where rows were superseded, else
    other = e - k. Time inside a stall is taken from the part that it lies in.

    Returns:
        wall_s and PARTS, which add up to it; ratio = productive_s / wall_s (None while wall_s is 0);
        lost_steps; failures: attempts of which a process failed, was killed, crashed or was preempted;
        mean_time_between_failures_s = time that attempts ran / failures (None without a failure);
        started_unix_s, ended_unix_s (None without attempts); per_attempt: attempt, started_unix_s,
        ended_unix_s, wall_s, has_failed, lost_steps and PARTS, restart_s being the time before it.
    """
    described: list[dict[str, Any]] = []
    for times, (begin, end) in zip(attempts, _spans(attempts), strict=True):
        before = described[-1]["ended_unix_s"] if described else begin
        parts = _parts(times, begin, end) | {"restart_s": begin - before}
        described.append(
            {"attempt": times.attempt, "started_unix_s": begin, "ended_unix_s": end, "wall_s": end - begin}
            | {"has_failed": times.has_failed, "lost_steps": times.lost_steps}
            | {name: parts[name] for name in PARTS}
        )
    sums = {name: sum(each[name] for each in described) for name in PARTS}
    ran_s = sum(each["wall_s"] for each in described)
    wall_s = described[-1]["ended_unix_s"] - described[0]["started_unix_s"] if described else 0.0
    failures = sum(times.has_failed for times in attempts)
    return {
        "wall_s": wall_s,
        **sums,
        "ratio": min(1.0, sums["productive_s"] / wall_s) if wall_s > 0 else None,
        "lost_steps": sum(times.lost_steps for times in attempts),
        "failures": failures,
        "mean_time_between_failures_s": ran_s / failures if failures else None,
        "started_unix_s": described[0]["started_unix_s"] if described else None,
        "ended_unix_s": described[-1]["ended_unix_s"] if described else None,
        "per_attempt": described,
    }


def _spans(attempts: Sequence[AttemptTimes]) -> list[tuple[float, float]]:
    """Return (begin, end) of each attempt, ascending and apart."""
    begins: list[float] = []
    for times in attempts:
        begins.append(max(times.started_unix_s, begins[-1]) if begins else times.started_unix_s)
    ends = []
    for k, times in enumerate(attempts):
        end = max(times.ended_unix_s, begins[k])
        ends.append(min(end, begins[k + 1]) if k + 1 < len(attempts) else end)
    return list(zip(begins, ends, strict=True))


def _parts(times: AttemptTimes, begin: float, end: float) -> dict[str, float]:
    first = end if times.first_row_unix_s is None else min(max(times.first_row_unix_s, begin), end)
    kept = first if times.kept_until_unix_s is None else min(max(times.kept_until_unix_s, first), end)
    stalls = _joined(times.stalls)
    startup, in_startup = _without(begin, first, stalls)
    productive, in_productive = _without(first, kept, stalls)
    tail, in_tail = _without(kept, end, stalls)
    return {
        "startup_s": startup,
        "productive_s": productive,
        "lost_s": tail if times.is_cut else 0.0,
        "other_s": 0.0 if times.is_cut else tail,
        "stalled_s": in_startup + in_productive + in_tail,
    }


def _joined(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans in order, those that overlap made one."""
    joined: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


def _without(low: float, high: float, stalls: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the seconds of low..high outside and inside of the stalls."""
    inside = sum(max(0.0, min(high, end) - max(low, start)) for start, end in stalls)
    return max(0.0, high - low - inside), inside
