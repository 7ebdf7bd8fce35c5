"""Routes of one run: its document, writers, accounting, attempts, keys, definitions, history and series."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal, TypedDict

from fastapi import APIRouter, Depends, Query, Request, Response

from runfold.protocol.keypath import decode_path, display_name
from runfold_coordinator.api.documents import live_document, run_document, writer_document
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import (
    At,
    Attempt,
    Cursor,
    Keys,
    Label,
    MetricName,
    PageRows,
    Rank,
    Samples,
    Step,
    TheRun,
    checked_keys,
    page_rows,
)
from runfold_coordinator.api.routes_catalogue import Include
from runfold_coordinator.api.routes_files import counts_document
from runfold_coordinator.api.table_answers import answer_table, check_size
from runfold_coordinator.api.turns import large_read
from runfold_coordinator.readers.branches import history_keys
from runfold_coordinator.readers.history_columns import ColumnsPage
from runfold_coordinator.readers.metadata_reader import run_metadata
from runfold_coordinator.readers.node_reader import devices_of_writers

router = APIRouter(
    prefix="/api/v1/runs/{entity}/{project}/{run_id}",
    tags=["runs"],
    dependencies=[Depends(require_admission)],
)


class _Bounds(TypedDict):
    """What both forms of a scan take."""

    keys: list[str] | None
    min_step: int | None
    max_step: int | None
    limit: int
    cursor: str | None
    rank: int | None
    label: str | None
    attempt: int | None
    superseded: bool


#: Most samples of system metrics in one answer: a day of one node at the usual interval.
MAX_SYSTEM_SAMPLES = 10_000
#: Keys listed on one page.
_KEYS_PER_PAGE = 5000


@router.get("")
def run(request: Request, backend: At, run: TheRun, include: Include = None) -> Response:
    """Tell what is known of the run; `include=config` and `include=summary` bring these too."""
    document = run_document(run)
    if include and "config" in include:
        document["config"] = run.config
    if include and "summary" in include:
        document["summary"] = backend.summaries.summary(run)
    counts = backend.stored_files.counts(run.run_pk)
    document["files"] = counts_document(counts)
    return answer(request, document)


@router.get("/config")
def config(request: Request, run: TheRun) -> Response:
    """Tell the config, and where writers said different values for one key."""
    return answer(request, {"config": run.config, "conflicts": run.config_conflicts})


@router.get("/summary", dependencies=[Depends(large_read)])
def summary(request: Request, backend: At, run: TheRun) -> Response:
    """Tell the summary, folded over everything that is committed now."""
    return answer(request, {"summary": backend.summaries.summary(run)})


@router.get("/definitions")
def definitions(request: Request, run: TheRun) -> Response:
    """List what `define_metric` said, in the order in which it applies."""
    return answer(request, {"definitions": list(run.definitions)})


@router.get("/writers")
def writers(request: Request, backend: At, run: TheRun) -> Response:
    """List the processes that write the run."""
    attempts = backend.attempts.attempt_of_writers(run)
    found = backend.store.writers(run.run_pk)
    kept = backend.store.consoles(run.run_pk)
    gpus = devices_of_writers(backend.store, found)
    documents = [
        writer_document(
            each,
            attempts.get(each.writer_pk),
            backend.live.facts.of(each.writer_id),
            gpus=gpus.get(each.writer_id, ()),
            has_console=each.writer_id in kept,
        )
        for each in found
    ]
    return answer(request, {"writers": documents})


@router.get("/live")
def live(
    request: Request,
    backend: At,
    run: TheRun,
    every_attempt: Annotated[bool, Query(description="also the processes of earlier attempts")] = False,
) -> Response:
    """Tell how the job stands now: its state, a row a process of its newest attempt, its nodes."""
    return answer(request, live_document(backend.live.look(run, every_attempt=every_attempt)))


@router.get("/accounting")
def accounting(request: Request, backend: At, run: TheRun) -> Response:
    """Count the records: acknowledged = stored + declared_gaps + dead_letters + pending."""
    return answer(request, asdict(backend.store.accounting(run.run_pk)))


@router.get("/attempts")
def attempts(request: Request, backend: At, run: TheRun) -> Response:
    """List the generations of the job's processes."""
    return answer(request, {"attempts": backend.attempts.attempts(run)})


@router.get("/goodput")
def goodput(request: Request, backend: At, run: TheRun) -> Response:
    """Tell what the wall clock was spent on: steps that count, lost ones, restarts, startups, stalls."""
    return answer(request, backend.goodput.goodput(run))


