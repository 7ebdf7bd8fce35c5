"""What a process says of files and artifacts: the bytes themselves go to the coordinator over HTTP.

A record is what was meant; whether the bytes came is known from the upload (`runfold.uploads`). So a file
that was saved and never arrived is seen as missing, not as never saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runfold.protocol.records import FieldTypes, MapPayload


@dataclass(frozen=True, slots=True)
class FileRecord(MapPayload):
    """A file of the run was saved, or is to be watched.

    Attributes:
        name: Path within the run's files, parts separated by "/"; see `file_names.check_file_name`.
        policy: "now": as it is; "end": as it is when the process ends; "live": whenever it changed.
        size: Bytes when it was saved; None where it is not known yet.
        sha256: Of its content, hex; None where it is not known yet.
        what: "file", or what kind of media it is: "media".
        error: Why it will never come: it could not even be left to be uploaded; None: it is on its way.
    """

    name: str = ""
    policy: str = "now"
    size: int | None = None
    sha256: str | None = None
    what: str = "file"
    error: str | None = None

    TYPES: ClassVar[FieldTypes] = {
        **dict.fromkeys(("name", "policy", "sha256", "what", "error"), str),
        "size": int,
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"name"})
    YOUNG: ClassVar[frozenset[str]] = frozenset({"error"})


@dataclass(frozen=True, slots=True)
class ArtifactRecord(MapPayload):
    """A version of an artifact was logged, or a part of one that several processes write together.

    Attributes:
        client_id: 128 random bits in hex, made with the draft: the same for every attempt to deliver it.
        digest: Of the manifest; see `manifest.Manifest.digest`.
        size: Bytes of all files.
        count: Files.
        distributed_id: Parts with the same one become one version; None: it is whole.
        finalize: False: other parts follow.
        incremental: Its files are added to those of the collection's latest version.
    """

    client_id: str = ""
    name: str = ""
    type: str = ""
    digest: str = ""
    size: int = 0
    count: int = 0
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    distributed_id: str | None = None
    finalize: bool = True
    incremental: bool = False

    TYPES: ClassVar[FieldTypes] = {
        **dict.fromkeys(("client_id", "name", "type", "digest", "distributed_id"), str),
        **dict.fromkeys(("size", "count"), int),
        "aliases": list,
        "tags": list,
        "finalize": bool,
        "incremental": bool,
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"client_id", "name", "type", "digest"})
    YOUNG: ClassVar[frozenset[str]] = frozenset({"incremental"})


@dataclass(frozen=True, slots=True)
class ArtifactUseRecord(MapPayload):
    """The run used a version of an artifact as an input.

    Attributes:
        artifact: Id of the version, as the server gave it; or the client id of one that was logged here.
        use_as: What for, in the user's words.
    """

    artifact: str = ""
    use_as: str | None = None

    TYPES: ClassVar[FieldTypes] = {"artifact": str, "use_as": str}
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"artifact"})
