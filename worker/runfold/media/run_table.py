"""The artifact of a table that a run logged: `run-<id>-<key>`. The row that names it does not wait for it."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from zlib import crc32

from runfold.media.encoder import encoder
from runfold.media.table_artifact import write_table
from runfold.protocol.artifact_names import LATEST, MAX_NAME_CHARS
from runfold.protocol.file_names import FileNameError, check_file_name

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact
    from runfold.media.captured_table import CapturedTable

#: How rows name an artifact of their run that may not be on the server yet.
_CLIENT_ARTIFACT = "wandb-client-artifact://"
#: Of artifacts with a part of a growing table each: the collection's latest version has all of them.
INCREMENTAL_TYPE = "wandb-run-incremental-table"
_ODD = re.compile(r"[^a-zA-Z0-9_\-.]+")
#: Left of a name that no file can have, before a digest of all of it.
_KEPT_CHARS = 60


def keep_artifact(run: Any, captured: CapturedTable, name: str, kind: str, entry: str) -> dict[str, Any]:
    """Have the encoder make and log a table's artifact, after what waits for its turn now.

    Args:
        name: Of the artifact, after "run-<id>-".
        kind: Its type.
        entry: Name of the table's file in it.

    Returns:
        What the row says of it.
    """
    artifact, place = new_artifact(run, name, kind), file_name(entry)

    def log() -> None:
        try:
            write_table(artifact, captured, place)
            log_own(run, artifact)
        except Exception as error:  # noqa: BLE001  # the row and its file stay
            run._tell_lost(f"artifact {artifact.name}", error)  # noqa: SLF001  # one product

    encoder.put(log, captured.held_bytes, owner=run)
    return {
        "artifact_path": client_path(artifact, place),
        "_latest_artifact_path": f"{_CLIENT_ARTIFACT}{_sequence_id(run, artifact)}:{LATEST}/{place}",
    }


def new_artifact(run: Any, name: str, kind: str) -> Artifact:
    """Return a draft named after a run, of a type that users can't give."""
    from runfold.artifacts.artifact import Artifact

    artifact = Artifact(collection_name(f"run-{run.id}-{name}"), "unspecified")
    artifact._type = kind  # noqa: SLF001  # one product
    artifact._is_incremental = kind == INCREMENTAL_TYPE  # noqa: SLF001  # same
    return artifact


def log_own(run: Any, artifact: Artifact) -> None:
    """Log an artifact that a run makes by itself: no question to the server, and nobody waits for it."""
    from runfold.artifacts import logging as artifact_logging

    artifact.finalize()
    about = artifact_logging.describe(artifact, [LATEST], [], distributed_id=None, finalize=True)
    run._deliver_artifact(artifact, about)  # noqa: SLF001  # one product


def client_path(artifact: Artifact, entry: str) -> str:
    """Return how a row names a file in an artifact."""
    return f"{_CLIENT_ARTIFACT}{artifact._client_id}/{entry}"  # noqa: SLF001  # one product


def _sequence_id(run: Any, artifact: Artifact) -> str:
    """Return an id of the collection: the same for all of its versions."""
    return hashlib.sha256(f"{run.path}/{artifact.name}".encode()).hexdigest()[:32]


def collection_name(name: str) -> str:
    """Return a name that an artifact may have: what it may not is left out, a CRC told, as W&B does."""
    plain = _ODD.sub("", name)
    if plain == name and len(name) <= MAX_NAME_CHARS:
        return name
    sum_of_all = crc32(name.encode("utf-8", "replace")).to_bytes(4, "big")
    suffix = urlsafe_b64encode(sum_of_all).decode().rstrip("=")
    return f"{plain[: MAX_NAME_CHARS - 1 - len(suffix)]}-{suffix}"


def file_name(entry: str) -> str:
    """Return a name that a file may have, of one that was made of a key."""
    try:
        return check_file_name(entry)
    except FileNameError:
        digest = hashlib.sha256(entry.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kind = ".".join(entry.rsplit(".", 2)[-2:])
        return f"{_ODD.sub('_', entry)[:_KEPT_CHARS]}-{digest}.{kind}"
