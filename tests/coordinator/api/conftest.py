from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.api.asgi import AsgiClient
from runfold.api import Api
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.body_limits import BODY_LIMITS
from runfold_coordinator.api.gate import GatePolicy
from runfold_coordinator.api.server import HttpServer
from runfold_coordinator.artifacts.service import Artifacts
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.places import LocalPlace
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.clock import SystemClock
from runfold_coordinator.edits.changes import RunEdits
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.live_facts import LiveFacts
from runfold_coordinator.metrics.building import Metrics
from runfold_coordinator.metrics.http_counts import HttpCounts
from runfold_coordinator.metrics.own import OwnSources
from runfold_coordinator.readers.alerts_reader import AlertsReader
from runfold_coordinator.readers.attempts_reader import AttemptsReader
from runfold_coordinator.readers.files_reader import FilesReader
from runfold_coordinator.readers.goodput_reader import GoodputReader
from runfold_coordinator.readers.group_reader import GroupReader
from runfold_coordinator.readers.history_columns import HistoryColumns
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.live_reader import LiveReader, NothingHeard
from runfold_coordinator.readers.node_reader import NodeReader
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.stops_reader import StopsReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.readers.system_reader import SystemReader
from runfold_coordinator.run_files import RunFiles
from runfold_coordinator.stops import Stops
from runfold_coordinator.store.store import Store
from support.stores import new_database


@dataclass
class HeardIntake:
    """Keeps what arrives instead of a stream."""

    frames: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)

    def add_frames(self, entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        self.frames += entries
        return len(entries)

    def add_control(self, message: bytes) -> None:
        self.controls.append(message)

    def acks(self, writer_ids: Collection[str]) -> dict[str, Any]:
        return {"srv": "ab", "cur": "0-0", "beat": 1, "parts": 1, "acks": dict.fromkeys(writer_ids, 7)}

    def stacks(self, partition: int) -> bytes:
        return b"" if partition else b"asked"

    def connect_facts(self) -> dict[str, Any]:
        return {"redis_url": None, "server_id": "ab", "partitions": 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(new_database(tmp_path / "runfold.db"))
    yield opened
    opened.close()


@pytest.fixture
def intake() -> HeardIntake:
    return HeardIntake()


def backend_over(store: Store, intake: HeardIntake, **more: Any) -> Backend:
    """Return a backend with the real store and readers, and an intake that only listens."""
    summaries = SummaryReader(store)
    assert store.engines.path is not None
    place = LocalPlace(store.engines.path.parent / "blobs")
    blobs = Blobs(store, place, SystemClock(), min_age_s=86400.0)
    values: dict[str, Any] = {
        "store": store,
        "history": HistoryReader(store),
        "history_columns": HistoryColumns(store),
        "series": SeriesReader(store),
        "system": SystemReader(store),
        "nodes": NodeReader(store),
        "summaries": summaries,
        "groups": GroupReader(store, summaries),
        "attempts": AttemptsReader(store),
        "goodput": GoodputReader(store, SystemClock()),
        "alerts": AlertsReader(store),
        "live": (live := LiveReader(store, SystemClock(), NothingHeard())),
        "metrics": Metrics(OwnSources(store=store, clock=SystemClock(), http=HttpCounts()), live),
        "intake": intake,
        "stops": Stops(store, SystemClock()),
        "stop_requests": StopsReader(store),
        "edits": RunEdits(store, SystemClock()),
        "deletion": Deletion(store, SystemClock()),
        "blobs": blobs,
        "uploads": Uploads(blobs),
        "files": RunFiles(store, blobs, SystemClock()),
        "stored_files": FilesReader(store),
        "artifacts": Artifacts(store, blobs, SystemClock(), LiveFacts(SystemClock())),
        "gate": GatePolicy.for_address("127.0.0.1", body_limits=BODY_LIMITS),
        "server_id": store.server_id,
        "mono_s": time.monotonic,
    }
    return Backend(**(values | more))


@pytest.fixture
def client(store: Store, intake: HeardIntake) -> AsgiClient:
    return AsgiClient(create_app(backend_over(store, intake)))


@pytest.fixture
def api(store: Store, intake: HeardIntake) -> Iterator[Api]:
    """The real client on a real server over a real store."""
    server = HttpServer(create_app(backend_over(store, intake)), "127.0.0.1", 0).start()
    found = Api(url=server.url, timeout=10)
    yield found
    found.close()
    server.close()
