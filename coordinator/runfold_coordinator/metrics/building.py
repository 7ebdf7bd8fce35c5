"""Puts the page together out of its parts. In: the parts of a coordinator. Out: a MetricsPage and its end."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from runfold_coordinator.metrics.own import OwnMetrics, OwnSources
from runfold_coordinator.metrics.page import MetricsPage
from runfold_coordinator.metrics.run_values import RunValues
from runfold_coordinator.metrics.training import Caps, TrainingMetrics
from runfold_coordinator.readers.live_reader import LiveReader


class Metrics:
    """Owns the page and the thread behind it; close() ends that."""

    def __init__(
        self, sources: OwnSources, live: LiveReader, *, keys: str = "*", caps: Caps | None = None
    ) -> None:
        """Prepare; nothing runs before the first scrape.

        Args:
            keys: Names of metrics that are exported, by comma; "*" and "?" stand for anything.
        """
        caps = caps or Caps()
        self.http = sources.http
        self._values = RunValues(
            sources.store, live.goodput, sources.clock, wanted=wanted_names(keys), most=caps.metrics
        )
        training = TrainingMetrics(sources.store, sources.clock, live, self._values, caps)
        self.page = MetricsPage(OwnMetrics(sources), training, sources.clock)

    def close(self) -> None:
        """End the thread; idempotent."""
        self._values.close()


def wanted_names(keys: str) -> Callable[[str], bool]:
    """Return a test for names; no pattern lets none pass."""
    patterns = [pattern.strip() for pattern in keys.split(",") if pattern.strip()]
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)
