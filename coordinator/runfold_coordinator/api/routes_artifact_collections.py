"""Routes of collections of artifacts, and of the types that a project has."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from runfold.protocol.artifact_names import MAX_ALIAS_CHARS, MAX_TYPE_CHARS
from runfold_coordinator.api.artifact_bodies import CollectionChanges, known_cursor, said_of, tag_labels, told
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, Cursor, checked_name, checked_pattern
from runfold_coordinator.api.routes_artifacts import Force, Id, PageItems, PlaceName

router = APIRouter(prefix="/api/v1/artifacts", tags=["artifacts"], dependencies=[Depends(require_admission)])

_ShortText = Annotated[str | None, Query(max_length=MAX_ALIAS_CHARS)]


@router.get("/types")
def types(request: Request, backend: At, entity: PlaceName, project: PlaceName) -> Response:
    """List the types of a project's collections."""
    found = backend.artifacts.collections.types(checked_name(entity), checked_name(project))
    return answer(request, {"types": found})


@router.get("/collections")
def collections(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    entity: PlaceName,
    project: PlaceName,
    type: Annotated[str | None, Query(max_length=MAX_TYPE_CHARS)] = None,  # noqa: A002 - its name
    name: _ShortText = None,
    pattern: Annotated[
        str | None, Query(max_length=256, description="as in SQL's LIKE; the case counts")
    ] = None,
    kind: Literal["logged", "linked"] | None = None,
    limit: PageItems = 100,
    cursor: Cursor = None,
) -> Response:
    """List collections by name."""
    texts = [None if text is None else checked_name(text) for text in (type, name, cursor)]
    page = backend.artifacts.collections.collections(
        checked_name(entity),
        checked_name(project),
        type_name=texts[0],
        name=texts[1],
        pattern=checked_pattern(pattern),
        kind=kind,
        limit=limit,
        cursor=texts[2],
    )
    return answer(request, {"collections": page.items, "next_cursor": page.next_cursor})


@router.get("/collections/{collection_id}")
def collection(request: Request, backend: At, collection_id: Id) -> Response:
    """Tell a collection."""
    with told():
        found = backend.artifacts.collections.collection(collection_id)
        return answer(request, {"collection": found})


@router.patch("/collections/{collection_id}")
def edit_collection(
    request: Request, backend: At, collection_id: Id, body: Annotated[CollectionChanges, Body()]
) -> Response:
    """Change what is named: name, description, tags, ttl_s."""
    changes = said_of(body, "name", "description", "ttl_s")
    with told():
        backend.artifacts.editor.edit_collection(collection_id, changes, tags=tag_labels(body))
        found = backend.artifacts.collections.collection(collection_id)
        return answer(request, {"collection": found})


@router.delete("/collections/{collection_id}")
def delete_collection(request: Request, backend: At, collection_id: Id, force: Force = False) -> Response:
    """Delete a collection with its versions; of one that versions are linked into, only the links."""
    with told():
        backend.artifacts.deleter.delete_collection(collection_id, force=force)
    return answer(request, {"deleted": True})


@router.get("/collections/{collection_id}/versions")
def versions(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    collection_id: Id,
    tags: Annotated[
        list[Annotated[str, Query(max_length=MAX_ALIAS_CHARS)]] | None,
        Query(max_length=20, description="all of them; repeat it for several"),
    ] = None,
    alias: _ShortText = None,
    digest: Annotated[str | None, Query(max_length=64)] = None,
    order: Literal["asc", "desc"] = "desc",
    limit: PageItems = 100,
    cursor: Cursor = None,
) -> Response:
    """List versions of a collection by number."""
    with told(), known_cursor():
        page = backend.artifacts.reader.versions(
            collection_id,
            tags=[checked_name(tag) for tag in tags or ()],
            alias=None if alias is None else checked_name(alias),
            digest=None if digest is None else checked_name(digest),
            is_descending=order == "desc",
            limit=limit,
            cursor=cursor,
        )
    return answer(request, {"artifacts": page.items, "total": page.total, "next_cursor": page.next_cursor})
