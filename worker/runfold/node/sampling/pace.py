"""How long until the next sample: as asked for, longer where sampling would be felt. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Sampling may take this share of one processor.
MAX_COST_RATIO = 0.01
#: Below this share of idle processor time the machine has none to spare.
IDLE_FLOOR = 0.03
#: No interval grows beyond this because of load, nor beyond so many times what was asked for.
LONGEST_S = 60.0
MAX_STRETCH = 6.0
#: How fast the interval follows the load.
STEP = 1.5
#: Shorter intervals measure rounding only.
SHORTEST_S = 0.1


@dataclass(slots=True)
class Pace:
    """The interval of a sampler, seconds."""

    interval_s: float = 0.0
    #: of the sample before; the very first one, which loads drivers, is not held against the others
    _cost_before_s: float = 0.0

    def next_s(self, wanted_s: float, *, cost_s: float, idle_ratio: float | None) -> float:
        """Return how long to wait after a sample.

        Args:
            wanted_s: The interval that was asked for.
            cost_s: Processor time of the sample.
            idle_ratio: Idle share of the machine's (or the container's) processors since the sample before;
                None: unknown.
        """
        wanted_s = max(SHORTEST_S, wanted_s)
        ceiling_s = max(wanted_s, min(LONGEST_S, wanted_s * MAX_STRETCH))
        current_s = min(max(self.interval_s, wanted_s), ceiling_s)
        if idle_ratio is not None and idle_ratio < IDLE_FLOOR:
            current_s = min(ceiling_s, current_s * STEP)
        else:
            current_s = max(wanted_s, current_s / STEP)
        # What is dear twice in a row stays rare, however much idle time there is.
        usual_s, self._cost_before_s = min(cost_s, self._cost_before_s), cost_s
        costly_s = min(usual_s / MAX_COST_RATIO, max(LONGEST_S, wanted_s))
        self.interval_s = max(current_s, costly_s)
        return self.interval_s
