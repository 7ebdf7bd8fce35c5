"""The families of the coordinator itself: what came in, what waits, what it holds, whom it answered.

In: counters that other threads feed without a lock, a few cheap questions. Out: prometheus_client's families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

import sqlalchemy as sa
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.clock import Clock
from runfold_coordinator.ingest.measures import ControlCounts, Durations
from runfold_coordinator.ingest.transaction import Counts
from runfold_coordinator.metrics.backlog import Backlog
from runfold_coordinator.metrics.http_counts import HttpCounts
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import is_deleted
from runfold_coordinator.store.size import database_bytes
from runfold_coordinator.store.store import Store

#: Counting what lies in the database is done at most so often, seconds.
COUNT_EVERY_S = 5.0
_FRAME_RESULTS = {
    "duplicate": "duplicate_frames",
    "sliced": "sliced_frames",
    "nacked": "nacked_frames",
    "bad_crc": "bad_crc",
}


class LoopLike(Protocol):
    """What is read of a partition's thread (ingest.loop.IngestLoop)."""

    is_connected: bool
    fault: str
    commits: Durations
    control: ControlCounts

    @property
    def counts(self) -> Counts:
        """What happened to entries since start."""


@dataclass(frozen=True, slots=True)
class OwnSources:
    """Where the numbers come from. A coordinator without a part leaves it out."""

    store: Store
    clock: Clock
    http: HttpCounts
    loops: Sequence[LoopLike] = ()
    backlog: Callable[[], Backlog | None] = lambda: None
    #: Anything else that counts: more families, cheap and without a lock.
    more: Sequence[Callable[[], Iterable[Metric]]] = field(default=())


@dataclass(frozen=True, slots=True)
class _Stored:
    """Counts from the database, as of `at_s`."""

    at_s: float
    runs: Mapping[str, int]
    writers: Mapping[str, int]
    unreachable: int
    stalled: int
    database_bytes: int | None
    deliveries: Mapping[str, int]


class OwnMetrics(Collector):
    """Collects the coordinator's own families."""

    def __init__(self, sources: OwnSources) -> None:
        self._sources = sources
        self._stored: _Stored | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        info = {"version": _version(), "server_id": self._sources.store.server_id}
        yield InfoMetricFamily("runfold_build", "The coordinator.", value=info)
        yield from _ingest(self._sources.loops)
        yield from _waiting(self._sources.backlog())
        yield from _held(self._count())
        yield from _answered(self._sources.http)
        for source in self._sources.more:
            yield from source()

    def _count(self) -> _Stored:
        now_s = self._sources.clock.mono_s()
        if self._stored is None or not 0 <= now_s - self._stored.at_s < COUNT_EVERY_S:
            self._stored = _count_stored(self._sources.store, now_s)
        return self._stored


def _ingest(loops: Sequence[LoopLike]) -> Iterator[Metric]:
    counted = [
        ("entries", "entries", "Entries read from the streams."),
        ("rows", "rows", "Rows stored: log() calls."),
        ("records", "records", "Records stored that are no rows."),
        ("dead_letters", "dead_letters", "Records that could not be decoded, kept as they came."),
        ("bisections", "bisections", "Batches that were halved to find a bad entry."),
    ]
    for name, attribute, text in counted:
        family = CounterMetricFamily(f"runfold_ingest_{name}", text, labels=["partition"])
        for partition, loop in enumerate(loops):
            family.add_metric([str(partition)], getattr(loop.counts, attribute))
        yield family
    frames = CounterMetricFamily(
        "runfold_ingest_refused_frames", "Frames not stored whole, by why.", labels=["partition", "result"]
    )
    control = CounterMetricFamily(
        "runfold_control_messages", "Messages of agents beside data.", labels=["partition", "kind"]
    )
    connected = GaugeMetricFamily(
        "runfold_ingest_connected", "1 while the partition's stream is read.", labels=["partition"]
    )
    faulty = GaugeMetricFamily(
        "runfold_ingest_faulty",
        "1 while the partition's thread waits for something to pass.",
        labels=["partition"],
    )
    commits = HistogramMetricFamily(
        "runfold_ingest_commit_seconds",
        "Time to store one batch durably.",
        labels=["partition"],
        unit="seconds",
    )
    for partition, loop in enumerate(loops):
        which = str(partition)
        for result, attribute in _FRAME_RESULTS.items():
            frames.add_metric([which, result], getattr(loop.counts, attribute))
        for kind in ("heartbeats", "evidence", "bad"):
            control.add_metric([which, kind], getattr(loop.control, kind))
        connected.add_metric([which], float(loop.is_connected))
        faulty.add_metric([which], float(bool(loop.fault)))
        buckets, sum_s = loop.commits.read()
        commits.add_metric([which], [(bound, float(count)) for bound, count in buckets], sum_s)
    yield from (frames, control, connected, faulty, commits)


