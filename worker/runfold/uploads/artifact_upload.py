"""An artifact to the server: its blobs, then its manifest as one more blob, then the commit that names them.

In: a job of the outbox. Out: what the server says of the version. A crash between any two steps has the steps
done again, to the same effect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runfold.batches import SMALL_BYTES, batches
from runfold.parallel import in_parallel
from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit
from runfold.protocol.manifest import Manifest
from runfold.uploads.failures import NotYetError, RefusedError, SourceError, TryLaterError, UploadError
from runfold.uploads.file_upload import MAX_REASON_CHARS
from runfold.uploads.jobs import ArtifactJob
from runfold.uploads.source import Source
from runfold.uploads.transfer import BlobClient

#: Requests at a time.
_THREADS = 4
#: What the answer to a commit is when the server will never take it.
_UNPROCESSABLE = 422


def upload_artifact(client: BlobClient, job: ArtifactJob) -> dict[str, object]:
    """Upload what is missing and commit; return {"artifact": document, "is_new": bool, ...}.

    Raises:
        NotYetError: The run is not known yet, or a blob was swept meanwhile: all over again.
        RefusedError: It will never be a version; the server was told so, and shows it with the run.
        TryLaterError, StoppedError: See there.
    """
    try:
        return _upload(client, job)
    except (SourceError, ProtocolError, FileNotFoundError) as error:
        refused = RefusedError(str(error), status=_UNPROCESSABLE)
        _tell_failed(client, job, refused)
        raise refused from error
    except RefusedError as error:
        _tell_failed(client, job, error)
        raise


def _upload(client: BlobClient, job: ArtifactJob) -> dict[str, object]:
    packed = Path(job.manifest).read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    sizes = Manifest.unpack(packed).blobs
    sources = _read_sources(job)
    _send(client, sizes, sources)
    hit("artifacts.after_blobs")
    if client.missing([digest]):
        _send_large(client, digest, job.manifest, len(packed))
    hit("artifacts.after_manifest")
    answer = _commit(client, job, digest)
    hit("artifacts.after_commit")
    return answer


def _read_sources(job: ArtifactJob) -> dict[str, str]:
    try:
        found = json.loads(Path(job.sources).read_bytes())
    except ValueError as error:
        raise SourceError(f"{job.sources} lists no sources: {error}") from error
    if not isinstance(found, dict):
        raise SourceError(f"{job.sources} lists no sources")
    return found


def _send(client: BlobClient, sizes: Mapping[str, int], sources: Mapping[str, str]) -> None:
    missing = client.missing(sizes)
    try:
        _send_missing(client, {digest: sizes[digest] for digest in missing}, sources)
    except SourceError:
        # The same content may have come with another job, whose copies went when it was done.
        if client.missing(missing):
            raise


def _send_missing(client: BlobClient, sizes: Mapping[str, int], sources: Mapping[str, str]) -> None:
    lost = [digest for digest in sizes if digest not in sources]
    if lost:
        raise SourceError(
            f"the server does not have {len(lost)} of its contents any more, nor has this machine: "
            f"{lost[0]} and so on. Add the files themselves"
        )
    small = sorted((digest for digest, size in sizes.items() if size <= SMALL_BYTES), key=sources.__getitem__)
    large = [digest for digest, size in sizes.items() if size > SMALL_BYTES]
    in_parallel(
        lambda batch: client.upload_small([(each, _read_small(each, sources[each])) for each in batch]),
        batches(small, sizes.__getitem__),
        threads=_THREADS,
    )
    in_parallel(lambda each: _send_large(client, each, sources[each], sizes[each]), large, threads=_THREADS)


def _read_small(digest: str, path: str) -> bytes:
    with Source(path) as source:
        if source.size > SMALL_BYTES:
            raise SourceError(f"{path} changed after it was added")
        content = b"".join(source.chunks())
    if hashlib.sha256(content).hexdigest() != digest:
        raise SourceError(f"{path} changed after it was added")
    return content


def _send_large(client: BlobClient, digest: str, path: str, size: int) -> None:
    with Source(path) as source:
        if source.size != size:
            raise SourceError(
                f"{path} changed after it was added: it has {source.size:,} bytes, not {size:,}"
            )
        client.upload(digest, source)
    hit("artifacts.after_large")


def _commit(client: BlobClient, job: ArtifactJob, manifest: str) -> dict[str, object]:
    body: dict[str, Any] = {
        "client_id": job.client_id,
        "run": job.run,
        "writer": job.writer or None,
        "said_unix_s": job.created_unix_s,
        "manifest": manifest,
        **job.about,
    }
    try:
        answer = client.ask("POST", "/artifacts", body)
    except TryLaterError as error:
        if error.status in (404, 409):
            raise NotYetError(str(error), status=error.status) from error
        raise
    if not isinstance(answer, dict) or not isinstance(answer.get("artifact"), dict):
        raise TryLaterError("an answer of another shape than that to a commit")
    return answer


def _tell_failed(client: BlobClient, job: ArtifactJob, error: UploadError) -> None:
    """Have the failure shown with the run; the job's result tells of it in any case.

    Raises:
        NotYetError: The server knows the run not yet.
        TryLaterError, StoppedError: See there.
    """
    said = {"error": str(error)[:MAX_REASON_CHARS], "run": job.run}
    try:
        client.ask("POST", f"/artifacts/by-client/{job.client_id}/failed", said)
    except TryLaterError as later:
        if later.status in (404, 409):
            raise NotYetError(str(later), status=later.status) from later
        raise
    except RefusedError:
        return
