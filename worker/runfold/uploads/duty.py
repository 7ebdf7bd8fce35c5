"""Uploads: the node agent's duty to carry files and artifacts.

In: the jobs in its target directory's outbox, and which processes have ended. Out: an uploader at work, in
threads of its own: the agent's loop waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from runfold.node import lock
from runfold.node.connect import http_address
from runfold.node.processes import boot_id, pid_namespace
from runfold.node.settings import NodeSettings
from runfold.node.tail import WriterTail
from runfold.node.writers import Writers
from runfold.uploads.jobs import AnyJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.upload_settings import UploadSettings

if TYPE_CHECKING:
    from runfold.uploads.uploader import Uploader

#: Another place's jobs are ours when it had no agent for this long: one that died is followed soon. Seconds.
STAND_IN_S = 30.0
#: Jobs that get nowhere though the server answers, not knowing their run, keep the agent so long. Seconds.
STUCK_S = 60.0


class Uploads:
    """A `Duty`. Calls come from the agent's thread, but `_is_mine`."""

    def __init__(
        self, settings: NodeSettings, writers: Writers, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; threads are started when there is an outbox."""
        self._settings = settings
        self._writers = writers
        self._clock = clock
        self._target_dir = settings.target_dir
        self._outbox = Outbox(settings.target_dir)
        self._place = lock.place_of(boot_id(), pid_namespace())
        #: place -> since when it has been without an agent
        self._deserted_s: dict[str, float] = {}
        self._uploader: Uploader | None = None
        self._is_closed = False

    def writer_found(self, tail: WriterTail) -> None:
        """Nothing: writers are asked about when a job needs to know."""

    def writer_ended(self, tail: WriterTail) -> None:
        """Tell at once: what was watched is uploaded a last time."""
        if self._uploader is not None:
            self._uploader.tell_ended([tail.writer.hex()])

    def step(self, now_s: float) -> None:  # noqa: ARG002  # as a Duty
        """Begin when there is something to do, and tell of runs that are finished."""
        if self._uploader is None:
            if self._is_closed or not self._outbox.directory.is_dir():
                return
            self._uploader = self._make()
            self._uploader.start()
        self._uploader.tell_ended(filter(self._has_ended, self._uploader.watched_writers()))

    def close(self) -> None:
        """No more steps: processes that ended by now have. The threads go on until `stop`."""
        self._is_closed = True
        if self._uploader is not None:
            self._uploader.tell_ended(filter(self._has_ended, self._uploader.watched_writers()))

    def stop(self) -> None:
        """End the threads; what is under way is gone on from by the next agent. Idempotent."""
        self._is_closed = True
        if self._uploader is not None:
            self._uploader.stop()

    def is_at_work(self) -> bool:
        """Return whether jobs are left that get on at the moment."""
        return self.may_get_on() and self._uploader is not None and not self._uploader.shared.is_held

    def may_get_on(self) -> bool:
        """Return whether jobs are left that this agent may still get done, the server being away or not."""
        uploader = self._uploader
        if uploader is None or http_address(self._settings) is None:
            return False
        if uploader.has_looked and not uploader.unfinished_count:
            return False
        shared = uploader.shared
        patience_s = self._settings.unreachable_exit_s if shared.is_held else STUCK_S
        return self._clock() - shared.heard_s < patience_s

    def _make(self) -> Uploader:
        # Imported when needed: it brings the HTTP client along.
        from runfold.uploads.uploader import Uploader

        return Uploader(
            self._outbox,
            lambda: http_address(self._settings),
            UploadSettings.of(self._settings),
            is_mine=self._is_mine,
            clock=self._clock,
        )

    def _has_ended(self, writer: str) -> bool:
        try:
            tail = self._writers.tails.get(bytes.fromhex(writer))
        except ValueError:
            return True
        if tail is None:
            return not (self._target_dir / writer).exists()  # delivered, and removed since
        if tail.is_alive is None:
            return True  # of another place, where no agent has been for a while
        try:
            return tail.has_ended()
        except OSError:
            return True

    def _is_mine(self, job: AnyJob) -> bool:
        """A path means a file where the process ran; another place's agent sees it, unless there is none."""
        if job.place in ("", self._place) or not job.place.replace("-", "").isalnum():
            return True
        if lock.is_held(self._target_dir, place=job.place):
            self._deserted_s.pop(job.place, None)
            return False
        return self._clock() - self._deserted_s.setdefault(job.place, self._clock()) >= STAND_IN_S
