"""Route of what a run's processes printed."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At, Label, TheRun
from runfold_coordinator.api.turns import large_read
from runfold_coordinator.readers.console_reader import ConsoleFilter, ConsoleReader, TooManyWritersError

router = APIRouter(
    prefix="/api/v1/runs/{entity}/{project}/{run_id}",
    tags=["runs"],
    dependencies=[Depends(require_admission)],
)

#: Most lines in one page.
MAX_PAGE_LINES = 10_000
#: A cursor has a place for each writer.
MAX_CURSOR_CHARS = 40_000

Ranks = Annotated[
    list[Annotated[int, Field(ge=0)]] | None,
    Query(max_length=1000, description="repeat it for several ranks"),
]
Lines = Annotated[int, Query(ge=1, le=MAX_PAGE_LINES)]
Last = Annotated[int | None, Query(ge=1, le=MAX_PAGE_LINES, description="the newest so many lines")]
Place = Annotated[str | None, Query(max_length=MAX_CURSOR_CHARS)]
Writer = Annotated[str | None, Query(max_length=32, description="only of the process of this writer")]
Stream = Annotated[Literal["stdout", "stderr", "output", "logger"] | None, Query()]
Open = Annotated[bool, Query(description="with the last page also lines that are not complete")]


@router.get("/console", dependencies=[Depends(large_read)])
def console(  # noqa: PLR0917 - one parameter of the query each
    request: Request,
    backend: At,
    run: TheRun,
    rank: Ranks = None,
    label: Label = None,
    writer: Writer = None,
    stream: Stream = None,
    last: Last = None,
    limit: Lines = 1000,
    cursor: Place = None,
    open_lines: Open = True,
) -> Response:
    """Give lines of the run's processes, merged by time: the newest with `last`, else those after `cursor`.

    Answers {"lines": [{"number", "timestamp", "level", "label", "rank", "writer", "stream", "content"}],
    "next_cursor", "is_last"}. On the last page the cursor is good for lines that are still to come; with
    `last` too.
    """
    wanted = ConsoleFilter(None if rank is None else frozenset(rank), label, writer, stream)
    reader = ConsoleReader(backend.store)
    try:
        if last is not None:
            page = reader.last(run.run_pk, last, wanted)
        else:
            page = reader.page(run.run_pk, wanted, limit=limit, cursor=cursor, with_open=open_lines)
    except TooManyWritersError as error:
        raise BadRequestError(str(error), field="rank", hint="choose by rank, label or writer") from error
    except ValueError as error:
        hint = "start again without a cursor"
        raise BadRequestError(f"not a cursor of lines: {error}", field="cursor", hint=hint) from error
    return answer(
        request,
        {
            "lines": [line.to_document() for line in page.lines],
            "next_cursor": page.next_cursor,
            "is_last": page.is_last,
        },
    )
