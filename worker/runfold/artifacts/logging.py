"""Logging an artifact: from what the user gave to a record in the spool and a job in the outbox."""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runfold.api.connection import Connection
from runfold.artifacts.artifact import Artifact
from runfold.artifacts.delivery import Delivery
from runfold.artifacts.ttl import ArtifactTTL
from runfold.protocol.failpoints import hit
from runfold.protocol.file_records import ArtifactRecord
from runfold.protocol.manifest import Manifest
from runfold.uploads.jobs import ArtifactJob, new_id
from runfold.uploads.outbox import Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run's jobs go.

    Attributes:
        run: "entity/project/run_id".
        writer: Returns the id of the process's writer; a fork's child has its own from then on.
        call_agent: Makes sure that somebody works the outbox off.
        node_place: Where the process runs, as jobs say it: its paths mean files there.
        note_job: Gets the id of each job that was left: finish() waits for them.
    """

    target_dir: Path
    run: str
    writer: Callable[[], str]
    call_agent: Callable[[], object]
    is_offline: bool
    node_place: str = ""
    note_job: Callable[[str], object] = lambda _: None


def prepare(
    artifact_or_path: Any,
    name: str | None,
    type: str | None,  # noqa: A002  # W&B's name
    run_id: str,
) -> Artifact:
    """Return the artifact that is to be logged, its contents fixed.

    Raises:
        ValueError: A path is nothing, or a name can't be one. TypeError: It is neither artifact nor path.
    """
    if isinstance(artifact_or_path, (str, os.PathLike)):
        path = os.fspath(artifact_or_path)
        base = os.path.basename(path)  # noqa: PTH119  # a URI may be one; of "folder/" it is "", as in W&B
        artifact = Artifact(name or f"run-{run_id}-{base}", type or "unspecified")
        if os.path.isfile(path):  # noqa: PTH113  # as W&B
            artifact.add_file(path)
        elif os.path.isdir(path):  # noqa: PTH112  # as W&B
            artifact.add_dir(path)
        elif "://" in path:
            artifact.add_reference(path)
        else:
            raise ValueError("path must be a file, directory or externalreference like s3://bucket/path")
    elif isinstance(artifact_or_path, Artifact):
        artifact = artifact_or_path
    else:
        raise TypeError("You must pass an instance of wandb.Artifact or a valid file path to log_artifact")
    artifact.finalize()
    return artifact


def describe(
    artifact: Artifact,
    aliases: list[str],
    tags: list[str],
    *,
    distributed_id: str | None,
    finalize: bool,
) -> dict[str, Any]:
    """Return what the commit says beside the manifest. ValueError: the metadata was made what it can't be."""
    artifact.metadata = {**artifact.metadata}  # as it was changed in place, checked
    ttl = artifact._ttl  # noqa: SLF001  # one thing
    return {
        "name": artifact._base_name,  # noqa: SLF001  # same
        "type": artifact.type,
        "description": artifact.description,
        "metadata": copy.deepcopy(artifact.metadata),
        "aliases": aliases,
        "tags": tags,
        "ttl_s": "inherit" if ttl is ArtifactTTL.INHERIT else ttl,
        "distributed_id": distributed_id,
        "finalize": finalize,
        "incremental": artifact.incremental,
    }


def deliver(
    artifact: Artifact,
    about: dict[str, Any],
    place: Place,
    *,
    say: Callable[[ArtifactRecord], None],
    connect: Callable[[], Connection],
) -> None:
    """Move the contents into the outbox, leave the job, say the record.

    Raises:
        OSError: It can't be kept.
    """
    manifest = artifact._manifest  # noqa: SLF001  # one thing
    client_id = artifact._next_client_id()  # noqa: SLF001  # same
    outbox, job_id = Outbox(place.target_dir), new_id()
    folder = outbox.staging(job_id)
    packed, sources = _write(artifact, manifest, folder)
    hit("artifacts.after_staging")
    # The job first: who is killed in between leaves one that comes unannounced. A record without a job would
    # be waited for by the finish of a distributed version.
    outbox.put(
        ArtifactJob(
            id=job_id,
            writer=place.writer(),
            run=place.run,
            place=place.node_place,
            created_unix_s=time.time(),
            client_id=client_id,
            about={**about, "digest": manifest.digest},
            manifest=str(packed),
            sources=str(sources),
            staging=str(folder),
        )
    )
    hit("artifacts.after_job")
    place.note_job(job_id)
    say(
        ArtifactRecord(
            client_id=client_id,
            name=about["name"],
            type=about["type"],
            digest=manifest.digest,
            size=manifest.size,
            count=len(manifest.entries),
            aliases=tuple(about["aliases"]),
            tags=tuple(about["tags"]),
            distributed_id=about["distributed_id"],
            finalize=about["finalize"],
            incremental=about["incremental"],
        )
    )
    hit("artifacts.after_record")
    if not place.is_offline:  # there nobody answers, and wait() says so
        delivery = Delivery(
            outbox,
            job_id,
            client_id,
            is_part=not about["finalize"],
            connect=connect,
            call_agent=place.call_agent,
        )
        artifact._begin_delivery(delivery)  # noqa: SLF001  # same


def _write(artifact: Artifact, manifest: Manifest, folder: Path) -> tuple[Path, Path]:
    try:
        draft = artifact._draft  # noqa: SLF001  # one thing
        if draft is not None:
            return draft.write_job(folder)
        folder.mkdir(mode=0o700, parents=True)
        packed, sources = folder / "manifest.json", folder / "sources.json"
        packed.write_bytes(manifest.pack())
        sources.write_text("{}")
        return packed, sources
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
