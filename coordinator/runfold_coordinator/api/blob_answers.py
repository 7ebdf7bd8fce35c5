"""Sends blobs, whole or from any place of them, with never more than a piece of one in memory.

What users sent is data to a browser: it is saved, not shown; only pictures and sound that look like what they
are called keep their type, so that a page of ours may show them.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from runfold_coordinator.api.errors import ApiError, NotFoundError, UnavailableError
from runfold_coordinator.api.gate import FILE_POLICY
from runfold_coordinator.api.ranges import Part, choose
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import BlobMissingError, BlobUnavailableError

#: Bytes read, and sent, at a time.
PIECE_BYTES = 1024 * 1024
_HEAD_BYTES = 16
_PLAIN = "application/octet-stream"
#: Types that a browser may be told, and how such content begins. Nothing here can hold a script.
_SHOWN = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"),
    (b"ID3", 0, "audio/mpeg"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1aE\xdf\xa3", 0, "video/webm"),
)


async def answer_blob(request: Request, blobs: Blobs, digest: str, *, name: str | None = None) -> Response:
    """Return the answer with a blob's content, or the part of it that the request asks for.

    Args:
        name: What it is saved as; None: its digest.

    Raises:
        ApiError: 404 where it is not here, 410 where it was damaged, 416, 503.
    """
    size = await run_in_threadpool(blobs.size, digest)
    if size is None:
        raise not_here(BlobMissingError(digest))
    etag = f'"{digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        # Its address may come to mean other content, and who may read it may change: always ask.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _disposition(name or digest),
        "Content-Security-Policy": FILE_POLICY,
    }
    chosen = choose(request.headers, size, etag)
    if chosen == 304:
        return Response(status_code=304, headers=headers)
    if not isinstance(chosen, Part):
        raise ApiError(
            416,
            "range_not_satisfiable",
            f"the content has {size} bytes",
            field="Range",
            limit=size,
            headers={"Content-Range": f"bytes */{size}"},
        )
    if chosen.status == 206:
        headers["Content-Range"] = f"bytes {chosen.begin}-{chosen.end - 1}/{size}"
    headers["Content-Length"] = str(chosen.end - chosen.begin)
    try:
        file, media_type = await run_in_threadpool(
            _open, blobs, digest, chosen.begin, is_shown=name is not None
        )
    except BlobMissingError as error:
        raise not_here(error) from error
    except (BlobUnavailableError, OSError) as error:
        raise UnavailableError(f"not now: {error}", hint="ask again") from error
    if request.method == "HEAD":
        await run_in_threadpool(file.close)
        return Response(status_code=chosen.status, headers=headers, media_type=media_type)
    return StreamingResponse(
        _pieces(file, chosen.end - chosen.begin), chosen.status, headers, media_type=media_type
    )


def not_here(error: BlobMissingError) -> ApiError:
    """Return the answer to a question for a blob that is not here, or not whole."""
    if error.is_damaged:
        hint = "who still has the content can upload it again"
        return ApiError(410, "blob_damaged", str(error), field="digest", hint=hint)
    return NotFoundError("blob_not_found", str(error), field="digest")


def _open(blobs: Blobs, digest: str, begin: int, *, is_shown: bool) -> tuple[BinaryIO, str]:
    """Open a blob at `begin`, and tell its type, for which its beginning has to be read."""
    file = blobs.open(digest)
    try:
        media_type = _media_type(file.read(_HEAD_BYTES)) if is_shown else _PLAIN
        file.seek(begin)
    except BaseException:
        file.close()
        raise
    return file, media_type


async def _pieces(file: BinaryIO, left: int) -> AsyncIterator[bytes]:
    """Yield so many bytes. One that is cut short breaks the connection: its length was promised."""
    try:
        while left:
            piece = await run_in_threadpool(file.read, min(left, PIECE_BYTES))
            if not piece:
                raise EOFError("a blob is shorter than its row says")
            left -= len(piece)
            yield piece
    finally:
        await run_in_threadpool(file.close)


def _media_type(head: bytes) -> str:
    return next((kind for magic, at, kind in _SHOWN if head[at : at + len(magic)] == magic), _PLAIN)


def _disposition(name: str) -> str:
    """Return the header (RFC 6266) that has a browser save the content under the last part of a name."""
    last = name.rpartition("/")[2]
    is_plain = [char.isascii() and char.isprintable() and char not in '"\\%' for char in last]
    plain = "".join(char if good else "_" for char, good in zip(last, is_plain, strict=True))
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{urllib.parse.quote(last, safe='')}"
