"""Which rank is slow, by the time that it spends outside of collectives. Pure.

Wall time per step is no measure: an all-reduce makes all ranks as slow as the slowest. What a rank does
before it arrives is. Without timings, workers that do not wait for each other are compared by their pace.

Two further things look like evidence and are none: the order of log() calls, as it comes after the
collective, and arrival times on several nodes, as their clocks differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold_coordinator.verdicts.progress import MAD_SCALE, Pace
from runfold_coordinator.verdicts.timings import BUSY, COLLECTIVE, STEP, Matrix, Timed

#: Settled steps that a verdict looks at, and at least needs.
STEPS = 50
MIN_STEPS = 10
#: A rank is slow in a step when it takes so much longer than the median of the others, and in this share of
#: the steps.
MIN_RATIO = 0.10
MIN_EXCESS_S = 0.005
MIN_SHARE = 0.6
#: Typical excess in units of what chance would make of it.
MIN_SCORE = 3.0
#: Standard error of a median in units of that of a mean, for a normal distribution: sqrt(pi / 2).
MEDIAN_ERROR = 1.2533
#: Noise of a machine lasts: so many steps in a row count as one.
CORRELATED_STEPS = 5.0
#: Spread below which clocks and schedulers are what is measured, seconds.
NOISE_FLOOR_S = 0.001
#: Up to so many ranks the median of the others leaves the rank itself out; with more, it makes no difference.
LEAVE_ONE_OUT = 32
#: Workers without timings: steps behind the others' median.
MIN_LAG = 3


@dataclass(frozen=True, slots=True)
class Slow:
    """One slow writer, by its place among those compared.

    Attributes:
        score: How far out it is: its typical excess in units of the standard error of that, or of how far
            ranks are apart anyway.
        excess_s: What it typically takes longer a step than the others' median.
        share: Of the steps in which it was slow.
    """

    at: int
    score: float
    excess_s: float
    share: float
    timer: str
    why: str

    def to_map(self) -> dict[str, Any]:
        """Return what readers see, rounded."""
        return {
            "score": round(self.score, 1),
            "excess_s": round(self.excess_s, 4),
            "share": round(self.share, 2),
            "timer": self.timer,
            "why": self.why,
        }


def find_slow(timed: Timed) -> list[Slow]:
    """Return the slow ones of at least two writers, by their timings over common steps; worst first."""
    steps = len(timed.steps)
    count = len(next(iter(timed.seconds.values()), ()))
    if count < 2 or steps < MIN_STEPS:
        return []
    own = [name for name in timed.seconds if name not in (STEP, COLLECTIVE, BUSY)]
    if BUSY in timed.seconds or COLLECTIVE in timed.seconds:
        busy = timed.seconds.get(BUSY)
        if busy is None:
            busy = np.maximum(timed.seconds[STEP] - timed.seconds[COLLECTIVE], 0.0)
        found = [(slow, _lost_in(slow, own, timed.seconds)) for slow in _outliers(busy)]
        slows = [_named(slow, timer, excess_s, steps) for slow, (timer, excess_s) in found]
    elif count > 2:
        # Inside of some of these timers ranks may wait for each other, so that sums are equal for all; one
        # that takes long in a timer where the others don't is slow there.
        by_rank: dict[int, Slow] = {}
        for name in own:
            for slow in _outliers(timed.seconds[name]):
                if slow.at not in by_rank or by_rank[slow.at].excess_s < slow.excess_s:
                    by_rank[slow.at] = _named(slow, name, slow.excess_s, steps)
        slows = list(by_rank.values())
    else:
        slows = []
    return sorted(slows, key=lambda slow: -slow.excess_s)


def _outliers(seconds: Matrix) -> list[Slow]:
    others = _medians_of_others(seconds)
    excess = seconds - others
    typical = np.median(excess, axis=1)
    is_slow = excess >= np.maximum(MIN_EXCESS_S, MIN_RATIO * others)
    share = is_slow.mean(axis=1)
    # By how much ranks differ anyway (stages of a pipeline do); two can't tell.
    apart_s = MAD_SCALE * float(np.median(np.abs(typical - np.median(typical)))) if len(seconds) > 2 else 0.0
    independent = max(1.0, seconds.shape[1] / CORRELATED_STEPS)
    found = []
    for at in np.flatnonzero((share >= MIN_SHARE) & (typical >= MIN_EXCESS_S)):
        noise_s = MAD_SCALE * float(np.median(np.abs(excess[at] - typical[at])))
        noise_s = max(apart_s, MEDIAN_ERROR * noise_s / math.sqrt(independent))
        score = float(typical[at]) / max(noise_s, NOISE_FLOOR_S)
        if score >= MIN_SCORE:
            found.append(Slow(int(at), score, float(typical[at]), float(share[at]), "", ""))
    return found


def _medians_of_others(seconds: Matrix) -> Matrix:
    """Return for each writer and step the median over the other writers."""
    count = len(seconds)
    if count > LEAVE_ONE_OUT:
        return np.broadcast_to(np.median(seconds, axis=0), seconds.shape)
    return np.stack([np.median(np.delete(seconds, at, axis=0), axis=0) for at in range(count)])


def _lost_in(slow: Slow, own: Sequence[str], seconds: Mapping[str, Matrix]) -> tuple[str, float]:
    """Return the timer in which it loses most, and how much a step; "" when it is outside of all timers."""
    best, most_s = "", 0.0
    for name in own:
        rows = seconds[name]
        others = np.median(np.delete(rows, slow.at, axis=0), axis=0)
        excess_s = float(np.median(rows[slow.at] - others))
        if excess_s > most_s:
            best, most_s = name, excess_s
    return (best, most_s) if most_s >= 0.5 * slow.excess_s else ("", slow.excess_s)


def _named(slow: Slow, timer: str, excess_s: float, steps: int) -> Slow:
    where = timer or "outside of timers"
    why = f"{where}: +{excess_s:.2g} s a step; slow in {slow.share:.0%} of {steps} steps"
    return Slow(slow.at, slow.score, slow.excess_s, slow.share, timer, why)


def find_behind(paces: Sequence[tuple[Pace, int]]) -> list[Slow]:
    """Return the slow ones of workers that don't wait for each other, by (pace, last step); worst first."""
    if len(paces) < 2:
        return []
    step_s = np.array([[pace.step_s] for pace, _ in paces])
    mad_s = np.array([[pace.mad_s] for pace, _ in paces])
    last = np.array([[float(step)] for _, step in paces])
    typical_s, lag = _medians_of_others(step_s), _medians_of_others(last) - last
    excess_s = step_s - typical_s
    noise_s = MAD_SCALE * np.maximum(mad_s, _medians_of_others(mad_s))
    score = excess_s / np.maximum(noise_s, NOISE_FLOOR_S)
    is_slow = excess_s >= np.maximum(MIN_EXCESS_S, MIN_RATIO * typical_s)
    slows = []
    for at in np.flatnonzero(is_slow & (lag >= MIN_LAG) & (score >= MIN_SCORE)).tolist():
        own_s, others_s = float(step_s[at, 0]), float(typical_s[at, 0])
        why = f"{lag[at, 0]:.0f} steps behind; {own_s:.3g} s a step, others {others_s:.3g} s"
        slows.append(Slow(at, float(score[at, 0]), own_s - others_s, 1.0, "", why))
    return sorted(slows, key=lambda slow: -slow.excess_s)
