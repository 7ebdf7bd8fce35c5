"""Routes of alerts: of one run, or of all; newest first. They tell; only the server's alerts file decides."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, Cursor, TheRun, checked_name
from runfold_coordinator.api.routes_catalogue import OptionalName
from runfold_coordinator.readers.alerts_reader import AlertsPage

router = APIRouter(prefix="/api/v1", tags=["alerts"], dependencies=[Depends(require_admission)])

PageAlerts = Annotated[int, Query(ge=1, le=1000)]


@router.get("/runs/{entity}/{project}/{run_id}/alerts")
def run_alerts(
    request: Request, backend: At, run: TheRun, limit: PageAlerts = 100, cursor: Cursor = None
) -> Response:
    """List the run's alerts with what became of their deliveries, newest first."""
    page = backend.alerts.list_alerts(run_pk=run.run_pk, before=_before(cursor), limit=limit)
    return answer(request, _document(page))


@router.get("/alerts")
def alerts(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    entity: OptionalName = None,
    project: OptionalName = None,
    limit: PageAlerts = 100,
    cursor: Cursor = None,
) -> Response:
    """List the alerts of all runs, newest first."""
    page = backend.alerts.list_alerts(
        entity=None if entity is None else checked_name(entity),
        project=None if project is None else checked_name(project),
        before=_before(cursor),
        limit=limit,
    )
    return answer(request, _document(page))


def _document(page: AlertsPage) -> dict[str, object]:
    return {
        "alerts": page.alerts,
        "next_cursor": None if page.next_before is None else str(page.next_before),
    }


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise BadRequestError(
            "not a cursor of this list", field="cursor", hint="start again without a cursor"
        )
    return int(cursor)
