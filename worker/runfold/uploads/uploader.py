"""Uploader: works off an outbox with threads of its own. In: jobs as files, word of processes that ended.
Out: blobs, files and artifacts on the server, results in the outbox.

One thread plans (finds jobs, looks at watched files), the others upload. All state that they share is behind
one lock, which is never held while a disk or the server is waited for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from runfold.node.back_off import BackOff
from runfold.protocol.failpoints import hit
from runfold.uploads.board import SMALL_BYTES, Board
from runfold.uploads.failures import NotYetError, RefusedError, SourceError, StoppedError, TryLaterError
from runfold.uploads.file_upload import Outcome, Sent, upload_large, upload_small
from runfold.uploads.folder import files_of
from runfold.uploads.jobs import AnyJob, ArtifactJob, FileJob, FolderJob
from runfold.uploads.outbox import Outbox
from runfold.uploads.source import mark_of
from runfold.uploads.tasks import Task
from runfold.uploads.transfer import BlobClient
from runfold.uploads.upload_settings import UploadSettings

logger = logging.getLogger(__name__)

#: The outbox is looked at this often, and watched files are.
LOOK_EVERY_S = 0.25
#: A watched file that rests is looked at this often.
LOOK_AGAIN_S = 1.0
#: A job that is another agent's is asked about again after this.
ASK_AGAIN_S = 10.0
FORGET_EVERY_S = 600.0
#: A large file is worked at for this long while others wait.
SLICE_S = 2.0
#: A file that changes while it is read is tried so often, with waits between.
MOST_CHANGES = 8
#: A watched file rests this many times as long as its last upload took.
REST_RATIO = 10.0
#: Trouble is logged at most this often.
LOG_EVERY_S = 60.0
#: Jobs brought to disk between two looks.
SYNCED_AT_ONCE = 50
#: How long `stop` waits for the threads, which are in the middle of something.
STOP_S = 2.0


#: Uploads an artifact whole; returns what the server said of it. Raises what `failures` has.
UploadArtifact = Callable[[BlobClient, ArtifactJob], dict[str, Any]]


class Uploader:
    """Works off one outbox. `tell_ended`, `watched_writers` and the facts are for any thread."""

    def __init__(
        self,
        outbox: Outbox,
        address: Callable[[], str | None],
        settings: UploadSettings,
        *,
        upload_artifact: UploadArtifact | None = None,
        is_mine: Callable[[AnyJob], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is read or started before `start`.

        Args:
            address: Returns the server's HTTP address as it is known now; None while none is known.
            upload_artifact: What carries artifacts; None: they wait.
            is_mine: Whether a job is to be worked off here. Asked again later when it is not.
        """
        self._outbox = outbox
        self._address = address
        self._upload_artifact = upload_artifact
        self._settings = settings
        self._is_mine = is_mine
        self._clock = clock
        self._stopping = threading.Event()
        self._turn = threading.Condition()
        self._board = Board(most_artifacts=max(1, settings.threads - 1))
        #: address -> client; more than one only where the server moved
        self._clients: dict[str, BlobClient] = {}
        #: jobs that are another's, or none at all -> when to look again
        self._passed_over: dict[str, float] = {}
        self._forgot_results_s = -1e9
        self._waits = BackOff(0.25, 5.0)
        self._held_until_s = -1e9
        self._heard_s = clock()
        self._ended: set[str] = set()
        self._unsynced: list[str] = []
        self._logged_s = -1e9
        self._trouble: str | None = None
        self._threads: list[threading.Thread] = []
        self.ended_count = self.failed_count = 0

    # --- for whoever has it -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads; harmless when they run."""
        if not self._threads and not self._stopping.is_set():
            self._threads = [threading.Thread(target=self._plan, name="runfold-uploads", daemon=True)]
            self._threads += [
                threading.Thread(target=self._work, name=f"runfold-upload-{number}", daemon=True)
                for number in range(max(1, self._settings.threads))
            ]
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """End the threads, soon: what is under way is gone on from by whoever comes next. Idempotent."""
        self._stopping.set()
        with self._turn:
            clients = list(self._clients.values())
            self._turn.notify_all()
        for client in clients:
            client.close()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def is_started(self) -> bool:
        """The threads run."""
        return bool(self._threads)

    @property
    def trouble(self) -> str | None:
        """What keeps jobs from being done; None when the last exchange went well."""
        return self._trouble

    @property
    def is_held(self) -> bool:
        """The server is away or busy, so that all wait."""
        return self._waits.failures > 0

    @property
    def heard_s(self) -> float:
        """When the server did something for us last, or something came to be done; monotonic."""
        return self._heard_s

    @property
    def unfinished_count(self) -> int:
        """Jobs that wait or are under way, but for those that watch a live process's files."""
        with self._turn:
            return self._board.unfinished_count

    def watched_writers(self) -> set[str]:
        """Return the writers whose end is waited for."""
        with self._turn:
            return {task.job.writer for task in self._board if task.is_watch and not task.is_final}

    def tell_ended(self, writers: Iterable[str]) -> None:
        """These will write no more: their files are uploaded a last time."""
        new = set(writers) - self._ended
        if new:
            with self._turn:
                self._ended |= new
                self._finalise()
                self._board.promote(self._clock())
                self._turn.notify_all()

    # --- planning ---------------------------------------------------------------------------------------

    def _plan(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                logger.exception("a fault in planning uploads", extra={"event": "upload_fault"})
            self._stopping.wait(LOOK_EVERY_S)

    def look(self) -> None:
        """Find what is new, what changed, and what is due."""
        ids = self._outbox.ids()
        with self._turn:
            known = self._board.ids
        found = self._mine(ids - known)
        sizes = {job.id: _size_of(job) for job in found}
        with self._turn:
            for job in found:
                self._take_in(Task(job, size_bytes=sizes[job.id]))
            for task in self._board:
                if task.job.id not in ids and task.job.id in known and not task.is_running:
                    self._board.remove(task)  # somebody else did it
            self._finalise()
            if found:
                self._heard_s = self._clock()
        self._look_at_live()
        with self._turn:
            self._board.promote(self._clock())
            self._turn.notify_all()
        self._sync(found)
        if self._clock() - self._forgot_results_s >= FORGET_EVERY_S:
            self._forgot_results_s = self._clock()
            self._outbox.forget_results(time.time())

    def _mine(self, ids: set[str]) -> list[AnyJob]:
        """Return those of the jobs that are to be done here; the others are asked about again in a while."""
        now_s = self._clock()
        self._passed_over = {job_id: at_s for job_id, at_s in self._passed_over.items() if job_id in ids}
        asked = {job_id for job_id in ids if now_s >= self._passed_over.get(job_id, now_s)}
        found = [job for job in self._outbox.read(asked) if self._is_for_us(job)]
        for job_id in asked - {job.id for job in found}:
            self._passed_over[job_id] = now_s + ASK_AGAIN_S
        return found

    def _is_for_us(self, job: AnyJob) -> bool:
        if isinstance(job, ArtifactJob) and self._upload_artifact is None:
            return False
        return self._is_mine(job)

    def _take_in(self, task: Task) -> None:
        task.is_final = task.is_watch and task.job.writer in self._ended
        older = self._board.add(task)
        if older is not None:
            self._outbox.forget(older.job)

    def _finalise(self) -> None:
        for task in self._board:
            if task.is_watch and not task.is_final and task.job.writer in self._ended:
                task.end()

    def _look_at_live(self) -> None:
        """Let the watched files go whose rest is over, and that are not as the server has them."""
        now_s = self._clock()
        with self._turn:
            due = [task for task in self._board if task.rests and now_s >= task.not_before_s]
        for task in due:
            assert isinstance(task.job, FileJob), "only files are watched"
            try:
                about = os.stat(task.job.source)  # noqa: PTH116  # of each file, all the time
            except OSError:
                is_same = True  # gone for now: nothing to upload
            else:
                is_same = mark_of(about) == task.sent_mark
                task.size_bytes = about.st_size
            with self._turn:
                if is_same and task.rests:
                    task.not_before_s = now_s + LOOK_AGAIN_S
                else:
                    task.rests = False

    def _sync(self, found: list[AnyJob]) -> None:
        """Bring new jobs to disk, a few at a time: most are done before their turn."""
        self._unsynced += [job.id for job in found]
        some, self._unsynced = self._unsynced[:SYNCED_AT_ONCE], self._unsynced[SYNCED_AT_ONCE:]
        with self._turn:
            waiting = self._board.ids
        left = [job_id for job_id in some if job_id in waiting]
        if left:
            self._outbox.sync(left)

    # --- working ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._turn:
                held_s = self._held_until_s - self._clock()
                work = self._board.take() if held_s <= 0 else []
                if not work:
                    self._turn.wait(min(max(held_s, 0.05), 1.0))
                    continue
            self._do(work)

    def _do(self, work: list[Task]) -> None:
        try:
            self._upload(work)
        except StoppedError:
            self._later(work, 0.0)
        except NotYetError as error:
            self._wait(work, error)
        except TryLaterError as error:
            self._hold(work, error)
        except RefusedError as error:
            if len(work) > 1:  # one of them may be to blame: one by one
                for task in work:
                    task.is_alone = True
                self._later(work, 0.0)
            else:
                self._fail(work[0], str(error))
        except Exception as error:
            logger.exception("a fault in an upload", extra={"event": "upload_fault"})
            self._wait(work, TryLaterError(f"a fault in the agent: {error}"))

    def _upload(self, work: list[Task]) -> None:
        client = self._open()
        task = work[0]
        began_s = self._clock()
        outcomes: dict[Task, Outcome] = {}
        if isinstance(task.job, ArtifactJob):
            assert self._upload_artifact is not None, "else artifacts are passed over"
            document = self._upload_artifact(client, task.job)
            hit("uploads.before_end")
            self._outbox.end(task.job, **document)
            self._done(task)
        elif isinstance(task.job, FolderJob):
            self._upload_folder(client, task, task.job)
        elif len(work) == 1 and (task.is_alone or task.size_bytes > SMALL_BYTES):
            outcome = upload_large(
                client,
                task,
                should_stop=self._stopping.is_set,
                is_enough=lambda: self._clock() - began_s >= SLICE_S and self._others_wait(),
            )
            if outcome is None:
                self._later(work, 0.0)
            else:
                outcomes = {task: outcome}
        else:
            outcomes = upload_small(client, work)
        self._succeeded()
        for each, outcome in outcomes.items():
            self._settle(each, outcome, took_s=self._clock() - began_s)

    def _upload_folder(self, client: BlobClient, task: Task, job: FolderJob) -> None:
        """Make jobs of what lies in it; it is done when they are."""
        if task.parts is None:
            found = list(files_of(client, job, self._outbox))
            for each in found:
                self._outbox.put(each, is_synced=False)
            task.parts = {each.id for each in found}
        if task.parts & self._outbox.ids():
            self._later([task], LOOK_EVERY_S)
        else:
            self._outbox.forget(job)
            self._done(task)

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
            self._done(task)

    def _rest(self, task: Task, sent: Sent, took_s: float) -> None:
        with self._turn:
            task.drop_source()
            task.changes = 0
            task.waits.succeed()
            task.rests = not task.is_final
            task.sent(
                sent.mark, sent.digest, modified_unix_s=sent.modified_unix_s, read_unix_s=sent.read_unix_s
            )
            wait_s = max(self._settings.live_interval_s, REST_RATIO * took_s)
            self._board.put_back(task, not_before_s=0.0 if task.is_final else self._clock() + wait_s)

    def _source_failed(self, task: Task, error: SourceError) -> None:
        if task.is_live and error.is_gone:
            if not task.began_final:  # written anew by rename, or not written yet
                self._later([task], self._settings.live_interval_s)
                return
            if task.sent_digest is not None:  # what it was last is there
                self._outbox.forget(task.job)
                self._done(task)
                return
        task.changes += 1
        is_hopeless = error.is_gone or (isinstance(task.job, FileJob) and task.job.sha256 is not None)
        if is_hopeless or (task.changes >= MOST_CHANGES and not (task.is_live and not task.began_final)):
            self._fail(task, str(error))
        else:
            self._later([task], task.waits.fail())

    # --- ends and waits ---------------------------------------------------------------------------------

    def _done(self, task: Task) -> None:
        with self._turn:
            self._board.remove(task)
            self.ended_count += 1
            self._heard_s = self._clock()

    def _fail(self, task: Task, message: str) -> None:
        logger.warning(
            "an upload was given up: %s", message, extra={"event": "upload_failed", "run": task.job.run}
        )
        about = {"name": task.job.name} if isinstance(task.job, FileJob) else {}
        self._outbox.end(task.job, error=message, **about)
        with self._turn:
            self.failed_count += 1
        self._done(task)

    def _later(self, work: list[Task], wait_s: float) -> None:
        with self._turn:
            for task in work:
                self._board.put_back(task, not_before_s=self._clock() + wait_s if wait_s else 0.0)
            self._board.promote(self._clock())
            self._turn.notify()

    def _wait(self, work: list[Task], error: TryLaterError) -> None:
        """These wait; the server is well."""
        self._say(str(error))
        for task in work:
            task.drop_source()
            self._later([task], max(task.waits.fail(), error.after_s))

    def _hold(self, work: list[Task], error: TryLaterError) -> None:
        """The server is away or busy: all wait."""
        self._say(str(error))
        with self._turn:
            wait_s = max(self._waits.fail(), min(error.after_s, 60.0))
            self._held_until_s = max(self._held_until_s, self._clock() + wait_s)
        self._later(work, 0.0)

    def _succeeded(self) -> None:
        with self._turn:
            self._waits.succeed()
            self._heard_s = self._clock()
            self._trouble = None

    def _others_wait(self) -> bool:
        with self._turn:
            return self._board.has_ready

    def _open(self) -> BlobClient:
        url = self._address()
        if url is None:
            raise TryLaterError("no HTTP address of a server is known: set RUNFOLD_URL, or start one here")
        with self._turn:
            if url not in self._clients:
                self._clients[url] = BlobClient(
                    url,
                    self._settings.api_key,
                    patience_s=self._settings.patience_s,
                    stop=self._stopping,
                    connections=2 * self._settings.threads,
                )
            return self._clients[url]

    def _say(self, message: str) -> None:
        self._trouble = message
        now_s = self._clock()
        if now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            logger.warning(
                "files can't be uploaded now, they wait: %s", message, extra={"event": "uploads_held"}
            )


def _size_of(job: AnyJob) -> int:
    if not isinstance(job, FileJob):
        return 0
    try:
        return os.stat(job.source).st_size  # noqa: PTH116  # as above
    except OSError:
        return 0
