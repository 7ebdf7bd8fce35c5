"""Tables of columns as answers: refused before they are read where they would be too large, sent in pieces.

In: what a request asks for, then a Table. Out: a Response whose copy in memory is a few columns at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from runfold_coordinator.api.encoding import MSGPACK, accepts_msgpack, answer, pack
from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.readers.answers import Table
from runfold_coordinator.readers.branches import history_keys
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: Most cells (rows x columns) of one table: a million samples of eight keys beside their three x axes.
#: The reader holds up to ten times as much while it samples, 8 bytes a cell.
MAX_CELLS = 12_000_000
#: Most cells as JSON, where each is a Python object and some twenty bytes of text.
MAX_JSON_CELLS = 2_000_000
#: So many samples are never refused, however many keys a run has: it is what `history()` asks for unasked.
SMALL_SAMPLES = 1000
#: Columns a metric has with `stats`: its value and seven statistics.
_STATS_WIDTH = 8
#: Every table of all keys has these too: _step, _timestamp, _runtime.
_OWN_COLUMNS = 3
#: Tables from this size on are sent in pieces of about so many bytes.
_PIECE_BYTES = 4 * 1024 * 1024


def check_size(
    request: Request,
    store: Store,
    runs: Sequence[RunRow],
    keys: list[str] | None,
    samples: int,
    *,
    stats: bool,
) -> None:
    """Refuse a table that could have more cells than one answer holds.

    Args:
        runs: One run, or the runs of a group: the keys of the newest stand for those of all.

    Raises:
        BadRequestError: It could; `field` is samples, `limit` the most that would do.
    """
    most = MAX_CELLS if accepts_msgpack(request) else MAX_JSON_CELLS
    rows = min(samples, sum(run.row_count for run in runs))
    if rows <= SMALL_SAMPLES:
        return
    width = len(history_keys(store, runs[-1])) if keys is None else len(keys)
    columns = _OWN_COLUMNS + width * (_STATS_WIDTH if stats else 1)
    if rows * columns <= most:
        return
    hint = (
        "ask for fewer samples or name fewer keys; scan_history (/history) gives every row, a page at a time"
    )
    if most == MAX_JSON_CELLS:
        hint += f"; as msgpack (Accept: {MSGPACK}) six times as much can be had"
    raise BadRequestError(
        f"{rows} samples of {columns} columns are more than the {most} cells of one answer",
        field="samples",
        limit=most // columns,
        hint=hint,
    )


def answer_table(request: Request, table: Table) -> Response:
    """Return {"length", "columns": [{"name", "values", "rows"}]}; a large one is sent as it is packed."""
    if not accepts_msgpack(request) or table.length * len(table.columns) * 8 <= _PIECE_BYTES:
        columns = [_document(table, place) for place in range(len(table.columns))]
        return answer(request, {"length": table.length, "columns": columns})
    return StreamingResponse(_pieces(table), media_type=MSGPACK)


def _document(table: Table, place: int) -> dict[str, object]:
    column = table.columns[place]
    return {"name": column.name, "values": column.values, "rows": column.rows}


def _pieces(table: Table) -> Iterator[bytes]:
    # The map and the list that hold the columns are headers only, so that columns can follow one by one.
    count = len(table.columns)
    piece = (
        b"\x82" + pack("length") + pack(table.length) + pack("columns") + b"\xdd" + count.to_bytes(4, "big")
    )
    for place in range(count):
        piece += pack(_document(table, place))
        if len(piece) >= _PIECE_BYTES:
            yield piece
            piece = b""
    yield piece
