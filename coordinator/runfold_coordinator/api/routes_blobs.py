"""Routes of blobs: which are missing, uploads in pieces or many small ones at once, content."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Annotated, Any

import msgpack
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from runfold.protocol.file_names import is_digest
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.blob_answers import answer_blob
from runfold_coordinator.api.encoding import MSGPACK, answer
from runfold_coordinator.api.errors import ApiError, BadRequestError, OverLimitError, UnavailableError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At
from runfold_coordinator.blobs.errors import (
    FULL_ERRNOS,
    BlobError,
    BlobMismatchError,
    BlobSpaceError,
    BlobUnavailableError,
    UploadOffsetError,
)
from runfold_coordinator.blobs.uploads import Piece, Progress
from runfold_coordinator.store.errors import StoreError, StoreFullError

router = APIRouter(prefix="/api/v1/blobs", tags=["blobs"], dependencies=[Depends(require_admission)])

MIB = 1024 * 1024
#: Digests in one question.
MAX_DIGESTS = 10_000
#: One blob.
MAX_BLOB_BYTES = 1024 * 1024 * MIB
#: One piece of one, the body of a request.
MAX_PIECE_BYTES = 64 * MIB
#: Small blobs in one request: their bytes, and how many.
MAX_BATCH_BYTES = 8 * MIB
MAX_BATCH = 10_000
#: Blobs that one request may ask for.
MAX_READ = 1000
#: Bytes of a piece that are written at a time.
_WRITE_BYTES = 1 * MIB
#: What a small file takes of a disk beside its bytes.
_BLOCK_BYTES = 4096
#: For so long an upload's last request waits until the blob is in place; then the client asks again.
FINISH_WAIT_S = 20.0

#: For the gate.
BODY_LIMITS = {
    "/api/v1/blobs/{}/upload": MAX_PIECE_BYTES,
    "/api/v1/blobs/batch": MAX_BATCH_BYTES,
    "/api/v1/blobs/missing": 2 * MIB,
    "/api/v1/blobs/read": MIB,
}


class MissingBody(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    digests: list[str] = Field(max_length=MAX_DIGESTS)


class ReadBody(BaseModel):
    """What is read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    digests: list[str] = Field(max_length=MAX_READ)


def the_digest(digest: Annotated[str, Path(max_length=200)]) -> str:
    """Return the digest of the path.

    Raises:
        BadRequestError: It is none.
    """
    return checked_digest(digest)


def checked_digest(text: str) -> str:
    """Return `text` if it is a SHA-256 in lower-case hex.

    Raises:
        BadRequestError: It is none.
    """
    if not is_digest(text):
        raise BadRequestError("a digest is 64 digits of lower-case hex: the SHA-256", field="digest")
    return text


Digest = Annotated[str, Depends(the_digest)]


@router.post("/missing")
def missing(request: Request, backend: At, asked: MissingBody) -> Response:
    """Tell which of these blobs are not here, in their order. Those that are stay for the minimum age."""
    digests = [checked_digest(digest) for digest in asked.digests]
    return answer(request, {"missing": backend.blobs.missing(digests)})


