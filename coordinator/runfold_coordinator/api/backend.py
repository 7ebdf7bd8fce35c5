"""What the HTTP API needs of the coordinator: `service.py` gives an object of this shape to `create_app`.

The readers' answers are plain: rows as dicts, or a Table of columns. All calls block, in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runfold_coordinator.api.gate import GatePolicy
from runfold_coordinator.artifacts.service import Artifacts
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.edits.changes import RunEdits
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.metrics.building import Metrics
from runfold_coordinator.readers.alerts_reader import AlertsPage
from runfold_coordinator.readers.answers import HistoryPage, Table
from runfold_coordinator.readers.files_reader import FilesReader
from runfold_coordinator.readers.history_columns import ColumnsPage
from runfold_coordinator.readers.live_reader import LiveReader
from runfold_coordinator.readers.stops_reader import StopsReader
from runfold_coordinator.run_files import RunFiles
from runfold_coordinator.stops import Stops
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store


class HistoryReader(Protocol):
    """Rows as logged or reduced, a page at a time."""

    def scan(
        self,
        run: RunRow,
        *,
        keys: Sequence[str] | None,
        min_step: int | None,
        max_step: int | None,
        per_writer: bool,
        limit: int,
        cursor: str | None,
        rank: int | None,
        label: str | None,
        attempt: int | None,
        superseded: bool,
    ) -> HistoryPage:
        """Return the page after `cursor`; ValueError for a cursor that is not of this scan.

        With rank, label or attempt only these writers count; `superseded` shows rows that a later attempt
        has overtaken.
        """


class HistoryColumns(Protocol):
    """Reduced rows as columns, a page at a time."""

    def scan(
        self,
        run: RunRow,
        *,
        keys: Sequence[str] | None,
        min_step: int | None,
        max_step: int | None,
        limit: int,
        cursor: str | None,
        rank: int | None,
        label: str | None,
        attempt: int | None,
        superseded: bool,
    ) -> ColumnsPage:
        """Return the same rows as `HistoryReader.scan`; cursors are of one kind."""


class SeriesReader(Protocol):
    """Sampled series that keep extremes."""

    def read(
        self,
        run: RunRow,
        *,
        keys: Sequence[str] | None,
        samples: int,
        x_axis: str,
        stats: bool,
        rank: int | None,
        label: str | None,
        attempt: int | None,
    ) -> Table:
        """Return about `samples` rows; with `keys` only rows that have them all, of these writers only."""


class SystemReader(Protocol):
    """What the nodes of a run did while it ran there."""

    def read(
        self,
        run: RunRow,
        *,
        samples: int,
        keys: Collection[str] | None,
        rank: int | None,
        label: str | None,
    ) -> Table:
        """Return about `samples` rows by time: _timestamp, _runtime, and system.<name> columns."""

    def latest(self, run: RunRow) -> dict[str, float]:
        """Return the newest value of each metric by its name, "system." in front."""


class NodeReader(Protocol):
    """The nodes that agents work on."""

    def nodes(self, *, limit: int, host: str | None) -> list[dict[str, Any]]:
        """Return the nodes, last heard of first, a document each."""


class SummaryReader(Protocol):
    """Summaries, folded up to what is committed when asked."""

    def summary(self, run: RunRow) -> dict[str, Any]:
        """Return the summary, nested as logged."""

    def summary_until(self, run: RunRow, step: int) -> dict[str, Any]:
        """Return the summary that the run has once it was rewound to a step; folded from its rows."""


class GroupReader(Protocol):
    """Statistics over the runs of a group."""

    def history(
        self, runs: Sequence[RunRow], *, keys: Sequence[str] | None, samples: int, x_axis: str, stats: bool
    ) -> Table:
        """Return the mean over runs of each key, aligned on `x_axis`; with `stats` the rest beside it."""

    def summary(self, runs: Sequence[RunRow]) -> list[dict[str, Any]]:
        """Return a row a run: run_id, name, fold, state, then each summary leaf by its display name."""

    def table(self, runs: Sequence[RunRow], by: Sequence[str] | None) -> list[dict[str, Any]]:
        """Return a row a summary key (and combination of `by`) with its spread."""


class AttemptsReader(Protocol):
    """Generations of a job's processes."""

    def attempts(self, run: RunRow) -> list[dict[str, Any]]:
        """Return the attempts, first to last."""

    def attempt_of_writers(self, run: RunRow) -> dict[int, int]:
        """Return the attempt number by writer_pk."""


class GoodputReader(Protocol):
    """What a run's wall clock was spent on."""

    def goodput(self, run: RunRow) -> dict[str, Any]:
        """Return the report as of now."""


class AlertsReader(Protocol):
    """What people were told, or were to be told."""

    def list_alerts(
        self,
        *,
        run_pk: int | None = None,
        entity: str | None = None,
        project: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> AlertsPage:
        """Return a page of alerts, newest first."""


class Intake(Protocol):
    """The second way in, for agents that can't reach Redis."""

    def add_frames(self, entries: Sequence[tuple[int, bytes, bytes]]) -> int:
        """Append (partition, frame, crc) entries to their streams; return how many were accepted."""

    def add_control(self, message: bytes) -> None:
        """Append a control message to its stream."""

    def acks(self, writer_ids: Collection[str]) -> dict[str, Any]:
        """Return {"srv", "cur", "beat", "parts", "acks": {writer id: seq}}."""

    def stacks(self, partition: int) -> bytes:
        """Return the open requests for stacks of a partition, packed; b"" while there are none."""

    def connect_facts(self) -> dict[str, Any]:
        """Return {"redis_url", "server_id", "partitions"} for a worker."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything that routes reach, and the policy of the gate before them."""

    store: Store
    history: HistoryReader
    history_columns: HistoryColumns
    series: SeriesReader
    system: SystemReader
    nodes: NodeReader
    summaries: SummaryReader
    groups: GroupReader
    attempts: AttemptsReader
    goodput: GoodputReader
    alerts: AlertsReader
    live: LiveReader
    metrics: Metrics
    intake: Intake
    stops: Stops
    stop_requests: StopsReader
    edits: RunEdits
    deletion: Deletion
    blobs: Blobs
    uploads: Uploads
    files: RunFiles
    stored_files: FilesReader
    artifacts: Artifacts
    gate: GatePolicy
    server_id: str
    #: Monotonic clock, seconds.
    mono_s: Callable[[], float]
