"""Which numbers a sample may hold: finite ones, inside what the quantity can be. Pure.

Drivers answer nonsense now and then (a power of 4,294,967 W while a GPU resets): better no value than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

#: Nothing that is measured here is larger.
_LARGEST = 1e18
#: By the last part of the name: lowest and highest value that can be.
_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("gpu", "memory", "fanSpeed", "encoderUtilization", "decoderUtilization"), (0, 100)),
    **dict.fromkeys(("smActive", "smOccupancy", "dramActive", "pipeTensorActive"), (0, 100)),
    **dict.fromkeys(("pipeTensorHmmaActive", "pipeFp64Active", "pipeFp32Active", "pipeFp16Active"), (0, 100)),
    **dict.fromkeys(("memoryAllocated", "memory_percent", "usagePercent", "throttledPercent"), (0, 100)),
    **dict.fromkeys(("cpu_percent", "used_percent", "iowait_percent", "cpu_max_core_percent"), (0, 100)),
    **dict.fromkeys(("temp", "memoryTemp"), (-50, 200)),
    **dict.fromkeys(("powerWatts", "enforcedPowerLimitWatts"), (0, 20_000)),
    "powerPercent": (0, 1000),
    **dict.fromkeys(("smClock", "memoryClock", "graphicsClock"), (0, 100_000)),
}


def is_plausible(name: str, value: float) -> bool:
    """Return True if `value` can be what the metric `name` measures."""
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return False
    low, high = _BOUNDS.get(name.rpartition("/")[2].rpartition(".")[2], (-_LARGEST, _LARGEST))
    # Percentages of a moment are made of counters read one after the other: a hair above 100 is 100.
    return low <= value <= high * 1.01


def plausible(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that can be, as floats."""
    return {name: float(value) for name, value in values.items() if is_plausible(name, value)}
