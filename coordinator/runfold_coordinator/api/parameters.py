"""Parameters that several routes share, and the lookups behind them. In: a request; out: runs, keys."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.errors import BadRequestError, NotFoundError
from runfold_coordinator.readers.branches import history_keys
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: Longest name of an entity, project, run or group, in characters.
MAX_NAME_CHARS = 1024
#: Most keys in one request for history or series.
MAX_KEYS = 500
#: Most rows in one page of history.
MAX_PAGE_ROWS = 10_000
#: Cells (rows x keys) that bound a page of more rows than SMALL_PAGE_ROWS.
MAX_PAGE_CELLS = 1_000_000
SMALL_PAGE_ROWS = 1000
#: Most points asked for per series.
MAX_SAMPLES = 1_000_000
#: Largest step: 64-bit signed.
_MAX_STEP = 2**63 - 1
#: Longest text of filters in a query, in characters.
MAX_FILTER_CHARS = 60_000
_MAX_CURSOR_CHARS = 8192

Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME_CHARS)]
GroupName = Annotated[str, Query(alias="name", min_length=1, max_length=MAX_NAME_CHARS)]
Keys = Annotated[list[str] | None, Query(max_length=MAX_KEYS, description="repeat it for several keys")]
Cursor = Annotated[str | None, Query(max_length=_MAX_CURSOR_CHARS)]
PageRows = Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)]
Samples = Annotated[int, Query(ge=1, le=MAX_SAMPLES)]
Step = Annotated[int | None, Query(ge=-_MAX_STEP, le=_MAX_STEP)]
Rank = Annotated[int | None, Query(ge=0, le=_MAX_STEP, description="only writers of this rank")]
Label = Annotated[str | None, Query(max_length=MAX_NAME_CHARS, description="only writers of this label")]
Attempt = Annotated[int | None, Query(ge=0, le=_MAX_STEP, description="only writers of this attempt")]
MetricName = Annotated[str, Query(min_length=1, max_length=4096)]


def backend_of(request: Request) -> Backend:
    """Return what the app was created with."""
    backend: Backend = request.app.state.backend
    return backend


At = Annotated[Backend, Depends(backend_of)]


def the_run(backend: At, entity: Name, project: Name, run_id: Name) -> RunRow:
    """Return the run of the path.

    Raises:
        NotFoundError: There is none.
    """
    run = backend.store.find_run(*(checked_name(part) for part in (entity, project, run_id)))
    # What agents keep of their nodes is nobody's run: GET /nodes and stream=system show it.
    if run is None or run.entity == NODE_ENTITY:
        path = f"{entity}/{project}/{run_id}"
        hint = "`runfold runs` lists what there is; a run appears when its first record arrives"
        if backend.store.find_run(entity, project, run_id, deleted=True) is not None:
            hint = f"it was deleted; `runfold undelete {path}` brings it back"
        raise NotFoundError("run_not_found", f"no run {path}", field="run_id", hint=hint)
    return run


def the_group(backend: At, entity: Name, project: Name, name: GroupName) -> list[RunRow]:
    """Return the runs of the group, oldest first.

    Raises:
        NotFoundError: No run belongs to it.
    """
    runs = backend.store.list_group(*(checked_name(part) for part in (entity, project, name)))
    if not runs:
        raise NotFoundError("group_not_found", f"no run in group {entity}/{project}/{name}", field="name")
    return runs


TheRun = Annotated[RunRow, Depends(the_run)]
TheGroup = Annotated[list[RunRow], Depends(the_group)]


def checked_name(name: str) -> str:
    """Return `name` if a database can hold it.

    Raises:
        BadRequestError: It has a NUL or a lone surrogate.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = "\0"
    if "\0" in name:
        raise BadRequestError("a name holds characters that no name has", field="path")
    return name


def checked_pattern(pattern: str | None) -> str | None:
    """Return a pattern of names, as in SQL's LIKE, if a database takes it.

    Raises:
        BadRequestError: It does not.
    """
    if pattern is None:
        return None
    if re.search(r"(?<!\\)(\\\\)*\\$", pattern):
        raise BadRequestError("a pattern does not end with its escape character", field="pattern")
    return checked_name(pattern)


def checked_keys(keys: list[str] | None) -> list[str] | None:
    """Return the keys without repeats; None (all keys) stays None.

    Raises:
        BadRequestError: A key is longer than any stored one can be.
    """
    if keys is None:
        return None
    if any(len(key) > 4096 for key in keys):
        raise BadRequestError("a key is too long", field="keys", limit=4096)
    return list(dict.fromkeys(keys))


def page_rows(store: Store, run: RunRow, keys: list[str] | None, limit: int) -> int:
    """Return how many rows a page may have: pages of wide runs are short."""
    if limit <= SMALL_PAGE_ROWS:
        return limit
    width = len(history_keys(store, run)) if keys is None else len(keys)
    return min(limit, max(SMALL_PAGE_ROWS, MAX_PAGE_CELLS // max(1, width)))


def parsed_filters(text: str | None) -> Any:
    """Return the JSON of a filter parameter.

    Raises:
        BadRequestError: It is no JSON.
    """
    if not text:
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"filters is no JSON: {error}", field="filters") from error
