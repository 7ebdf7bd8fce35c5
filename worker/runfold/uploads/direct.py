"""One file to a run, now, by whoever reads the run: no outbox, no agent."""

from __future__ import annotations

import time
from pathlib import Path

from runfold.api.connection import Connection
from runfold.api.errors import RequestError
from runfold.errors import CommError
from runfold.protocol.file_names import FileNameError, check_file_name
from runfold.uploads.failures import RefusedError, SourceError, UploadError
from runfold.uploads.file_upload import upload_large
from runfold.uploads.jobs import FileJob
from runfold.uploads.tasks import Task
from runfold.uploads.transfer import BlobClient

#: How long a transfer tries again without progress.
PATIENCE_S = 60.0
#: A file that changes while it is read is tried so often.
ATTEMPTS = 3


def upload_now(connection: Connection, run: tuple[str, str, str], name: str, path: Path) -> None:
    """Upload a file under a name; ValueError, FileNotFoundError or CommError tell why not."""
    try:
        check_file_name(name)
    except FileNameError as error:
        raise ValueError(str(error)) from error
    job = FileJob(
        writer="", run="/".join(run), created_unix_s=time.time(), name=name, source=str(path.absolute())
    )
    key = connection._api_key  # noqa: SLF001  # the same client, for bodies that are streamed
    try:
        with BlobClient(connection.url, key, patience_s=PATIENCE_S) as client:
            _upload(client, job)
    except RefusedError as error:
        raise RequestError(str(error)) from error
    except UploadError as error:
        raise CommError(f"{name} was not uploaded: {error}", error) from error


def _upload(client: BlobClient, job: FileJob) -> None:
    for attempt in range(ATTEMPTS):
        task = Task(job)
        try:
            outcome = upload_large(client, task, should_stop=lambda: False, is_enough=lambda: False)
        finally:
            task.drop_source()
        if isinstance(outcome, str):
            raise RequestError(f"{job.name} was refused: {outcome}")
        if not isinstance(outcome, SourceError):
            return
        if outcome.is_gone:
            raise FileNotFoundError(str(outcome))
        if attempt == ATTEMPTS - 1:
            raise ValueError(str(outcome))
