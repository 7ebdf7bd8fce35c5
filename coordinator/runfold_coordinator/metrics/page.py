"""The whole answer of `/metrics`: the coordinator's families, then those of runs; kept for a second.

In: what a scraper accepts. Out: bytes and their content type: OpenMetrics 1.0 where it is asked for, else the
text format 0.0.4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from runfold_coordinator.clock import Clock
from runfold_coordinator.metrics.own import OwnMetrics
from runfold_coordinator.metrics.text import GaugeText
from runfold_coordinator.metrics.training import LeftOut, TrainingMetrics

#: An answer is given again for so long, seconds, however many ask.
FRESH_S = 1.0
#: What `choose_encoder` of newer clients says beyond this is of no use to us: all names are plain.
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class Exposition:
    """An answer."""

    body: bytes
    content_type: str


class MetricsPage:
    """Renders. Thread-safe: one renders at a time, who asks meanwhile gets the same."""

    def __init__(self, own: OwnMetrics, training: TrainingMetrics, clock: Clock) -> None:
        self._training = training
        self._clock = clock
        self._registry = CollectorRegistry()
        self._registry.register(own)
        ProcessCollector(registry=self._registry)
        self._lock = threading.Lock()
        self._kept: dict[bool, tuple[float, Exposition]] = {}

    def answer(self, accept: str) -> Exposition:
        """Return the page in the format that an Accept header asks for."""
        is_openmetrics = _asks_for_openmetrics(accept)
        with self._lock:
            now_s = self._clock.mono_s()
            kept = self._kept.get(is_openmetrics)
            if kept is not None and 0 <= now_s - kept[0] < FRESH_S:
                return kept[1]
            made = self._render(is_openmetrics=is_openmetrics)
            # As of its end: a database that is slow is not asked all the time.
            self._kept[is_openmetrics] = (self._clock.mono_s(), made)
            return made

    def _render(self, *, is_openmetrics: bool) -> Exposition:
        text = GaugeText(is_openmetrics=is_openmetrics)
        left_out = self._training.write(text)
        runs = text.render().encode()
        if not is_openmetrics:
            own = generate_latest(self._registry) + generate_latest(_one(left_out))
            return Exposition(own + runs, TEXT_TYPE)
        write: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
        own = b"".join(write(each).removesuffix(_END) for each in (self._registry, _one(left_out)))
        return Exposition(own + runs + _END, OPENMETRICS_TYPE)


def _asks_for_openmetrics(accept: str) -> bool:
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none: the library compares it before it looks
        return False
    return content_type.startswith("application/openmetrics-text")


def _one(left_out: LeftOut) -> CollectorRegistry:
    family = GaugeMetricFamily(
        "runfold_metrics_left_out", "What the caps of this page left out.", labels=["kind"]
    )
    for kind, count in asdict(left_out).items():
        family.add_metric([kind], count)
    registry = CollectorRegistry()
    registry.register(_Fixed(family))
    return registry


class _Fixed(Collector):
    def __init__(self, family: GaugeMetricFamily) -> None:
        self._family = family

    def collect(self) -> list[GaugeMetricFamily]:
        return [self._family]
