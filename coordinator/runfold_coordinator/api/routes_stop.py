"""Routes that ask a run's processes to end, and tell what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from runfold.protocol.streams import MAX_GRACE_S
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import ApiError, BadRequestError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, TheRun
from runfold_coordinator.stops import NoSuchRankError, NothingToStopError

router = APIRouter(
    prefix="/api/v1/runs/{entity}/{project}/{run_id}",
    tags=["runs"],
    dependencies=[Depends(require_admission)],
)

#: Most ranks named in one request.
MAX_RANKS = 100_000


class StopBody(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    #: Seconds from SIGTERM to SIGKILL.
    grace_s: float = Field(default=30.0, ge=0, le=MAX_GRACE_S, allow_inf_nan=False)
    #: Only processes of these ranks; null: the whole run.
    ranks: list[Annotated[int, Field(ge=0, lt=2**63)]] | None = Field(
        default=None, min_length=1, max_length=MAX_RANKS
    )
    #: Who asks, for people; what is too long is cut.
    by: str = ""


@router.post("/stop")
def stop(
    request: Request, backend: At, run: TheRun, asked: Annotated[StopBody | None, Body()] = None
) -> Response:
    """Ask the run's processes to end: SIGTERM now, SIGKILL after `grace_s`.

    Answers {"request", "by", "grace_s", "is_new", "writers": [{"writer", "rank", "label", "host"}]}. Asking
    again with a shorter grace shortens it; with a longer one it changes nothing (`is_new` false).
    """
    wanted = asked or StopBody()
    try:
        found = backend.stops.ask(run, grace_s=wanted.grace_s, by=who(request, wanted.by), ranks=wanted.ranks)
    except NoSuchRankError as error:
        raise BadRequestError(str(error), field="ranks") from error
    except NothingToStopError as error:
        raise ApiError(409, "run_ended", str(error), field="run_id") from error
    document = {
        "request": found.request.request,
        "by": found.request.by,
        "grace_s": found.request.grace_s,
        "is_new": found.is_new,
        "writers": [
            {"writer": each.writer_id, "rank": each.rank, "label": each.label, "host": each.host}
            for each in found.writers
        ],
    }
    return answer(request, document)


@router.get("/stop")
def stop_requests(request: Request, backend: At, run: TheRun) -> Response:
    """List what was asked of the run's processes, oldest first: by whom, what was sent, what was refused."""
    return answer(request, {"requests": backend.stop_requests.requests(run)})


def who(request: Request, said: str) -> str:
    """Return who asks: by their own word, and from which address, which is no word of theirs."""
    address = request.client.host if request.client is not None else "an unknown address"
    said = said.strip()
    return f"{said[:MAX_SAID_CHARS]} ({address})" if said else address


#: What is left of `by` beside the address.
MAX_SAID_CHARS = 150