@router.post("/batch")
async def batch(request: Request, backend: At) -> Response:
    """Store many small blobs at once. Body: msgpack [[SHA-256 in hex, bytes], ...]; answers {"stored"}.

    One that does not hash to its digest has the whole batch refused.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    return await run_in_threadpool(_store_batch, request, backend, body)


@router.post("/read")
def read(backend: At, asked: ReadBody) -> Response:
    """Give small blobs, many at once: msgpack [[SHA-256 in hex, bytes], ...], in the order asked for.

    As many as fit into 8 MiB: ask for the rest again. What is not here, or is larger, is left out.
    """
    digests = [checked_digest(digest) for digest in asked.digests]
    try:
        found = backend.blobs.read_many(digests, limit_bytes=MAX_BATCH_BYTES)
    except (BlobError, OSError) as error:
        raise as_api_error(error) from error
    return Response(msgpack.packb(found), media_type=MSGPACK)


@router.get("/{digest}/upload")
def progress(request: Request, backend: At, digest: Digest) -> Response:
    """Tell how far a blob has been uploaded: {"offset", "complete"}."""
    return answer(request, _document(backend.uploads.progress(digest)))


@router.put("/{digest}/upload")
async def upload(
    request: Request,
    backend: At,
    digest: Digest,
    offset: Annotated[int, Query(ge=0, le=MAX_BLOB_BYTES)],
    size: Annotated[int, Query(ge=0, le=MAX_BLOB_BYTES)],
) -> Response:
    """Take a piece of a blob of `size` bytes, from `offset`; answers {"offset", "complete"}.

    With its last byte the blob is checked and brought into place. Where that takes long, the answer is
    complete=false with offset=size: send an empty piece at `size` until it is complete. 409 tells the true
    offset, 422 that the bytes were not what the digest says (they are forgotten), 507 that the disk is full.
    """
    try:
        piece = await run_in_threadpool(backend.uploads.begin, digest, offset, size)
        if piece is None:
            await _drain(request)
        else:
            await _receive(request, piece)
            if piece.offset < size:
                return answer(request, _document(Progress(piece.offset, is_complete=False)))
        return answer(request, _document(await _finished(backend, digest, size)))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except (BlobError, StoreError, OSError) as error:
        # A client that is still sending would not read the answer.
        await _drain(request)
        backend.blobs.counts.refuse(error)
        raise as_api_error(error) from error


@router.get("/{digest}")
@router.head("/{digest}", include_in_schema=False)
async def content(request: Request, backend: At, digest: Digest) -> Response:
    """Give a blob; takes Range, If-Range and If-None-Match."""
    return await answer_blob(request, backend.blobs, digest)


def as_api_error(error: Exception) -> ApiError:
    """Return the answer to what the blob store raised."""
    if isinstance(error, UploadOffsetError):
        return _offset_error(error)
    if isinstance(error, BlobMismatchError):
        hint = "hash the file and send it again; did it change meanwhile?"
        return ApiError(422, "digest_mismatch", str(error), field="digest", hint=hint)
    is_full = isinstance(error, OSError) and error.errno in FULL_ERRNOS
    if is_full or isinstance(error, (BlobSpaceError, StoreFullError)):
        hint = "free disk space on the server, or start it with --blobs elsewhere; the upload then goes on"
        return ApiError(507, "disk_full", str(error), hint=hint, headers={"Retry-After": "30"})
    if isinstance(error, (BlobUnavailableError, StoreError, OSError)):
        return UnavailableError(f"not now: {error}", hint="ask again", retry_after_s=5)
    raise error


def _offset_error(error: UploadOffsetError) -> ApiError:
    return ApiError(
        409,
        "upload_busy" if error.is_busy else "wrong_offset",
        str(error),
        field="offset",
        hint="ask again in a moment" if error.is_busy else "go on from the offset of this answer",
        headers={"Retry-After": "1"} if error.is_busy else None,
        facts={"offset": error.offset, "complete": False},
    )


async def _drain(request: Request) -> None:
    """Read the rest of the body, which has a limit."""
    with contextlib.suppress(RuntimeError, ClientDisconnect):  # all of it was read; nobody sends any more
        async for _ in request.stream():
            pass


async def _receive(request: Request, piece: Piece) -> None:
    """Write the body as it comes. What has come stays, whatever ends the request."""
    waiting: list[bytes] = []
    waiting_bytes = 0
    try:
        async for data in request.stream():
            waiting.append(data)
            waiting_bytes += len(data)
            if waiting_bytes >= _WRITE_BYTES:
                waiting, writing, waiting_bytes = [], waiting, 0
                await run_in_threadpool(piece.write, writing)
    finally:
        await asyncio.shield(run_in_threadpool(_close, piece, waiting))


def _close(piece: Piece, waiting: list[bytes]) -> None:
    try:
        piece.write(waiting)
    finally:
        piece.close()


async def _finished(backend: Backend, digest: str, size: int) -> Progress:
    finishing = asyncio.wrap_future(backend.uploads.finish(digest, size))
    await asyncio.wait([finishing], timeout=FINISH_WAIT_S)
    if not finishing.done():
        finishing.add_done_callback(lambda found: found.cancelled() or found.exception())
        return Progress(size, is_complete=False)
    finishing.result()
    return Progress(size, is_complete=True)


def _document(found: Progress) -> dict[str, Any]:
    return {"offset": found.offset, "complete": found.is_complete}


def _store_batch(request: Request, backend: Backend, body: bytes) -> Response:
    try:
        pieces = _batch_pieces(body)
        backend.blobs.counts.add(received_bytes=sum(len(data) for _, data in pieces))
        backend.uploads.check_space(len(body) + len(pieces) * _BLOCK_BYTES)
        stored = backend.blobs.put_many(pieces)
    except (BlobError, StoreError, OSError) as error:
        backend.blobs.counts.refuse(error)
        raise as_api_error(error) from error
    return answer(request, {"stored": stored})


def _batch_pieces(body: bytes) -> list[tuple[str, bytes]]:
    """Return the pairs of a batch, each checked against its digest."""
    try:
        found = msgpack.unpackb(body, max_array_len=MAX_BATCH, max_map_len=0, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequestError(f"the body is no msgpack list of blobs: {error}", field="body") from error
    if not isinstance(found, list):
        raise BadRequestError("the body is no list of [digest, bytes]", field="body")
    if len(found) > MAX_BATCH:
        raise OverLimitError(f"more than {MAX_BATCH} blobs", field="body", limit=MAX_BATCH)
    pieces = []
    for place, pair in enumerate(found):
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise BadRequestError(f"entry {place}: not [digest, bytes]", field="body")
        digest, data = checked_digest(pair[0]), pair[1]
        if not isinstance(data, bytes):
            raise BadRequestError(f"entry {place}: not [digest, bytes]", field="body")
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobMismatchError(f"entry {place}: its bytes are not {digest}")
        pieces.append((digest, data))
    return pieces
