"""The route that a process asks before it goes on with a run, or forks one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import MAX_NAME_CHARS, At, Name, Rank, checked_name
from runfold_coordinator.readers.resume_reader import Asker, ResumeReader

router = APIRouter(
    prefix="/api/v1/runs/{entity}/{project}/{run_id}",
    tags=["runs"],
    dependencies=[Depends(require_admission)],
)

_Text = Annotated[str | None, Query(max_length=MAX_NAME_CHARS)]
_Number = Annotated[int | None, Query(ge=-(2**63) + 1, le=2**63 - 1)]
_Start = Annotated[float | None, Query(allow_inf_nan=False)]


@router.get("/resume")
def resume(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    entity: Name,
    project: Name,
    run_id: Name,
    kind: Annotated[Literal["resume", "rewind", "fork", "begin"], Query()] = "resume",
    step: Annotated[int | None, Query(ge=-1, le=2**62, description="last step to be kept")] = None,
    summary: bool = True,
    mode: Annotated[Literal["grouped", "shared"], Query()] = "grouped",
    rank: Rank = None,
    label: _Text = None,
    job_id: _Text = None,
    restart_hint: _Number = None,
    launcher: _Text = None,
    launcher_pid: _Number = None,
    launcher_start: _Start = None,
    host: _Text = None,
    boot_id: _Text = None,
) -> Response:
    """Tell how far a run is, to a process that is about to go on with it.

    Who asks says what its identity will say (mode to boot_id), so that ranks of one job get one answer. A run
    that nobody knows is `{"exists": false, "joined": false}` and no error, with `"deleted": true` where it
    was deleted and is kept. "begin" asks for no more than these.
    """
    path = [checked_name(part) for part in (entity, project, run_id)]
    run = None if entity == NODE_ENTITY else backend.store.find_run(*path)
    if run is None or kind == "begin":
        found = {"exists": run is not None, "joined": False}
        if run is None and entity != NODE_ENTITY and backend.store.find_run(*path, deleted=True) is not None:
            found["deleted"] = True
        return answer(request, found)
    asker = Asker(
        mode=mode,
        rank=rank,
        label=label,
        job_id=job_id,
        restart_hint=restart_hint,
        launcher=launcher,
        launcher_pid=launcher_pid,
        launcher_start=launcher_start,
        host=host,
        boot_id=boot_id,
    )
    reader: ResumeReader = request.app.state.resumes
    known = reader.read(run, None if kind == "fork" else asker, step=step, with_summary=summary)
    return answer(request, known)
