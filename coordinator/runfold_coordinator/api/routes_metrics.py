"""`GET /metrics`: what Prometheus and its kind ask for, behind the gate like every route."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At

router = APIRouter(tags=["metrics"], dependencies=[Depends(require_admission)])


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, backend: At) -> Response:
    """Tell how the coordinator and the runs that go on stand, as OpenMetrics or as Prometheus' older text."""
    found = backend.metrics.page.answer(request.headers.get("accept", ""))
    return Response(
        found.body,
        headers={"Content-Type": found.content_type, "Cache-Control": "no-store", "Vary": "Accept"},
    )
