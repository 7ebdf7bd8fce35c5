"""Bodies of requests about artifacts, and what they mean; errors of artifacts as answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runfold.protocol.artifact_names import (
    MAX_ALIAS_CHARS,
    MAX_LABELS,
    MAX_NAME_CHARS,
    MAX_TYPE_CHARS,
    check_name,
)
from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.errors import ApiError, BadRequestError, NotFoundError, UnavailableError
from runfold_coordinator.artifacts.drafts import (
    MAX_DESCRIPTION_CHARS,
    MAX_DISTRIBUTED_ID_CHARS,
    MAX_LINKS,
    MAX_PLACE_CHARS,
    Draft,
    checked_about,
    checked_digest,
    checked_md5,
    with_name,
)
from runfold_coordinator.artifacts.editing import Labels
from runfold_coordinator.artifacts.errors import ArtifactError, ArtifactRefusedError, BlobsMissingError
from runfold_coordinator.blobs.errors import BlobError
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.names import clean_text

#: Largest body of a commit, in bytes.
MAX_COMMIT_BYTES = 4 * 1024 * 1024

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Place = Annotated[str, Field(min_length=1, max_length=MAX_PLACE_CHARS)]
#: Longer texts are refused before the rules of names are asked, so that answers stay short.
Label = Annotated[str, Field(max_length=8 * MAX_ALIAS_CHARS)]
MoreLabels = Annotated[list[Label], Field(max_length=MAX_LABELS)]
Description = Annotated[str | None, Field(max_length=MAX_DESCRIPTION_CHARS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LinkBody(_Body):
    """A link that is wanted."""

    target: str = Field(min_length=1, max_length=3 * MAX_PLACE_CHARS)
    aliases: MoreLabels = []


class CommitBody(_Body):
    """A draft whose files are here."""

    client_id: Hex32
    run: str | None = Field(default=None, max_length=3 * MAX_PLACE_CHARS)
    entity: Place | None = None
    project: Place | None = None
    writer: Hex32 | None = None
    said_unix_s: float | None = Field(default=None, ge=0, lt=9e9, allow_inf_nan=False)
    name: str = Field(max_length=8 * MAX_NAME_CHARS)
    type: str = Field(max_length=MAX_TYPE_CHARS)
    manifest: str = Field(max_length=64)
    digest: str = Field(max_length=64)
    description: Description = None
    metadata: dict[str, Any] = {}
    aliases: MoreLabels = []
    tags: MoreLabels = []
    ttl_s: float | int | str | None = "inherit"
    links: list[LinkBody] = Field(default=[], max_length=MAX_LINKS)
    distributed_id: str | None = Field(default=None, min_length=1, max_length=MAX_DISTRIBUTED_ID_CHARS)
    finalize: bool = True
    incremental: bool = False


class FailureBody(_Body):
    """Why the files of a draft will never come, and whose it was."""

    error: str = Field(min_length=1, max_length=10_000)
    run: str = Field(max_length=3 * MAX_PLACE_CHARS)


class VersionChanges(_Body):
    """What is to change in a version; what is not named stays."""

    description: Description = None
    metadata: dict[str, Any] = {}
    ttl_s: float | int | str | None = None
    tags: MoreLabels | None = None
    add_tags: MoreLabels = []
    remove_tags: MoreLabels = []
    aliases: MoreLabels | None = None
    add_aliases: MoreLabels = []
    remove_aliases: MoreLabels = []
    collection: Hex32 | None = None


class CollectionChanges(_Body):
    """What is to change in a collection."""

    name: str = Field(default="", max_length=8 * MAX_NAME_CHARS)
    description: Description = None
    ttl_s: float | int | str | None = None
    tags: MoreLabels | None = None
    add_tags: MoreLabels = []
    remove_tags: MoreLabels = []


class RelationBody(_Body):
    """What a run has to do with a version that is there."""

    relation: Literal["used", "logged"]
    artifact: Hex32
    use_as: str | None = None
    aliases: MoreLabels = []
    tags: MoreLabels = []


def draft_of(backend: Backend, body: CommitBody) -> Draft:
    """Return the draft that a body means.

    Raises:
        ArtifactRefusedError: A part of it may not be.
        ApiError: Its run is not known.
    """
    run = None if body.run is None else run_of(backend, body.run)
    if run is None and (body.entity is None or body.project is None):
        raise BadRequestError("say `run`, or `entity` and `project`", field="run")
    said_unix_s = backend.artifacts.clock.unix_s() if body.said_unix_s is None else body.said_unix_s
    return Draft(
        client_id=body.client_id,
        run_pk=None if run is None else run.run_pk,
        entity=clean_text(body.entity or "") if run is None else run.entity,
        project=clean_text(body.project or "") if run is None else run.project,
        name=with_name(lambda: check_name(body.name), "name"),
        type=clean_text(body.type),
        manifest=checked_digest(body.manifest, "manifest"),
        digest=checked_md5(body.digest, "digest"),
        writer_id=body.writer,
        said_unix_ns=int(said_unix_s * 1e9),
        distributed_id=None if body.distributed_id is None else clean_text(body.distributed_id),
        finalize=body.finalize,
        about=checked_about(
            description=body.description,
            metadata=body.metadata,
            aliases=body.aliases,
            tags=body.tags,
            ttl=body.ttl_s,
            links=[(link.target, link.aliases) for link in body.links],
            incremental=body.incremental,
        ),
    )


def run_of(backend: Backend, path: str) -> RunRow:
    """Return the run of "entity/project/run_id".

    Raises:
        NotFoundError: It is not known (yet).
    """
    parts = path.split("/")
    if len(parts) != 3 or "\0" in path:
        raise BadRequestError('a run is "entity/project/run_id"', field="run")
    names = [clean_text(part) for part in parts]
    # Of a deleted run too: its process is not told, and what it makes is no part of it.
    run = backend.store.find_run(*names) or backend.store.find_run(*names, deleted=True)
    if run is None or run.entity == NODE_ENTITY:
        raise NotFoundError(
            "run_not_found",
            f"no run {path}",
            field="run",
            hint="a run appears when its first record arrives: try again",
        )
    return run


def said_of(body: BaseModel, *names: str) -> dict[str, Any]:
    """Return those of these fields that the body has; null is a value too."""
    return {name: getattr(body, name) for name in names if name in body.model_fields_set}


def tag_labels(body: VersionChanges | CollectionChanges) -> Labels:
    """Return what is to become of the tags."""
    return Labels(body.tags, body.add_tags, body.remove_tags)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn errors of artifacts into answers."""
    try:
        yield
    except BlobsMissingError as error:
        raise _BlobsMissingAnswer(error) from error
    except ArtifactError as error:
        status = 422 if isinstance(error, ArtifactRefusedError) else error.status
        raise ApiError(
            status, error.code, str(error), field=error.field, hint=error.hint, limit=error.limit
        ) from error
    except (BlobError, OSError) as error:
        raise UnavailableError(f"not now: {error}", hint="ask again") from error


@contextlib.contextmanager
def known_cursor() -> Iterator[None]:
    """Answer a cursor that is none of this list."""
    try:
        yield
    except ValueError as error:
        raise BadRequestError(
            "not a cursor of this list", field="cursor", hint="start again without a cursor"
        ) from error


class _BlobsMissingAnswer(ApiError):  # noqa: N818 - an answer, made of an error
    """409 with the digests that are to be uploaded."""

    def __init__(self, error: BlobsMissingError) -> None:
        super().__init__(error.status, error.code, str(error), field=error.field, hint=error.hint)
        self._missing = error.missing
        self._count = error.count

    def body(self) -> bytes:
        found = json.loads(super().body())
        return json.dumps(found | {"missing": self._missing, "missing_count": self._count}).encode()
