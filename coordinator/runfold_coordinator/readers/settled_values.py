"""The newest settled value of each metric of a run that goes on, reduced over its ranks.

In: a run, from time to time. Out: numbers by name. Each look reads what settled since the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.readers.lane_rows import read_lane, reduce_lanes
from runfold_coordinator.readers.reduced_window import read_window
from runfold_coordinator.readers.run_lanes import RunLanes, Seat
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.store import Store

#: Steps looked at the first time, and at most: of a run that steps faster the newest count.
FIRST_STEPS = 256
MOST_STEPS = 2048
#: A rank that is further behind is not waited for: it may have stopped logging long ago.
NOT_AWAITED_STEPS = 1024


@dataclass(slots=True)
class SettledValues:
    """Values of one run's newest attempt. `values`: by display name; `left_out`: metrics beyond the cap."""

    attempt: int = 0
    step: int | None = None
    values: dict[str, float] = field(default_factory=dict)
    left_out: int = 0

    def follow(self, store: Store, lanes: RunLanes, wanted: Callable[[str], bool], most: int) -> None:
        """Take what settled since the last call.

        Args:
            wanted: Whether a metric of this display name is exported.
            most: Metrics taken, in the order of their names.
        """
        attempt = max((seat.placement.attempt for seat in lanes.seats), default=0)
        if attempt != self.attempt:
            self.attempt, self.step, self.values = attempt, None, {}
        current = lanes.only(attempt=attempt)
        step = settled_step(current.seats)
        names = {key: name for key, name in current.display_names().items() if _is_number(lanes.keys[key])}
        names = {key: name for key, name in names.items() if wanted(name)}
        chosen = sorted(names, key=lambda key: names[key])[:most]
        self.left_out = len(names) - len(chosen)
        if step is None or not chosen or (self.step is not None and step <= self.step):
            return
        low = step - FIRST_STEPS + 1 if self.step is None else max(self.step + 1, step - MOST_STEPS + 1)
        news = {}
        for key, column in _read(store, current, chosen, low, step + 1).items():
            value = column.objects()[-1] if key in names and len(column) else None
            if isinstance(value, int | float) and not isinstance(value, bool):
                news[names[key]] = _float(value)
        # Another map, never the same one changed: who reads it is in another thread.
        self.values, self.step = self.values | news, step


def _read(store: Store, lanes: RunLanes, keys: list[str], low: int, high: int) -> dict[str, Column]:
    """Return the reduced columns: read by lane or by key, whichever are fewer."""
    if len(lanes.lanes) > len(keys):
        return read_window(store, lanes, keys, low=low, high=high).columns
    weights = {weight for key in keys if (weight := lanes.weight_key(key)) is not None}
    parts = [read_lane(store, lane, low=low, high=high, keys=weights.union(keys)) for lane in lanes.lanes]
    return reduce_lanes(lanes, parts, keys).columns


def settled_step(seats: Sequence[Seat]) -> int | None:
    """Return the step that every live rank has passed, but for those that fell far behind; None: no row."""
    tops = [seat.top_step for seat in seats if seat.top_step is not None]
    if not tops:
        return None
    front = max(tops)
    awaited = [
        seat.top_step - 1
        for seat in seats
        if seat.writer.state not in TERMINAL
        and seat.top_step is not None
        and front - seat.top_step <= NOT_AWAITED_STEPS
    ]
    found = min(awaited, default=front)
    return None if found < min(_firsts(seats), default=0) else found


def _firsts(seats: Sequence[Seat]) -> list[int]:
    return [
        seat.writer.step_min + seat.placement.step_offset
        for seat in seats
        if seat.writer.step_min is not None
    ]


def _is_number(kinds: str) -> bool:
    return "d" in kinds or "q" in kinds


def _float(value: float) -> float:
    try:
        return float(np.float64(value))
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