@router.get("/system", dependencies=[Depends(large_read)])
def system(request: Request, backend: At, run: TheRun) -> Response:
    """Tell the newest value of each system metric: {"system": {"system.<name>": number}}."""
    return answer(request, {"system": backend.system.latest(run)})


@router.get("/metadata")
def metadata(request: Request, backend: At, run: TheRun) -> Response:
    """Tell what the run was started from and what it runs on: {"metadata"}, in W&B's words."""
    return answer(request, {"metadata": run_metadata(backend.store, run)})


@router.get("/keys")
def keys(request: Request, backend: At, run: TheRun, cursor: Cursor = None) -> Response:
    """List the metric keys with the kinds of their values: d float, q int, ? bool, o anything else.

    `key` tells a literal dot ("\\.") from nesting; `name` is what rows and columns say.
    """
    found = [
        (key, kinds)
        for key, kinds in history_keys(backend.store, run).items()
        if cursor is None or key > cursor
    ]
    page = found[:_KEYS_PER_PAGE]
    return answer(
        request,
        {
            "keys": [
                {"key": key, "name": display_name(decode_path(key)), "kinds": kinds} for key, kinds in page
            ],
            "next_cursor": page[-1][0] if len(found) > len(page) else None,
        },
    )


@router.get("/history", dependencies=[Depends(large_read)])
def history(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    run: TheRun,
    keys: Keys = None,
    min_step: Step = None,
    max_step: Step = None,
    per_writer: bool = False,
    limit: PageRows = 1000,
    cursor: Cursor = None,
    rank: Rank = None,
    label: Label = None,
    attempt: Attempt = None,
    superseded: bool = False,
    form: Annotated[Literal["rows", "columns"], Query(description="columns: reduced rows only")] = "rows",
) -> Response:
    """Give a page of rows with min_step <= step < max_step: reduced over writers, or as each writer logged.

    Answers {"rows": [...], "next_cursor": null on the last page}; with form=columns {"length", "columns":
    [{"path", "values", "rows"}], "next_cursor"}. A page may be shorter than `limit`, even empty, and not be
    the last.
    """
    if form == "columns" and per_writer:
        raise BadRequestError("rows of writers are given as rows only", field="form", hint="form=rows")
    bounds: _Bounds = {
        "keys": (wanted := checked_keys(keys)),
        "min_step": min_step,
        "max_step": max_step,
        "limit": page_rows(backend.store, run, wanted, limit),
        "cursor": cursor,
        "rank": rank,
        "label": label,
        "attempt": attempt,
        "superseded": superseded,
    }
    try:
        if form == "columns":
            return answer(request, _columns_document(backend.history_columns.scan(run, **bounds)))
        page = backend.history.scan(run, per_writer=per_writer, **bounds)
    except (ValueError, OverflowError) as error:
        hint = "start again without a cursor"
        raise BadRequestError(f"not a cursor of this scan: {error}", field="cursor", hint=hint) from error
    return answer(request, {"rows": page.rows, "next_cursor": page.next_cursor})


def _columns_document(page: ColumnsPage) -> dict[str, object]:
    columns = [{"path": column.path, "values": column.values, "rows": column.rows} for column in page.columns]
    return {"length": page.length, "columns": columns, "next_cursor": page.next_cursor}


@router.get("/series", dependencies=[Depends(large_read)])
def series(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    run: TheRun,
    keys: Keys = None,
    samples: Samples = 500,
    x_axis: MetricName = "_step",
    stats: bool = False,
    rank: Rank = None,
    label: Label = None,
    attempt: Attempt = None,
    stream: Annotated[Literal["default", "system"], Query()] = "default",
) -> Response:
    """Give sampled series as columns; the sampling keeps extremes. With keys only rows that have them all.

    Answers {"length", "columns": [{"name", "values", "rows"}]}; `rows` is null where every row has a value,
    else the indices of those that have. stream=system: samples of the run's nodes, by time; takes keys, rank
    and label too, and no more than 10,000 samples.
    """
    if stream == "system":
        # The columns are the nodes': their number is bounded by devices and writers, the rows by `samples`.
        chosen = checked_keys(keys)
        table = backend.system.read(
            run, samples=min(samples, MAX_SYSTEM_SAMPLES), keys=chosen, rank=rank, label=label
        )
        return answer_table(request, table)
    check_size(request, backend.store, [run], keys, samples, stats=stats)
    table = backend.series.read(
        run,
        keys=checked_keys(keys),
        samples=samples,
        x_axis=x_axis,
        stats=stats,
        rank=rank,
        label=label,
        attempt=attempt,
    )
    return answer_table(request, table)
