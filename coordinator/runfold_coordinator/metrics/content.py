"""The families of files and artifacts: what is kept, what comes in, is refused, removed and found damaged.

In: counters of the blob store, and counts from the database. Out: prometheus_client's families. No label has
a value that a client makes up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from runfold_coordinator.artifacts.commit_counts import CommitCounts
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.counts import Totals
from runfold_coordinator.blobs.uploads import UnderWay, Uploads
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.file_tables import run_files
from runfold_coordinator.store.store import Store

#: What the database holds is counted at most so often, seconds ...
COUNT_EVERY_S = 30.0
#: ... and for at most such a share of the time: the blobs may be millions.
COUNT_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class _Stored:
    """Counts from the database, good until `until_s`."""

    until_s: float
    whole: int
    damaged: int
    byte_count: int
    pending_files: int
    failed_files: int
    pending_artifacts: int
    failed_artifacts: int


class ContentMetrics:
    """Collects the families."""

    def __init__(
        self, store: Store, clock: Clock, blobs: Blobs, uploads: Uploads, commits: CommitCounts
    ) -> None:
        self._store = store
        self._clock = clock
        self._blobs = blobs
        self._uploads = uploads
        self._commits = commits
        self._stored: _Stored | None = None

    def families(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from _kept(self._count())
        yield from _happened(self._blobs.counts.read(), self._uploads.under_way())
        commits = CounterMetricFamily(
            "runfold_artifact_commits",
            "Commits of artifacts since start, by what became of them.",
            labels=["result"],
        )
        for result, count in self._commits.read().items():
            commits.add_metric([result], count)
        yield commits

    def _count(self) -> _Stored:
        began_s = self._clock.mono_s()
        if self._stored is not None and began_s < self._stored.until_s:
            return self._stored
        rows = self._store.fetch(
            sa.select(b.c.damaged, sa.func.count(), sa.func.sum(b.c.size)).group_by(b.c.damaged)
        )
        by_damage = {bool(row[0]): (int(row[1]), int(row[2])) for row in rows}
        is_open = at.artifact_drafts.c.version_pk.is_(None)
        has_failed = at.artifact_drafts.c.error.is_not(None)
        counts = [
            self._rows(run_files, run_files.c.sha256.is_(None), run_files.c.error.is_(None)),
            self._rows(run_files, run_files.c.error.is_not(None)),
            self._rows(at.artifact_drafts, is_open, ~has_failed),
            self._rows(at.artifact_drafts, is_open, has_failed),
        ]
        now_s = self._clock.mono_s()
        until_s = now_s + max(COUNT_EVERY_S, (now_s - began_s) / COUNT_SHARE)
        whole = by_damage.get(False, (0, 0))
        self._stored = _Stored(until_s, whole[0], by_damage.get(True, (0, 0))[0], whole[1], *counts)
        return self._stored

    def _rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        return int(self._store.fetch(sa.select(sa.func.count()).select_from(table).where(*where))[0][0])


def _kept(stored: _Stored) -> Iterator[Metric]:
    yield _gauge(
        "runfold_blobs",
        "Contents that are kept.",
        "state",
        {"whole": stored.whole, "damaged": stored.damaged},
    )
    yield GaugeMetricFamily(
        "runfold_blob_bytes", "Bytes of those that are whole.", value=stored.byte_count, unit="bytes"
    )
    files = {"pending": stored.pending_files, "failed": stored.failed_files}
    yield _gauge("runfold_files_missing", "Files that were said and are not here.", "state", files)
    drafts = {"pending": stored.pending_artifacts, "failed": stored.failed_artifacts}
    yield _gauge("runfold_artifacts_missing", "Artifacts that were said and are no version.", "state", drafts)


def _happened(totals: Totals, under_way: UnderWay) -> Iterator[Metric]:
    uploads = {
        "receiving": under_way.receiving,
        "waiting": under_way.waiting,
        "finishing": under_way.finishing,
    }
    yield _gauge("runfold_uploads", "Uploads of large contents under way.", "state", uploads)
    counted = [
        ("runfold_upload_received_bytes", "Bytes of uploads that came.", totals.received_bytes, "bytes"),
        ("runfold_blobs_stored", "Contents that were stored.", totals.stored, ""),
        ("runfold_blobs_stored_bytes", "Their bytes.", totals.stored_bytes, "bytes"),
        ("runfold_blobs_removed", "Contents removed, as nothing referred to them.", totals.removed, ""),
        ("runfold_blobs_removed_bytes", "Their bytes.", totals.removed_bytes, "bytes"),
        ("runfold_blob_orphans_removed", "Objects without a row that were removed.", totals.orphans, ""),
        ("runfold_blobs_damaged", "Contents that were found damaged or gone.", totals.damaged, ""),
    ]
    for name, text, value, unit in counted:
        yield CounterMetricFamily(name, text, value=value, unit=unit)
    checks = {"content": totals.checked_content, "size": totals.checked_size}
    yield _counter("runfold_blob_checks", "Contents looked at and found whole, by how.", "kind", checks)
    yield _counter(
        "runfold_uploads_refused", "Pieces and batches that were not taken.", "reason", totals.refused
    )


def _gauge(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
