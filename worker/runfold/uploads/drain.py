"""Upload what waits in outboxes now, and wait for it: what `runfold sync` does beside delivering records.

In: spool or target directories, settings that name the server. Out: a report. Any number of times, with the
same result; an agent that works on the same jobs meanwhile does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runfold.node import lock
from runfold.node.connect import http_address
from runfold.node.processes import boot_id, is_alive, pid_namespace
from runfold.node.settings import NodeSettings
from runfold.node.tail import WriterTail
from runfold.spool.format import HEADER_NAME
from runfold.uploads.jobs import AnyJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.upload_settings import UploadSettings
from runfold.uploads.uploader import Uploader

#: The server away for this long, or not knowing a run for this long: give up, seconds.
PATIENCE_S = 15.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What `upload_all` did, in files and artifacts."""

    uploaded: int = 0
    pending: int = 0
    #: given up for good; the results in the outbox tell why.
    failed: int = 0
    #: of processes that go on: they are uploaded a last time when those have ended.
    watched: int = 0
    #: what kept pending ones from being uploaded.
    trouble: str | None = None


def upload_all(
    directories: Iterable[Path],
    settings: NodeSettings,
    *,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> UploadReport:
    """Upload what the outboxes of the directories hold; return when that is done, or can't be.

    Args:
        directories: Spool directories, whose jobs are meant, or target directories, with all of theirs.
        timeout_s: Give up after this; None: go on while the server can be reached.
    """
    deadline_s = None if timeout_s is None else clock() + timeout_s
    total = UploadReport()
    for target_dir, writers in _by_target(directories).items():
        found = _Outboxed(target_dir, writers, settings, clock).upload(deadline_s)
        total = UploadReport(
            total.uploaded + found.uploaded,
            total.pending + found.pending,
            total.failed + found.failed,
            total.watched + found.watched,
            total.trouble or found.trouble,
        )
    return total


class _Outboxed:
    """One target directory's jobs."""

    def __init__(
        self, target_dir: Path, writers: set[str] | None, settings: NodeSettings, clock: Callable[[], float]
    ) -> None:
        self._target_dir = target_dir
        self._writers = writers
        self._clock = clock
        self._outbox = Outbox(target_dir)
        self._place = lock.place_of(boot_id(), pid_namespace())
        self._uploader = Uploader(
            self._outbox,
            lambda: http_address(settings),
            UploadSettings.of(settings),
            is_mine=self._is_meant,
            clock=clock,
        )

    def upload(self, deadline_s: float | None) -> UploadReport:
        if not self._outbox.ids():
            return UploadReport()
        uploader, shared = self._uploader, self._uploader.shared
        uploader.look()
        uploader.tell_ended(filter(self._has_ended, uploader.watched_writers()))
        uploader.start()
        try:
            while uploader.unfinished_count and self._clock() - shared.heard_s < PATIENCE_S:
                if deadline_s is not None and self._clock() >= deadline_s:
                    break
                time.sleep(POLL_S)
        finally:
            uploader.stop()
        pending = uploader.unfinished_count
        return UploadReport(
            uploaded=shared.done_count,
            pending=pending,
            failed=shared.failed_count,
            watched=len(uploader.watched_writers()),
            trouble=shared.trouble if pending else None,
        )

    def _is_meant(self, job: AnyJob) -> bool:
        return self._writers is None or job.writer in self._writers

    def _has_ended(self, writer: str) -> bool:
        """Return whether nothing of the writer's goes on here; what was brought from elsewhere has ended."""
        try:
            tail = WriterTail(self._target_dir / writer)
        except (OSError, ValueError):
            return True
        try:
            who = tail.identity
            is_here = lock.place_of(who.boot_id or who.host or "", who.pid_namespace) == self._place
            return tail.reader.header.closed or not (
                is_here and who.pid is not None and is_alive(who.pid, who.pid_start)
            )
        finally:
            tail.close()


def _by_target(directories: Iterable[Path]) -> dict[Path, set[str] | None]:
    """Return target directory -> ids of the writers that are meant, None: all."""
    found: dict[Path, set[str] | None] = {}
    for directory in map(Path.resolve, directories):
        if not (directory / HEADER_NAME).exists():
            found[directory] = None
            continue
        writers = found.setdefault(directory.parent, set())
        if writers is not None:
            writers.add(directory.name)
    return found
