"""Files of runs to the server: the blob first, then the row that names it. In: tasks. Out: what came of each.

A crash between any two steps has the steps done again, to the same effect.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runfold.api.paths import route
from runfold.protocol.failpoints import hit
from runfold.uploads.failures import NotYetError, RefusedError, SourceError, TryLaterError
from runfold.uploads.jobs import FileJob
from runfold.uploads.source import Mark, Source
from runfold.uploads.tasks import Task
from runfold.uploads.transfer import BlobClient

#: Files in one request.
MAX_ROWS = 500
#: What is told of a reason.
MAX_REASON_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Sent:
    """The server has this of a file.

    Attributes:
        mark: State of the file that was read.
        read_unix_s: When the reading began.
        taken_unix_s: When its content was as it is: of two of one name the later taken stays.
    """

    name: str
    digest: str
    size: int
    mark: Mark
    modified_unix_s: float
    read_unix_s: float
    taken_unix_s: float

    def row(self, job: FileJob) -> dict[str, Any]:
        """Return what is said to the server."""
        return {
            "name": self.name,
            "sha256": self.digest,
            "size": self.size,
            "mimetype": mimetypes.guess_type(self.name)[0] or "application/octet-stream",
            "modified_unix_s": max(0.0, self.modified_unix_s),
            "taken_unix_s": self.taken_unix_s,
            "writer": job.writer or None,
            "policy": job.policy,
            "what": job.what,
        }


#: What became of a file: it is there, or why it is not.
Outcome = Sent | SourceError | str


def upload_small(client: BlobClient, tasks: Sequence[Task]) -> dict[Task, Outcome]:
    """Upload files of one run that are small enough to be held, all together.

    Returns:
        Of each task what became of it; text: why the server will not have the file.

    Raises:
        TryLaterError, RefusedError, StoppedError: Of all of them.
    """
    outcomes: dict[Task, Outcome] = {}
    contents: dict[str, bytes] = {}
    for task in tasks:
        try:
            sent, content = _read_small(task)
        except SourceError as error:
            outcomes[task] = error
            continue
        outcomes[task] = sent
        contents[sent.digest] = content
    wanted = {task: sent for task, sent in outcomes.items() if isinstance(sent, Sent)}
    new = {task: sent for task, sent in wanted.items() if not _is_known(task, sent)}
    if new:
        missing = client.missing(sent.digest for sent in new.values())
        client.upload_small((digest, contents[digest]) for digest in missing)
        hit("uploads.after_blob")
        outcomes |= commit(client, new)
    return outcomes


def upload_large(
    client: BlobClient, task: Task, *, should_stop: Callable[[], bool], is_enough: Callable[[], bool]
) -> Outcome | None:
    """Upload one file of any size; None when `is_enough` said so before the end: call again to go on.

    Raises:
        TryLaterError, RefusedError, StoppedError: See there.
    """
    job = _file_job(task)
    try:
        if task.source is None:
            task.source = Source(job.source)
        source = task.source
        if task.digest is None:
            task.digest = source.digest_some(should_stop, is_enough)
            if task.digest is None:
                return None
            _check(job, task.digest)
        sent = _sent(job, source, task.digest, source.opened_unix_s)
        if not _is_known(task, sent):
            if not client.upload(task.digest, source, is_enough=is_enough):
                return None
            hit("uploads.after_blob")
            return commit(client, {task: sent})[task]
    except SourceError as error:
        task.drop_source()
        return error
    return sent


def commit(client: BlobClient, sent: dict[Task, Sent]) -> dict[Task, Outcome]:
    """Have the server name the files of a run whose blobs it has.

    Raises:
        NotYetError: It knows the run not yet, or has lost a blob: all over again, later.
        TryLaterError, RefusedError, StoppedError: See there.
    """
    outcomes: dict[Task, Outcome] = {}
    tasks = list(sent)
    for at in range(0, len(tasks), MAX_ROWS):
        some = tasks[at : at + MAX_ROWS]
        rows = [sent[task].row(_file_job(task)) for task in some]
        answer = _ask(client, some[0].job.run, rows)
        for task, said in zip(some, answer, strict=True):
            outcomes[task] = sent[task] if said is None else said
    hit("uploads.after_commit")
    return outcomes


def tell_failed(client: BlobClient, job: FileJob, why: str, now_unix_s: float) -> None:
    """Have the server know that a file will never come, and why.

    Raises:
        NotYetError: It knows the run not yet.
        TryLaterError, StoppedError: See there.
    """
    about = {
        "name": job.name,
        "error": why[:MAX_REASON_CHARS],
        # A watched file fails as it is now, whatever the server has of it from before.
        "taken_unix_s": now_unix_s if job.policy == "live" else job.created_unix_s,
        "failed_unix_s": now_unix_s,
        "writer": job.writer or None,
        "policy": job.policy,
        "what": job.what,
    }
    with contextlib.suppress(RefusedError):  # the job's result tells of it in any case
        _say(client, "POST", f"{_files_of(job.run)}/failed", {"files": [about]})


def _ask(client: BlobClient, run: str, rows: list[dict[str, Any]]) -> list[str | None]:
    """Return of each row why it was refused, None where it was not."""
    return _refusals(_say(client, "PUT", _files_of(run), {"files": rows}), len(rows))


def _say(client: BlobClient, method: str, path: str, body: dict[str, Any]) -> Any:
    try:
        return client.ask(method, path, body)
    except TryLaterError as error:
        if error.status in (404, 409):
            raise NotYetError(str(error), status=error.status) from error
        raise


def _files_of(run: str) -> str:
    return route("runs", *run.split("/"), "files")


def _refusals(answer: Any, count: int) -> list[str | None]:
    try:
        said = [each["why"] if each["outcome"] == "refused" else None for each in answer["files"]]
    except (TypeError, KeyError) as error:
        raise TryLaterError("an answer of another shape than that to files") from error
    if len(said) != count:
        raise TryLaterError("an answer to another number of files than were told")
    return [None if each is None else str(each) for each in said]


def _read_small(task: Task) -> tuple[Sent, bytes]:
    job = _file_job(task)
    began_unix_s = time.time()
    with Source(job.source) as source:
        content = b"".join(source.chunks())
        digest = hashlib.sha256(content).hexdigest()
        _check(job, digest)
        return _sent(job, source, digest, began_unix_s), content


def _sent(job: FileJob, source: Source, digest: str, began_unix_s: float) -> Sent:
    # What was fixed when it was saved is as old as that, however late it comes.
    is_fixed = job.is_ours or job.sha256 is not None
    taken_unix_s = job.created_unix_s if is_fixed else began_unix_s
    return Sent(
        job.name, digest, source.size, source.mark, source.modified_unix_s, began_unix_s, taken_unix_s
    )


def _check(job: FileJob, digest: str) -> None:
    if job.sha256 is not None and digest != job.sha256:
        raise SourceError(f"{job.source} is not what was meant: its content changed")


def _is_known(task: Task, sent: Sent) -> bool:
    """A watched file was touched, and holds what the server has."""
    return task.sent_digest == sent.digest


def _file_job(task: Task) -> FileJob:
    assert isinstance(task.job, FileJob), "only files come here"
    return task.job
