"""Goodput ratios that are asked for again and again: measured now and then, given from memory in between."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.clock import Clock
from runfold_coordinator.store.model import RunRow

#: A run that goes on is measured at most so often, seconds, ...
EVERY_S = 10.0
#: ... and for at most this share of the time.
SHARE = 0.05
MAX_RUNS = 2048


@dataclass(frozen=True, slots=True)
class _Kept:
    until_s: float
    version: int
    ratio: float | None


class KeptGoodput:
    """Remembers ratios. Thread-safe; two that ask at once may both measure."""

    def __init__(self, measure: Callable[[RunRow], dict[str, Any]], clock: Clock) -> None:
        self._measure = measure
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def known(self, run: RunRow) -> float | None:
        """Return what was measured last, without measuring."""
        with self._lock:
            kept = self._kept.get(run.run_pk)
        return None if kept is None else kept.ratio

    def ratio(self, run: RunRow) -> float | None:
        """Return productive time over wall time, some seconds old; None while there is none."""
        now_s = self._clock.mono_s()
        with self._lock:
            kept = self._kept.get(run.run_pk)
        # A run that ended is measured once more, and then only when it changes.
        if kept is not None and (now_s < kept.until_s or kept.version == run.version):
            return kept.ratio
        found = self._measure(run)["ratio"]
        took_s = self._clock.mono_s() - now_s
        is_over = run.ended_unix_ns is not None
        kept = _Kept(
            until_s=now_s + max(EVERY_S, took_s / SHARE),
            version=run.version if is_over else -1,
            ratio=found,
        )
        with self._lock:
            self._kept[run.run_pk] = kept
            self._kept.move_to_end(run.run_pk)
            while len(self._kept) > MAX_RUNS:
                self._kept.popitem(last=False)
        return kept.ratio
