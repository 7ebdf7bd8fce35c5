"""Routes that change runs: fields, config, summary and state; deletion; runs and projects made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.documents import iso_time, run_document
from runfold_coordinator.api.edit_bodies import checked_id, decode_body, parse_change, parse_new_run
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import ApiError, BadRequestError, NotFoundError, OverLimitError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, Name, checked_name, the_run
from runfold_coordinator.api.routes_catalogue import OptionalName
from runfold_coordinator.api.routes_stop import who
from runfold_coordinator.edits.changes import (
    DeletedRunError,
    RunGoneError,
    TooMuchSaidError,
    TransitionError,
)
from runfold_coordinator.store.model import RunRow

router = APIRouter(prefix="/api/v1", tags=["edits"], dependencies=[Depends(require_admission)])

_PATH = "/runs/{entity}/{project}/{run_id}"


@router.patch(_PATH)
async def edit_run(request: Request, backend: At, entity: Name, project: Name, run_id: Name) -> Response:
    """Change a run; of each field and key what was said last counts, here or by its processes.

    Body: JSON, or msgpack for exact values, all fields optional: {"name" (or "display_name"), "notes",
    "tags", "add_tags", "remove_tags", "group", "job_type", "config": {"set": {key: value}, "delete": [key]},
    "summary": [["set", path, value], ["del", path]], "state": "pending" | "failed", "by"}. A path is a list
    of texts, or one text. Answers the run with its config and summary; repeating it changes nothing more.
    """
    body = decode_body(await request.body(), request.headers.get("content-type", ""))
    return await run_in_threadpool(_edit, request, backend, (entity, project, run_id), body)


@router.post("/runs")
async def create_run(request: Request, backend: At) -> Response:
    """Make a run that has no process yet; one that is there is only changed.

    Body: {"entity", "project", "run_id", "state": "running" | "pending"}, and what PATCH takes. Answers
    {"run", "is_new"}.
    """
    body = decode_body(await request.body(), request.headers.get("content-type", ""))
    return await run_in_threadpool(_create, request, backend, body)


@router.delete(_PATH)
def delete_run(  # noqa: PLR0917 - one parameter of the request each
    request: Request,
    backend: At,
    entity: Name,
    project: Name,
    run_id: Name,
    delete_artifacts: Annotated[bool, Query(description="also the artifacts that it logged")] = False,
    by: Annotated[str, Query(max_length=1024)] = "",
) -> Response:
    """Hide a run at once, and purge it later; its processes go on. One that was deleted stays so.

    Answers the run with "deleted_at", "deleted_by" and "purged_after".
    """
    names = [checked_name(part) for part in (entity, project, run_id)]
    found = backend.store.find_run(*names, deleted=True)
    if found is None:
        run = the_run(backend, *names)
        try:
            backend.deletion.delete(run, by=who(request, by))
        except RunGoneError as error:
            raise _not_found(*names) from error
        found = backend.store.find_run(*names, deleted=True)
    if delete_artifacts and found is not None:
        backend.deletion.delete_artifacts(found.run_pk)
    return answer(request, {} if found is None else _deleted_document(backend, found))


@router.post(_PATH + "/undelete")
def undelete_run(request: Request, backend: At, entity: Name, project: Name, run_id: Name) -> Response:
    """Show a deleted run again; one that was not deleted stays as it is. Answers the run."""
    names = [checked_name(part) for part in (entity, project, run_id)]
    found = backend.store.find_run(*names, deleted=True)
    if found is not None:
        try:
            backend.deletion.undelete(found)
        except RunGoneError as error:
            raise _not_found(*names) from error
    return answer(request, run_document(the_run(backend, *names)))


@router.get("/deleted-runs")
def deleted_runs(
    request: Request, backend: At, entity: OptionalName = None, project: OptionalName = None
) -> Response:
    """List the runs that were deleted and not purged yet, the newest deletion first."""
    names = (None if name is None else checked_name(name) for name in (entity, project))
    found = backend.store.deleted_runs(*names)
    return answer(request, {"runs": [_deleted_document(backend, run) for run in found]})


@router.post("/projects")
async def create_project(request: Request, backend: At) -> Response:
    """Make a project without runs; body {"entity", "name"}. One that is there stays as it is."""
    body = decode_body(await request.body(), request.headers.get("content-type", ""))
    unknown = next((name for name in body if name not in ("entity", "name")), None)
    if unknown is not None:
        raise BadRequestError(f"unknown field {unknown!r}", field=str(unknown)[:200])
    entity, name = (checked_id(part, body.get(part)) for part in ("entity", "name"))
    await run_in_threadpool(backend.edits.create_project, entity, name)
    return answer(request, {"entity": entity, "name": name})


def _edit(request: Request, backend: Backend, names: tuple[str, str, str], body: dict[str, Any]) -> Response:
    run = the_run(backend, *names)
    asked = parse_change(body)
    by = who(request, asked.by)
    if asked.state is not None and asked.state != run.state:
        _carry_out(run, lambda: backend.edits.set_state(run, asked.state or "", by=by))
    if len(body.keys() - {"state", "by"}):
        _carry_out(run, lambda: backend.edits.edit(run, asked.change, by=by))
    return answer(request, _document(backend, the_run(backend, *names)))


def _create(request: Request, backend: Backend, body: dict[str, Any]) -> Response:
    entity, project, run_id, state, asked = parse_new_run(body)
    by = who(request, asked.by)
    try:
        is_new = backend.edits.create(entity, project, run_id, state, asked.change, by)
    except TooMuchSaidError as error:
        raise _too_much(error) from error
    except DeletedRunError as error:
        raise ApiError(
            409,
            "run_deleted",
            str(error),
            field="run_id",
            hint=f"`runfold undelete {entity}/{project}/{run_id}` brings it back; or take another id",
        ) from error
    run = the_run(backend, entity, project, run_id)
    return answer(request, {"run": _document(backend, run), "is_new": is_new})


def _carry_out(run: RunRow, change: Callable[[], None]) -> None:
    try:
        change()
    except RunGoneError as error:
        raise _not_found(run.entity, run.project, run.run_id) from error
    except TooMuchSaidError as error:
        raise _too_much(error) from error
    except TransitionError as error:
        raise ApiError(409, "invalid_transition", str(error), field="state") from error


def _document(backend: Backend, run: RunRow) -> dict[str, Any]:
    return run_document(run) | {"config": run.config, "summary": backend.summaries.summary(run)}


def _deleted_document(backend: Backend, run: RunRow) -> dict[str, Any]:
    deleted_s = run.deleted_unix_s or 0.0
    return run_document(run) | {
        "deleted_at": iso_time(deleted_s),
        "deleted_by": run.deleted_by,
        "purged_after": iso_time(deleted_s + backend.deletion.keep_s),
    }


def _not_found(entity: str, project: str, run_id: str) -> ApiError:
    return NotFoundError("run_not_found", f"no run {entity}/{project}/{run_id}", field="run_id")


def _too_much(error: TooMuchSaidError) -> ApiError:
    return OverLimitError(str(error), field=error.field, limit=error.limit)
