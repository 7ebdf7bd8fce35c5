"""Jobs: what is to be uploaded for a run. Pure; a job is one small JSON file in the outbox."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

from runfold.protocol.errors import DecodeError

JOB_VERSION = 1
POLICIES = ("now", "end", "live")


def new_id() -> str:
    """Return a new id of a job: 128 random bits in hex."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all jobs have.

    Attributes:
        writer: Id of the writer that left it, hex.
        run: "entity/project/run_id".
        place: Where the process ran (`node.lock.place_of`): its paths mean files there. "": not said.
    """

    kind: ClassVar[str] = ""

    id: str = field(default_factory=new_id)
    writer: str
    run: str
    created_unix_s: float
    place: str = ""

    def to_json(self) -> bytes:
        """Return the text of its file."""
        return json.dumps({"v": JOB_VERSION, "kind": self.kind, **asdict(self)}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileJob(Job):
    """A file of the run.

    Attributes:
        name: Within the run's files, checked by `check_file_name`.
        source: Absolute path of what is read when its time comes.
        policy: "now": at once; "end": when the writer's process has ended; "live": whenever it changed, and
            a last time at the end.
        sha256: Of what is meant, where that is fixed (media): other content is refused; None: as it is then.
        is_ours: `source` lies in the outbox and goes with the job.
        what: "file" or "media".
    """

    kind: ClassVar[str] = "file"

    name: str
    source: str
    policy: str = "now"
    sha256: str | None = None
    is_ours: bool = False
    what: str = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderJob(Job):
    """What lies in a folder of the run when the writer's process has ended, and was not saved by itself.

    Attributes:
        source: Absolute path of the folder.
    """

    kind: ClassVar[str] = "folder"

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactJob(Job):
    """A version of an artifact, or a part of one.

    Attributes:
        client_id: As in the ARTIFACT record.
        about: What the commit says beside the manifest: name, type, description, metadata, aliases, tags,
            digest, size, count, distributed_id, finalize, ttl_s, ...
        manifest: Absolute path of the manifest (`Manifest.pack`).
        sources: Absolute path of a JSON object: path of the content by SHA-256, of each blob to upload.
        staging: Absolute path of a folder that goes with the job; None: nothing was copied.
    """

    kind: ClassVar[str] = "artifact"

    client_id: str
    about: dict[str, Any]
    manifest: str
    sources: str
    staging: str | None = None


AnyJob = FileJob | FolderJob | ArtifactJob
_KINDS: dict[str, type[AnyJob]] = {job.kind: job for job in (FileJob, FolderJob, ArtifactJob)}


def parse_job(data: bytes) -> AnyJob:
    """Return the job in a file of the outbox; DecodeError if it is none."""
    try:
        found = json.loads(data)
        if found.pop("v") != JOB_VERSION:
            raise DecodeError("a job of another version", field="v")
        return _KINDS[found.pop("kind")](**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DecodeError(f"no job: {error}", field="kind") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a job: kept a while for the process that asked.

    Attributes:
        error: Why it will never be done, for people; None: it is done.
        document: What the server answered to the commit.
    """

    id: str
    kind: str
    run: str
    writer: str
    ended_unix_s: float
    error: str | None = None
    document: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the text of its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return the result in a file; DecodeError if it is none."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise DecodeError(f"no result: {error}", field="id") from error
