"""Carrier: does a piece of work, and sees to what became of it. In: tasks of one run. Out: results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from runfold.batches import SMALL_BYTES
from runfold.protocol.failpoints import hit
from runfold.uploads.failures import NotYetError, RefusedError, SourceError, StoppedError, TryLaterError
from runfold.uploads.file_upload import Outcome, Sent, tell_failed, upload_large, upload_small
from runfold.uploads.folder import files_of
from runfold.uploads.jobs import ArtifactJob, FileJob, FolderJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.shared_board import SharedBoard
from runfold.uploads.tasks import Task
from runfold.uploads.transfer import BlobClient

logger = logging.getLogger(__name__)

#: A large file is worked at for this long while others wait.
SLICE_S = 2.0
#: A file that changes while it is read is tried so often, with waits between.
MOST_CHANGES = 8
#: A watched file rests this many times as long as its last upload took.
REST_RATIO = 10.0
#: The files of a folder are waited for so long between two looks.
FOLDER_EVERY_S = 0.25

#: Uploads an artifact whole; returns what the server said of it. Raises what `failures` has.
UploadArtifact = Callable[[BlobClient, ArtifactJob], dict[str, Any]]


class Carrier:
    """Any number of threads may call `carry`, with different tasks."""

    def __init__(
        self,
        shared: SharedBoard,
        outbox: Outbox,
        connect: Callable[[], BlobClient],
        upload_artifact: UploadArtifact,
        *,
        live_interval_s: float,
    ) -> None:
        """`connect` returns a client for the server as it is known now, or raises TryLaterError."""
        self._shared = shared
        self._outbox = outbox
        self._connect = connect
        self._upload_artifact = upload_artifact
        self._live_interval_s = live_interval_s

    def carry(self, work: list[Task]) -> None:
        """Do the work; whatever happens, the tasks are done, or put back."""
        try:
            try:
                self._upload(work)
            except RefusedError as error:
                self._refused(work, error)
        except StoppedError:
            self._shared.later(work, 0.0)
        except NotYetError as error:
            self._shared.wait_for_more(work, error)
        except TryLaterError as error:
            self._shared.hold(work, error)
        except Exception as error:
            logger.exception("a fault in an upload", extra={"event": "upload_fault"})
            self._shared.wait_for_more(work, TryLaterError(f"a fault in the agent: {error}"))

    def _upload(self, work: list[Task]) -> None:
        client, task = self._connect(), work[0]
        match task.job:
            case ArtifactJob() as job:
                document = self._upload_artifact(client, job)
                hit("uploads.before_end")
                self._outbox.end(job, **document)
                self._shared.done(task)
            case FolderJob() as job:
                self._upload_folder(client, task, job)
            case FileJob():
                self._upload_files(client, work)
        self._shared.succeeded()

    def _upload_folder(self, client: BlobClient, task: Task, job: FolderJob) -> None:
        """Make jobs of what lies in it; it is done when they are."""
        if task.parts is None:
            found = list(files_of(client, job, self._outbox))
            for each in found:
                self._outbox.put(each, is_synced=False)
            task.parts = {each.id for each in found}
        if task.parts & self._outbox.ids():
            self._shared.later([task], FOLDER_EVERY_S)
        else:
            self._outbox.forget(job)
            self._shared.done(task)

    def _upload_files(self, client: BlobClient, work: list[Task]) -> None:
        began_s, clock = self._shared.clock(), self._shared.clock
        outcomes: dict[Task, Outcome]
        if len(work) == 1 and (work[0].is_alone or work[0].size_bytes > SMALL_BYTES):
            outcome = upload_large(
                client,
                work[0],
                should_stop=self._shared.stopping.is_set,
                is_enough=lambda: self._is_enough(began_s),
            )
            if outcome is None:
                self._shared.later(work, 0.0)
                return
            outcomes = {work[0]: outcome}
        else:
            outcomes = upload_small(client, work)
        # What came first: telling what did not may have to wait, and then all others of the work with it.
        for task, outcome in sorted(outcomes.items(), key=lambda each: not isinstance(each[1], Sent)):
            self._settle(task, outcome, took_s=clock() - began_s)

    def _is_enough(self, began_s: float) -> bool:
        self._shared.heard()
        return self._shared.clock() - began_s >= SLICE_S and self._shared.others_wait()

    def _settle(self, task: Task, outcome: Outcome, *, took_s: float) -> None:
        if isinstance(outcome, str):
            self._fail(task, outcome)
        elif isinstance(outcome, SourceError):
            self._source_failed(task, outcome)
        elif task.is_live and not task.began_final:
            self._rest(task, outcome, took_s)
        else:
            hit("uploads.before_end")
            self._outbox.forget(task.job)
            self._shared.done(task)

    def _rest(self, task: Task, sent: Sent, took_s: float) -> None:
        with self._shared.turn:
            task.rest(
                sent.mark, sent.digest, modified_unix_s=sent.modified_unix_s, read_unix_s=sent.read_unix_s
            )
        self._shared.later([task], max(self._live_interval_s, REST_RATIO * took_s))

    def _source_failed(self, task: Task, error: SourceError) -> None:
        is_watched = task.is_live and not task.began_final
        if is_watched and error.is_gone:
            self._shared.later([task], self._live_interval_s)  # not written yet, or written anew by rename
            return
        if task.is_live and error.is_gone and task.sent_digest is not None:
            self._outbox.forget(task.job)  # what it was last is there
            self._shared.done(task)
            return
        task.changes += 1
        is_hopeless = error.is_gone or (isinstance(task.job, FileJob) and task.job.sha256 is not None)
        if is_hopeless or (task.changes >= MOST_CHANGES and not is_watched):
            self._fail(task, str(error))
        else:
            self._shared.later([task], task.waits.fail())

    def _refused(self, work: list[Task], error: RefusedError) -> None:
        if len(work) == 1:
            self._fail(work[0], str(error))
            return
        for task in work:  # one of them may be to blame
            task.is_alone = True
        self._shared.later(work, 0.0)

    def _fail(self, task: Task, message: str) -> None:
        """End a job for good. The server is told first: where it can't be, all is done again later."""
        about = {}
        message = message.encode(errors="replace").decode()  # a path may be no Unicode, which logs refuse
        if isinstance(task.job, FileJob):
            tell_failed(self._connect(), task.job, message, time.time())
            about["name"] = task.job.name
        self._shared.say("an upload was given up: %s", message, "upload_failed")
        self._outbox.end(task.job, error=message, **about)
        self._shared.done(task, is_failed=True)
