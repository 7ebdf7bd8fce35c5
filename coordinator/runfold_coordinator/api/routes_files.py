"""Routes of the files of a run: what is here, what is still to come, their content."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from runfold.protocol.file_names import MAX_NAME_BYTES, FileNameError, check_file_name
from runfold_coordinator.api.blob_answers import answer_blob
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import ApiError, BadRequestError, NotFoundError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.hidden_runs import SendingRun
from runfold_coordinator.api.parameters import At, Cursor, TheRun, checked_name, checked_pattern
from runfold_coordinator.api.routes_blobs import checked_digest
from runfold_coordinator.readers.files_reader import FileCounts, FileRow, State
from runfold_coordinator.run_files import LostFile, MissingBlobsError, Result, SentFile

router = APIRouter(
    prefix="/api/v1/runs/{entity}/{project}/{run_id}/files",
    tags=["files"],
    dependencies=[Depends(require_admission)],
)

#: Files in one request or answer.
MAX_FILES = 1000
#: Digests that are named where blobs are missing; /blobs/missing tells all.
_MOST_NAMED = 100
_LATEST_UNIX_S = 253402300799.0

#: For the gate.
BODY_LIMITS = dict.fromkeys(
    ("/api/v1/runs/{}/{}/{}/files", "/api/v1/runs/{}/{}/{}/files/failed"), 4 * 1024 * 1024
)

FileName = Annotated[str, Query(min_length=1, max_length=MAX_NAME_BYTES)]
Unix = Annotated[float, Field(ge=0, le=_LATEST_UNIX_S, allow_inf_nan=False)]


class FileBody(BaseModel):
    """A file whose blob was uploaded before."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=8 * MAX_NAME_BYTES)
    sha256: str
    #: Bytes: for who reads the request; the blob knows.
    size: int | None = Field(default=None, ge=0)
    mimetype: str | None = Field(default=None, max_length=1000)
    #: Modification time that the file had.
    modified_unix_s: Unix | None = None
    #: When its content was as it is; null: now. Of two of one name the later taken stays.
    taken_unix_s: Unix | None = None
    #: Writer id of the process that saved it, hex.
    writer: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    policy: Literal["now", "end", "live"] = "now"
    what: Literal["file", "media"] = "file"


