"""What lies in the folder of a run's files when its process has ended: jobs for what nobody saved."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from runfold.api.paths import route
from runfold.protocol.file_names import FileNameError, check_file_name
from runfold.uploads.failures import NotYetError, TryLaterError
from runfold.uploads.jobs import FileJob, FolderJob, new_id
from runfold.uploads.outbox import Outbox
from runfold.uploads.transfer import BlobClient

logger = logging.getLogger(__name__)

#: Files of a run's folder that nobody named; more are a mistake.
MOST_FILES = 100_000
#: Names in one question.
ASKED_AT_ONCE = 100
MAX_QUERY_BYTES = 20_000


def files_of(client: BlobClient, job: FolderJob, outbox: Outbox) -> Iterator[FileJob]:
    """Yield a job for each file that the server has not, or in another version.

    What was saved once ("now") stays as it was then. Links are what `save` made, and have jobs of their own.

    Raises:
        NotYetError: The server does not know the run yet.
        TryLaterError, RefusedError, StoppedError: See there.
    """
    names = sorted(_names(Path(job.source)))
    if not names:
        return
    waiting = {each.name for each in outbox.waiting() if isinstance(each, FileJob) and each.run == job.run}
    left = [name for name in names if name not in waiting]
    for some in _in_queries(left):
        saved = _saved_once(client, job.run, some)
        for name in some:
            if name not in saved:
                yield FileJob(
                    id=new_id(),
                    writer=job.writer,
                    run=job.run,
                    place=job.place,
                    created_unix_s=job.created_unix_s,
                    name=name,
                    source=str(Path(job.source) / name),
                )


def _names(folder: Path) -> Iterator[str]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in files:
            path = Path(place) / file
            try:
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                name = check_file_name(path.relative_to(folder).as_posix())
            except (OSError, FileNameError) as error:
                logger.warning(
                    "a file of a run can't be uploaded: %s", error, extra={"event": "file_unnamed"}
                )
                continue
            count += 1
            if count > MOST_FILES:
                logger.warning(
                    "only the first files of a run's folder are uploaded", extra={"event": "files_left"}
                )
                return
            yield name


def _in_queries(names: list[str]) -> Iterator[list[str]]:
    """Yield them in parts that fit into the address of a request."""
    part: list[str] = []
    size = 0
    for name in names:
        if part and (len(part) == ASKED_AT_ONCE or size + len(quote(name)) > MAX_QUERY_BYTES):
            yield part
            part, size = [], 0
        part.append(name)
        size += len(quote(name)) + len("names=&")
    if part:
        yield part


def _saved_once(client: BlobClient, run: str, names: list[str]) -> set[str]:
    """Return those of the names under which the server has what was saved once."""
    path = route("runs", *run.split("/"), "files")
    try:
        answer = client.ask("GET", path, query={"names": names, "limit": ASKED_AT_ONCE})
    except TryLaterError as error:
        if error.status == 404:
            raise NotYetError(str(error), status=404) from error
        raise
    try:
        return {row["name"] for row in answer["files"] if row["sha256"] and row["policy"] == "now"}
    except (TypeError, KeyError) as error:
        raise TryLaterError("an answer of another shape than a list of files") from error
