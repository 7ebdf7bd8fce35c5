"""RunClock: wall clock to `_runtime`, which stands still while a run waits to be resumed.

In: when each stretch of the run began. Out: seconds since the run began. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from runfold.protocol.branching import MAX_RUNTIME_S
from runfold.protocol.history.summary import runtime_s

#: Before every time.
_EVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class RunClock:
    """By stretch: since when it counts, and when its zero was; unix ns, the first ones ascending."""

    since: tuple[int, ...]
    zero: tuple[int, ...]

    @classmethod
    def of(cls, started_unix_ns: int, resumed: Iterable[tuple[int, float | None]] = ()) -> Self:
        """Return the clock of a run.

        Args:
            resumed: When its writers went on with it, unix ns, and how long it had gone on by then, seconds.
        """
        stretches = {_EVER: started_unix_ns}
        for since, gone_on_s in sorted(resumed):
            if gone_on_s is not None and 0 <= gone_on_s < MAX_RUNTIME_S:
                stretches[since] = since - int(gone_on_s * 1e9)
        return cls(tuple(stretches), tuple(stretches.values()))

    def after(self, base: Self, begins_unix_ns: int) -> Self:
        """Return the clock of a fork: its base's, from when it begins this one."""
        kept = [at for at, since in enumerate(base.since) if since < begins_unix_ns]
        return type(self)(
            (*(base.since[at] for at in kept), begins_unix_ns, *self.since[1:]),
            (*(base.zero[at] for at in kept), *self.zero),
        )

    def runtime_s(self, t_ns: int) -> float:
        """Return `_runtime` at a time, in seconds."""
        at = bisect_right(self.since, t_ns) - 1
        return runtime_s(t_ns, self.zero[max(at, 0)])

    def seconds(self, t_ns: NDArray[Any]) -> NDArray[np.float64]:
        """Return `_runtime` at each of some times: (n,) unix ns to (n,) seconds."""
        times = t_ns.view(np.int64)
        if len(self.zero) == 1:
            return (times - np.int64(self.zero[0])).astype(np.float64) / 1e9
        at = np.searchsorted(np.array(self.since, np.int64), times, "right") - 1
        return (times - np.array(self.zero, np.int64)[np.maximum(at, 0)]).astype(np.float64) / 1e9
