"""Routes over the nodes that agents work on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import MAX_NAME_CHARS, At, checked_name
from runfold_coordinator.api.turns import large_read

router = APIRouter(prefix="/api/v1", tags=["nodes"], dependencies=[Depends(require_admission)])

#: Nodes in one answer at most.
MAX_NODES = 1000


@router.get("/nodes", dependencies=[Depends(large_read)])
def nodes(
    request: Request,
    backend: At,
    limit: Annotated[int, Query(ge=1, le=MAX_NODES)] = 200,
    host: Annotated[str | None, Query(min_length=1, max_length=MAX_NAME_CHARS)] = None,
) -> Response:
    """List the nodes, last heard of first: inventory, newest sample, and the processes that run there.

    Answers {"nodes": [{"host", "boot_id", "agent", "started_at", "last_seen", "sampled_at" (unix s), "gpus",
    "facts", "metrics", "writers"}]}.
    """
    found = backend.nodes.nodes(limit=limit, host=None if host is None else checked_name(host))
    return answer(request, {"nodes": found})
