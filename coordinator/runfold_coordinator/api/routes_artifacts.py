"""Routes of artifacts: commits, versions by any name, changes, links, what runs logged and used."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from runfold.protocol.artifact_names import MAX_NAME_CHARS as MAX_ARTIFACT_NAME_CHARS
from runfold_coordinator.api.artifact_bodies import (
    MAX_COMMIT_BYTES,
    CommitBody,
    FailureBody,
    LinkBody,
    RelationBody,
    VersionChanges,
    draft_of,
    known_cursor,
    run_of,
    said_of,
    tag_labels,
    told,
)
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, Cursor, TheRun, checked_name
from runfold_coordinator.artifacts.drafts import MAX_PLACE_CHARS
from runfold_coordinator.artifacts.editing import Labels

router = APIRouter(prefix="/api/v1", tags=["artifacts"], dependencies=[Depends(require_admission)])

#: For the gate: bodies that may be larger than others.
BODY_LIMITS = {"/api/v1/artifacts": MAX_COMMIT_BYTES, "/api/v1/artifacts/{}": MAX_COMMIT_BYTES}

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
PlaceName = Annotated[str, Query(min_length=1, max_length=MAX_PLACE_CHARS)]
Force = Annotated[bool, Query(description="with its aliases and links")]
PageItems = Annotated[int, Query(ge=1, le=1000)]
PageFiles = Annotated[int, Query(ge=1, le=10_000)]
#: Names of files in one question, and the longest name or prefix, in characters.
_MAX_NAMES = 1000
_FileName = Annotated[str, Query(max_length=1024)]


@router.post("/artifacts")
def commit(request: Request, backend: At, body: Annotated[CommitBody, Body()]) -> Response:
    """Make a draft whose blobs are here a version, or a part of one. May be repeated."""
    with told():
        done = backend.artifacts.committer.commit(draft_of(backend, body))
        document = backend.artifacts.reader.draft(done.client_id)
    made = done.made
    if made is not None:
        document |= {"ignored_aliases": made.ignored_aliases, "link_errors": made.link_errors}
    return answer(request, {"artifact": document, "is_new": made is not None and made.is_new})


@router.get("/artifacts/by-client/{client_id}")
def draft(request: Request, backend: At, client_id: Id) -> Response:
    """Tell what has become of a draft."""
    with told():
        return answer(request, {"artifact": backend.artifacts.reader.draft(client_id)})


@router.post("/artifacts/by-client/{client_id}/failed")
def give_up(request: Request, backend: At, client_id: Id, body: Annotated[FailureBody, Body()]) -> Response:
    """Take that the files of a draft will never come; parts of it that are waited for are no more."""
    with told():
        run = run_of(backend, body.run)
        backend.artifacts.committer.give_up(client_id, run, body.error)
        return answer(request, {"artifact": backend.artifacts.reader.draft(client_id)})


@router.get("/artifacts/find")
def find(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    entity: PlaceName,
    project: PlaceName,
    name: Annotated[str, Query(min_length=1, max_length=MAX_ARTIFACT_NAME_CHARS)],
    version: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
) -> Response:
    """Find a version by name: "v3", an alias or a digest of a collection, or a digest alone."""
    wanted = None if version is None else checked_name(version)
    with told():
        found = backend.artifacts.reader.find(
            checked_name(entity), checked_name(project), checked_name(name), wanted
        )
        return answer(request, {"artifact": found})


@router.get("/artifacts/{artifact_id}")
def version(request: Request, backend: At, artifact_id: Id) -> Response:
    """Tell a version, as the collection shows it that it was logged into."""
    with told():
        return answer(request, {"artifact": backend.artifacts.reader.version(artifact_id)})


@router.patch("/artifacts/{artifact_id}")
def edit_version(
    request: Request, backend: At, artifact_id: Id, body: Annotated[VersionChanges, Body()]
) -> Response:
    """Change what is named: description, metadata, ttl_s, tags, aliases in a collection."""
    changes = said_of(body, "description", "metadata", "ttl_s")
    with told():
        collection_pk = backend.artifacts.editor.edit_version(
            artifact_id,
            changes,
            tags=tag_labels(body),
            aliases=Labels(body.aliases, body.add_aliases, body.remove_aliases),
            collection_id=body.collection,
        )
        found = backend.artifacts.reader.version(artifact_id, collection_pk=collection_pk)
        return answer(request, {"artifact": found})


@router.delete("/artifacts/{artifact_id}")
def delete_version(request: Request, backend: At, artifact_id: Id, force: Force = False) -> Response:
    """Delete a version: hidden at once, its blobs go a day later."""
    with told():
        backend.artifacts.deleter.delete_version(artifact_id, force=force)
    return answer(request, {"deleted": True})


@router.get("/artifacts/{artifact_id}/files")
def files(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    artifact_id: Id,
    names: Annotated[list[_FileName] | None, Query(max_length=_MAX_NAMES)] = None,
    prefix: _FileName = "",
    limit: PageFiles = 100,
    cursor: Cursor = None,
) -> Response:
    """List files of a version by name. Their bytes are blobs; references are only told."""
    with told():
        page = backend.artifacts.reader.files(
            artifact_id, names=names, prefix=prefix, limit=limit, cursor=cursor
        )
    return answer(request, {"files": page.items, "next_cursor": page.next_cursor})


@router.get("/artifacts/{artifact_id}/used-by")
def used_by(
    request: Request, backend: At, artifact_id: Id, limit: PageItems = 100, cursor: Cursor = None
) -> Response:
    """List the runs that used a version, first use first."""
    with told(), known_cursor():
        page = backend.artifacts.reader.used_by(artifact_id, limit=limit, cursor=cursor)
    return answer(request, {"runs": page.items, "next_cursor": page.next_cursor})


@router.get("/artifacts/{artifact_id}/links")
def links(request: Request, backend: At, artifact_id: Id) -> Response:
    """List the version as each collection shows it that it is linked into."""
    with told():
        return answer(request, {"artifacts": backend.artifacts.reader.links(artifact_id)})


@router.post("/artifacts/{artifact_id}/links")
def link(request: Request, backend: At, artifact_id: Id, body: Annotated[LinkBody, Body()]) -> Response:
    """Link a version into a collection, which is made if there is none."""
    with told():
        collection_pk = backend.artifacts.editor.link(artifact_id, body.target, body.aliases)
        found = backend.artifacts.reader.version(artifact_id, collection_pk=collection_pk)
        return answer(request, {"artifact": found})


@router.delete("/artifacts/{artifact_id}/links/{collection_id}")
def unlink(request: Request, backend: At, artifact_id: Id, collection_id: Id) -> Response:
    """Take a link back, with the aliases that it has there."""
    with told():
        backend.artifacts.editor.unlink(artifact_id, collection_id)
    return answer(request, {"deleted": True})


@router.get("/runs/{entity}/{project}/{run_id}/artifacts")
def of_run(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    run: TheRun,
    relation: Literal["logged", "used"] = "logged",
    include_pending: bool = False,
    limit: PageItems = 100,
    cursor: Cursor = None,
) -> Response:
    """List what the run logged or used, oldest first; `pending` drafts were said and have not come."""
    with told(), known_cursor():
        page = backend.artifacts.reader.of_run(
            run.run_pk, relation, limit=limit, cursor=cursor, include_pending=include_pending
        )
    return answer(request, {"artifacts": page.items, "pending": page.total, "next_cursor": page.next_cursor})


@router.post("/runs/{entity}/{project}/{run_id}/artifacts")
def relate(request: Request, backend: At, run: TheRun, body: Annotated[RelationBody, Body()]) -> Response:
    """Note that the run used, or brought, a version that is there."""
    editor = backend.artifacts.editor
    with told():
        if body.relation == "used":
            editor.use(run.run_pk, body.artifact, body.use_as)
        else:
            editor.log(run.run_pk, body.artifact, body.aliases, body.tags)
        return answer(request, {"artifact": backend.artifacts.reader.version(body.artifact)})
