"""The coordinator process: builds the parts, starts them in order, stops them in reverse.

Redis, store, a thread per partition, maintenance, HTTP; then it registers itself and writes the ready file.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from runfold_coordinator.alerts.service import Alerts
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.body_limits import BODY_LIMITS
from runfold_coordinator.api.gate import GatePolicy
from runfold_coordinator.api.server import HttpServer
from runfold_coordinator.ballast import Ballast
from runfold_coordinator.clock import Clock, SystemClock
from runfold_coordinator.content import Content
from runfold_coordinator.downlink import KEEP_ACK_S, Downlink
from runfold_coordinator.edits.changes import RunEdits
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.ingest.intake import Intake
from runfold_coordinator.ingest.loop import BLOCK_S, TICK_EVERY_S, IngestLoop
from runfold_coordinator.ingest.transaction import Ingest
from runfold_coordinator.live_facts import LiveFacts
from runfold_coordinator.liveness import Liveness
from runfold_coordinator.maintenance import Maintenance
from runfold_coordinator.metrics.backlog import BacklogReader
from runfold_coordinator.metrics.building import Metrics
from runfold_coordinator.metrics.content import ContentMetrics
from runfold_coordinator.metrics.http_counts import HttpCounts
from runfold_coordinator.metrics.own import OwnSources
from runfold_coordinator.readers.alerts_reader import AlertsReader
from runfold_coordinator.readers.attempts_reader import AttemptsReader
from runfold_coordinator.readers.console_reader import ConsoleReader
from runfold_coordinator.readers.files_reader import FilesReader
from runfold_coordinator.readers.goodput_reader import GoodputReader
from runfold_coordinator.readers.group_reader import GroupReader
from runfold_coordinator.readers.history_columns import HistoryColumns
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.readers.live_reader import LiveReader
from runfold_coordinator.readers.node_reader import NodeReader
from runfold_coordinator.readers.series_reader import SeriesReader
from runfold_coordinator.readers.stops_reader import StopsReader
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.readers.system_reader import SystemReader
from runfold_coordinator.redis_checks import RedisUnavailableError, check_redis
from runfold_coordinator.settings import CoordinatorSettings
from runfold_coordinator.state_board import StateBoard
from runfold_coordinator.states import Limits
from runfold_coordinator.stops import Stops
from runfold_coordinator.store.store import Store
from runfold_coordinator.stream_reader import StreamReader
from runfold_coordinator.verdicts.board import VerdictBoard
from runfold_coordinator.verdicts.progress import StallLimits

logger = logging.getLogger(__name__)

#: Console lines of the writer that is blamed which are kept with a run's first failure.
FAILURE_LINES = 20


class Service:
    """One coordinator. `start()` returns when it serves; `stop()` is idempotent and loses nothing."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        *,
        clock: Clock | None = None,
        on_fenced: Callable[[str], None] = lambda _why: None,
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            on_fenced: Told from another thread when a partition was taken over: the service has to be
                stopped whole, as what it serves grows old and its summaries are another's to write.
        """
        self.settings = settings
        self._on_fenced = on_fenced
        self._clock = clock or SystemClock()
        #: What to undo, newest last.
        self._stops: list[Callable[[], None]] = []
        self._stop_lock = threading.Lock()
        self.redis_url = ""
        self.url = ""
        self.loops: list[IngestLoop] = []
        self._live_facts = LiveFacts(self._clock)

    def start(self) -> Service:
        """Start every part.

        Raises:
            RedisConfigurationError, RedisUnavailableError, StoreRefusedError, StoreUnavailableError, OSError,
            ValueError: It can't start; the message tells the way out.
        """
        # Refused before anything is opened: a public address without a key.
        gate = GatePolicy.for_address(
            self.settings.host,
            api_key=self.settings.api_key,
            body_limits=BODY_LIMITS,
            notebooks=self.settings.notebooks,
        )
        try:
            self._start(gate)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop every part, the last started first. What is in Redis or in spools stays there."""
        with self._stop_lock:
            while self._stops:
                try:
                    self._stops.pop()()
                except Exception:
                    logger.exception("a part did not stop cleanly", extra={"event": "stop_failed"})

    def _start(self, gate: GatePolicy) -> None:
        settings = self.settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ballast = Ballast(settings.data_dir / "ballast", settings.ballast_bytes)
        ballast.free_if_full()
        self.redis_url = self._start_redis()
        store = Store.open(
            settings.database_url, cold_url=settings.cold_url or str(settings.data_dir / "cold")
        )
        self._stops.append(store.close)
        store.keep_partitions(settings.partitions)
        ballast.take()
        content = Content(store, self._clock, settings, ballast, self._live_facts)
        self._stops.append(content.stop)
        alerts = Alerts(store, self._clock, settings.alerts_path, os.environ)
        self._stops.append(alerts.stop)
        open_stream = functools.partial(StreamReader, self.redis_url)
        stops = Stops(store, self._clock)
        stops.load()
        owner = f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
        console = ConsoleReader(store)
        failure_lines = FailureLines(
            store, self._clock, lambda writer_id: console.last_lines(writer_id, FAILURE_LINES)
        )
        for partition in range(settings.partitions):
            self._start_loop(
                store,
                partition,
                open_stream(partition),
                owner,
                ballast,
                stops=stops,
                failure_lines=failure_lines,
            )
        summaries = SummaryReader(store)
        deletion = Deletion(
            store,
            self._clock,
            keep_s=settings.deleted_keep_s,
            node_stats_days=settings.node_stats_days,
        )
        deletion.delete_artifacts = content.artifacts.deleter.delete_logged_by
        maintenance = Maintenance(
            store,
            self._clock,
            ballast,
            cold_after_s=settings.cold_after_s,
            summaries=summaries,
            failure_lines=failure_lines,
            deletion=deletion,
        )
        self._stops.append(maintenance.stop)
        maintenance.start()
        alerts.start()
        intake = Intake(store, self.loops, open_stream, redis_url=self.redis_url)
        self._stops.append(intake.close)
        content.start()
        self._start_http(self._backend(store, summaries, intake, stops, gate, deletion, content))
        self._register(store.server_id)

    def _start_redis(self) -> str:
        settings = self.settings
        if settings.redis_url is not None:
            try:
                check_redis(settings.redis_url)
            except RedisUnavailableError as error:
                # Reads are answered without it, and ingest asks again until it is there.
                logger.warning("starting without Redis", extra={"event": "redis_away", "why": str(error)})
            return settings.redis_url
        server = EmbeddedRedis(settings.data_dir, max_memory_bytes=settings.redis_memory_bytes)
        self._stops.append(server.stop)
        server.start()
        return server.url

    def _start_loop(
        self,
        store: Store,
        partition: int,
        reader: StreamReader,
        owner: str,
        ballast: Ballast,
        *,
        stops: Stops,
        failure_lines: FailureLines,
    ) -> None:
        settings, clock = self.settings, self._clock
        self._stops.append(reader.close)
        liveness = Liveness(clock)
        self._live_facts.add(liveness)
        # Silence is looked for every so often: a turn early, so that the flag is not late.
        early_s = min(TICK_EVERY_S + BLOCK_S, settings.unreachable_s / 10)
        limits = Limits(unreachable_s=settings.unreachable_s - early_s, lost_s=settings.lost_s)
        board = StateBoard(store, liveness, clock, limits, partition=partition, failure_lines=failure_lines)
        ingest = Ingest(store, partition, board, clock, owner=owner)

        def recent_acks() -> dict[bytes, int]:
            found = store.recent_acks(partition, clock.unix_s() - KEEP_ACK_S)
            return {bytes.fromhex(writer): seq for writer, seq in found.items()}

        downlink = Downlink(
            reader,
            clock,
            server_id=store.server_id,
            partitions=settings.partitions,
            recent_acks=recent_acks,
            stops=functools.partial(stops.told, partition),
        )
        loop = IngestLoop(
            reader,
            ingest,
            downlink,
            liveness=liveness,
            board=board,
            clock=clock,
            attempt_path=settings.data_dir / f"ingest-{partition}.attempt",
            free_ballast=ballast.free,
            ahead=StreamReader(self.redis_url, partition),
            on_fenced=self._on_fenced,
        )
        verdicts = VerdictBoard(
            store,
            liveness,
            clock,
            StallLimits(min_s=settings.stall_min_s, factor=settings.stall_factor),
            partition=partition,
            unreachable_s=settings.unreachable_s,
            ask_stacks=downlink.ask_stacks,
        )
        verdicts.check_owner = ingest.check_owner
        ingest.on_stored = verdicts.note
        loop.judges.append(verdicts.judge)
        self.loops.append(loop)
        self._stops.append(loop.stop)
        loop.start()

    def _backend(  # noqa: PLR0917 - the parts that are not made here
        self,
        store: Store,
        summaries: SummaryReader,
        intake: Intake,
        stops: Stops,
        gate: GatePolicy,
        deletion: Deletion,
        content: Content,
    ) -> Backend:
        goodput = GoodputReader(store, self._clock)
        live = LiveReader(store, self._clock, self._live_facts, goodput.goodput)
        return Backend(
            store=store,
            history=HistoryReader(store),
            history_columns=HistoryColumns(store),
            series=SeriesReader(store),
            system=SystemReader(store),
            nodes=NodeReader(store),
            summaries=summaries,
            groups=GroupReader(store, summaries),
            attempts=AttemptsReader(store),
            goodput=goodput,
            alerts=AlertsReader(store),
            live=live,
            metrics=self._metrics(store, live, content),
            intake=intake,
            stops=stops,
            stop_requests=StopsReader(store),
            edits=RunEdits(store, self._clock, self._live_facts.clock_offsets),
            deletion=deletion,
            blobs=content.blobs.blobs,
            uploads=content.blobs.uploads,
            files=content.files,
            stored_files=FilesReader(store),
            artifacts=content.artifacts,
            gate=gate,
            server_id=store.server_id,
            mono_s=self._clock.mono_s,
        )

    def _metrics(self, store: Store, live: LiveReader, content: Content) -> Metrics:
        backlog = BacklogReader(self.redis_url, self.settings.partitions, self._clock)
        self._stops.append(backlog.close)
        blobs = content.blobs
        content_metrics = ContentMetrics(
            store, self._clock, blobs.blobs, blobs.uploads, content.artifacts.committer.counts
        )
        sources = OwnSources(
            store=store,
            clock=self._clock,
            http=HttpCounts(),
            loops=self.loops,
            backlog=backlog.read,
            more=[content_metrics.families],
        )
        metrics = Metrics(sources, live, keys=self.settings.metrics_keys)
        self._stops.append(metrics.close)
        return metrics

    def _start_http(self, backend: Backend) -> None:
        server = HttpServer(create_app(backend), self.settings.host, self.settings.port)
        self._stops.append(server.close)
        server.start()
        self.url = server.url

    def _register(self, server_id: str) -> None:
        """Tell the workers of this machine where the server is; the newest one that started wins."""
        path = self.settings.runfold_dir / "server.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = {
            "url": self.url,
            "redis_url": self.redis_url,
            "pid": os.getpid(),
            "server_id": server_id,
            "partitions": self.settings.partitions,
            "data_dir": str(self.settings.data_dir),
        }
        write_private_json(path, facts)
        self._stops.append(functools.partial(_unregister, path))

    def facts(self) -> dict[str, object]:
        """Return what the ready file says."""
        return {
            "url": self.url,
            "redis_url": self.redis_url,
            "data_dir": str(self.settings.data_dir),
            "pid": os.getpid(),
        }


def write_private_json(path: Path, facts: dict[str, object]) -> None:
    """Write a file that only we may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(facts, file)
    temporary.replace(path)


def _unregister(path: Path) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()