class LostFileBody(BaseModel):
    """A file that will never come."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=8 * MAX_NAME_BYTES)
    #: Why, for people.
    error: str = Field(min_length=1, max_length=8000)
    #: When it was saved: what was taken later stays.
    taken_unix_s: Unix
    #: When it was given up.
    failed_unix_s: Unix
    writer: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    policy: Literal["now", "end", "live"] = "now"
    what: Literal["file", "media"] = "file"


class LostFilesBody(BaseModel):
    """The files that were given up."""

    model_config = ConfigDict(extra="forbid")

    files: list[LostFileBody] = Field(max_length=MAX_FILES)


class FilesBody(BaseModel):
    """The files that are committed."""

    model_config = ConfigDict(extra="forbid")

    files: list[FileBody] = Field(max_length=MAX_FILES)


@router.put("")
def put_files(request: Request, backend: At, run: SendingRun, said: FilesBody) -> Response:
    """Store files whose blobs are here; the same again changes nothing.

    Answers {"files": [{"name", "outcome", "why"}]}: stored, unchanged, older (a later one stays) or refused.
    404 while the run is not known (yet); 409 blob_missing, with "missing", where nothing was stored.
    """
    sent = [
        SentFile(
            name=each.name,
            sha256=checked_digest(each.sha256),
            mimetype=each.mimetype,
            modified_unix_s=each.modified_unix_s,
            taken_unix_s=each.taken_unix_s,
            writer_id=each.writer,
            policy=each.policy,
            what=each.what,
        )
        for each in said.files
    ]
    try:
        results = backend.files.put(run.run_pk, sent)
    except MissingBlobsError as error:
        raise ApiError(
            409,
            "blob_missing",
            str(error),
            field="sha256",
            hint="upload them, then send this again; POST /api/v1/blobs/missing tells all of them",
            facts={"missing": error.digests[:_MOST_NAMED]},
        ) from error
    return answer(request, {"files": [_result(each) for each in results]})


@router.post("/failed")
def give_up(request: Request, backend: At, run: SendingRun, said: LostFilesBody) -> Response:
    """Take why files will never come; answers {"noted": how many}. What was taken later is not touched.

    404 while the run is not known (yet).
    """
    lost = [
        LostFile(
            name=each.name,
            error=each.error,
            taken_unix_s=each.taken_unix_s,
            failed_unix_s=each.failed_unix_s,
            writer_id=each.writer,
            policy=each.policy,
            what=each.what,
        )
        for each in said.files
    ]
    return answer(request, {"noted": backend.files.give_up(run.run_pk, lost)})


@router.get("")
def list_files(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    run: TheRun,
    names: Annotated[list[str] | None, Query(max_length=MAX_FILES, description="repeat it")] = None,
    pattern: Annotated[str | None, Query(max_length=MAX_NAME_BYTES)] = None,
    state: Annotated[State, Query()] = "stored",
    limit: Annotated[int, Query(ge=1, le=MAX_FILES)] = 100,
    cursor: Cursor = None,
) -> Response:
    """List the run's files by name; `pattern` as in SQL's LIKE: % any characters, _ one.

    Answers {"files", "next_cursor", "counts"}. state=pending: those that processes said they would send, and
    that are still to come; state=failed: those of which what was saved last will never come, with `error`.
    """
    if names is not None and pattern is not None:
        raise BadRequestError("names and pattern exclude each other", field="pattern")
    rows, after = backend.stored_files.page(
        run.run_pk,
        names=None if names is None else [checked_name(name) for name in names],
        pattern=checked_pattern(pattern),
        state=state,
        after=None if cursor is None else checked_name(cursor),
        limit=limit,
    )
    counts = backend.stored_files.counts(run.run_pk)
    return answer(
        request,
        {
            "files": [file_document(row) for row in rows],
            "next_cursor": after,
            "counts": counts_document(counts),
        },
    )


@router.get("/content")
@router.head("/content", include_in_schema=False)
async def content(request: Request, backend: At, run: TheRun, name: FileName) -> Response:
    """Give a file's content, to be saved; takes Range, If-Range and If-None-Match."""
    row = await run_in_threadpool(backend.stored_files.find, run.run_pk, _checked_file(name))
    if row is None or row.sha256 is None:
        raise _not_found(name)
    return await answer_blob(request, backend.blobs, row.sha256, name=row.name)


@router.delete("")
def delete(request: Request, backend: At, run: TheRun, name: FileName) -> Response:
    """Forget a file. Its content goes later, if nothing else refers to it."""
    if not backend.files.delete(run.run_pk, _checked_file(name)):
        raise _not_found(name)
    return answer(request, {"deleted": 1})


def file_document(row: FileRow) -> dict[str, Any]:
    """Return a file of a run."""
    return {
        "name": row.name,
        "sha256": row.sha256,
        "md5": row.md5,
        "size": row.size,
        "mimetype": row.mimetype,
        "modified_unix_s": row.modified_unix_s,
        "stored_unix_s": row.stored_unix_s,
        "writer": row.writer_id,
        "policy": row.policy,
        "what": row.what,
        "error": row.error,
    }


def counts_document(counts: FileCounts) -> dict[str, int]:
    """Return how the files of a run stand."""
    return {"stored": counts.stored, "pending": counts.pending, "failed": counts.failed}


def _result(found: Result) -> dict[str, Any]:
    return {"name": found.name, "outcome": found.outcome, "why": found.why}


def _checked_file(name: str) -> str:
    try:
        return check_file_name(name)
    except FileNameError as error:
        raise BadRequestError(str(error), field="name") from error


def _not_found(name: str) -> ApiError:
    return NotFoundError("file_not_found", f"the run has no file {name!a}", field="name")