def _waiting(backlog: Backlog | None) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "runfold_redis_up", "1 where Redis answers at once.", value=float(backlog is not None)
    )
    if backlog is None:
        return
    entries = GaugeMetricFamily(
        "runfold_backlog_entries", "Entries in the stream that are not stored yet.", labels=["partition"]
    )
    ages = GaugeMetricFamily(
        "runfold_backlog_age_seconds", "Age of the oldest of them.", labels=["partition"], unit="seconds"
    )
    for partition, (count, age_s) in enumerate(backlog.waiting):
        entries.add_metric([str(partition)], count)
        ages.add_metric([str(partition)], age_s)
    yield from (entries, ages)
    yield GaugeMetricFamily(
        "runfold_redis_memory_bytes", "Memory that Redis uses.", value=backlog.memory_bytes, unit="bytes"
    )
    if backlog.max_memory_bytes:
        yield GaugeMetricFamily(
            "runfold_redis_memory_limit_bytes", "Memory that Redis may use.",
            value=backlog.max_memory_bytes, unit="bytes",
        )  # fmt: skip


def _held(stored: _Stored) -> Iterator[Metric]:
    yield _by_label("runfold_runs", "Runs that go on, by state.", "state", stored.runs)
    yield _by_label("runfold_writers", "Processes of runs that go on, by state.", "state", stored.writers)
    yield GaugeMetricFamily("runfold_writers_unreachable", "Of these, silent ones.", value=stored.unreachable)
    yield GaugeMetricFamily(
        "runfold_writers_stalled", "Of these, such without progress.", value=stored.stalled
    )
    yield _by_label(
        "runfold_alert_deliveries", "Alerts to receivers, waiting and given up.", "state", stored.deliveries
    )
    if stored.database_bytes is not None:
        yield GaugeMetricFamily(
            "runfold_database_bytes", "Size of the database.", value=stored.database_bytes, unit="bytes"
        )


def _answered(http: HttpCounts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "runfold_http_requests", "Requests answered.", labels=["method", "route", "status"]
    )
    seconds = SummaryMetricFamily(
        "runfold_http_request_duration_seconds", "From request to the end of its answer.",
        labels=["method", "route"], unit="seconds",
    )  # fmt: skip
    totals: dict[tuple[str, str], tuple[int, float]] = {}
    for (method, route, status), (count, took_s) in sorted(http.read().items()):
        requests.add_metric([method, route, status], count)
        before = totals.get((method, route), (0, 0.0))
        totals[method, route] = before[0] + count, before[1] + took_s
    for (method, route), (count, took_s) in totals.items():
        seconds.add_metric([method, route], count_value=count, sum_value=took_s)
    yield from (requests, seconds)


def _version() -> str:
    try:
        return metadata.version("runfold")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def _by_label(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _count_stored(store: Store, now_s: float) -> _Stored:
    r, w, d = t.runs.c, t.writers.c, t.alert_deliveries.c
    goes_on = r.state.in_(("running", "preempting"))
    runs = store.fetch(
        sa.select(r.state, sa.func.count())
        .where(goes_on, r.entity != NODE_ENTITY, is_deleted(False))
        .group_by(r.state)
    )
    writers: list[Any] = store.fetch(
        sa.select(
            w.state,
            sa.func.count(),
            sa.func.sum(sa.case((w.unreachable, 1), else_=0)),
            sa.func.sum(sa.case((w.stalled, 1), else_=0)),
        )
        .select_from(t.runs.join(t.writers, w.run_pk == r.run_pk))
        .where(goes_on, w.role == "process", is_deleted(False))
        .group_by(w.state)
    )
    deliveries = store.fetch(
        sa.select(d.state, sa.func.count()).where(d.state.in_(("waiting", "given_up"))).group_by(d.state)
    )
    return _Stored(
        at_s=now_s,
        runs={"running": 0, "preempting": 0} | {row[0]: row[1] for row in runs},
        writers={row[0]: row[1] for row in writers},
        unreachable=sum(int(row[2] or 0) for row in writers),
        stalled=sum(int(row[3] or 0) for row in writers),
        database_bytes=database_bytes(store.engines),
        deliveries={"waiting": 0, "given_up": 0} | {row[0]: row[1] for row in deliveries},
    )
