"""Routes over the catalogue: projects, and runs by filter and order, a page at a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold_coordinator.api.documents import run_document
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.filters import parse_filter
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import (
    MAX_FILTER_CHARS,
    MAX_NAME_CHARS,
    At,
    Cursor,
    checked_name,
    parsed_filters,
)
from runfold_coordinator.api.run_listing import MAX_PAGE_RUNS, RunQuery, list_runs

router = APIRouter(prefix="/api/v1", tags=["catalogue"], dependencies=[Depends(require_admission)])

OptionalName = Annotated[str | None, Query(min_length=1, max_length=MAX_NAME_CHARS)]
Include = Annotated[list[Literal["config", "summary"]] | None, Query(max_length=2)]


@router.get("/projects")
def projects(request: Request, backend: At, entity: OptionalName = None) -> Response:
    """List the projects with their number of runs."""
    found = backend.store.list_projects(None if entity is None else checked_name(entity))
    return answer(
        request,
        {"projects": [{"entity": owner, "name": name, "run_count": count} for owner, name, count in found]},
    )


@router.get("/sweeps")
def sweeps(
    request: Request,
    backend: At,
    entity: Annotated[str, Query(min_length=1, max_length=MAX_NAME_CHARS)],
    project: Annotated[str, Query(min_length=1, max_length=MAX_NAME_CHARS)],
) -> Response:
    """List the sweeps that runs of a project belong to, newest first: entity, project, id, states."""
    found = backend.store.list_sweeps(checked_name(entity), checked_name(project))
    documents = [
        {"entity": entity, "project": project, "id": sweep, "states": states} for sweep, states in found
    ]
    return answer(request, {"sweeps": documents})


@router.get("/runs")
def runs(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    entity: OptionalName = None,
    project: OptionalName = None,
    filters: Annotated[str | None, Query(max_length=MAX_FILTER_CHARS)] = None,
    order: Annotated[str, Query(max_length=4200)] = "-created_at",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_RUNS)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    cursor: Cursor = None,
    include: Include = None,
) -> Response:
    """List runs. `filters` is JSON in MongoDB's words; `order` is + or - and a field; `cursor` goes on.

    Answers {"runs": [...], "total": all that match, "next_cursor": null on the last page}.
    """
    query = RunQuery(
        entity=None if entity is None else checked_name(entity),
        project=None if project is None else checked_name(project),
        filter=parse_filter(parsed_filters(filters)),
        order=order,
        limit=limit,
        offset=offset,
        cursor=cursor,
    )
    page = list_runs(backend.store, query, summary_of=backend.summaries.summary, mono_s=backend.mono_s)
    documents = []
    for run in page.runs:
        document: dict[str, Any] = run_document(run)
        if include and "config" in include:
            document["config"] = run.config
        if include and "summary" in include:
            document["summary"] = backend.summaries.summary(run)
        documents.append(document)
    return answer(request, {"runs": documents, "total": page.total, "next_cursor": page.next_cursor})
