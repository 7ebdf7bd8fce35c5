"""Routes of groups: their state, and statistics over their runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold_coordinator.api.documents import group_document
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import (
    At,
    GroupName,
    Keys,
    MetricName,
    Name,
    Samples,
    TheGroup,
    checked_keys,
)
from runfold_coordinator.api.table_answers import answer_table, check_size
from runfold_coordinator.api.turns import large_read
from runfold_coordinator.readers.group_failure import find_group_failure

router = APIRouter(
    prefix="/api/v1/groups/{entity}/{project}", tags=["groups"], dependencies=[Depends(require_admission)]
)


@router.get("")
def group(  # noqa: PLR0917 - one parameter of the path or the query each
    request: Request, backend: At, entity: Name, project: Name, name: GroupName, runs: TheGroup
) -> Response:
    """Tell how many runs the group has and how they stand. List them by /runs with a filter on group."""
    failure = find_group_failure(backend.store, runs)
    return answer(request, group_document(entity, project, name, runs, failure))


@router.get("/history", dependencies=[Depends(large_read)])
def group_history(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    runs: TheGroup,
    keys: Keys = None,
    samples: Samples = 500,
    x_axis: MetricName = "_step",
    stats: bool = False,
) -> Response:
    """Give the mean over the runs of each metric on a common x axis, with `stats` the spread beside it."""
    check_size(request, backend.store, runs, keys, samples, stats=stats)
    table = backend.groups.history(runs, keys=checked_keys(keys), samples=samples, x_axis=x_axis, stats=stats)
    return answer_table(request, table)


@router.get("/summary", dependencies=[Depends(large_read)])
def group_summary(request: Request, backend: At, runs: TheGroup) -> Response:
    """Give one row a run: run_id, name, fold, state and the leaves of its summary."""
    return answer(request, {"rows": backend.groups.summary(runs)})


@router.get("/table", dependencies=[Depends(large_read)])
def group_table(
    request: Request,
    backend: At,
    runs: TheGroup,
    by: Annotated[list[str] | None, Query(max_length=50)] = None,
) -> Response:
    """Give mean, std, min, max, median, n and a 95 % interval per summary key, over folds or seeds.

    `by` names config keys to group by; with a minus ("-seed"), every config key but those.
    """
    return answer(request, {"rows": backend.groups.table(runs, by)})
