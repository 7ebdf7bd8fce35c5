"""Step metrics that rows get at ingest: a writer's calls and definitions in seq order through its RowFold.

Only writers that have defined a step metric or a glob come here. Runs of calls with one key set, one set of
flags and rising steps are folded at once; what is left goes call by call.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runfold.protocol.blocks import RowBlock
from runfold.protocol.history.rows import CommittedRow, RowFold
from runfold.protocol.keypath import decode_path
from runfold_coordinator.ingest.row_chunks import InsertedCells, MapRow, Rows, block_rows
from runfold_coordinator.store.model import Block


@dataclass(slots=True)
class _Piece:
    """Calls lo..hi of a block, contiguous in seq."""

    block: RowBlock
    rows: Rows
    columns: list[Any]
    lo: int
    hi: int


@dataclass(slots=True)
class Calls:
    """What one writer said in one batch, in any order; `insert_steps` puts it in seq order."""

    blocks: list[RowBlock] = field(default_factory=list)
    maps: list[MapRow] = field(default_factory=list)
    definitions: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    #: Seq of its exit record.
    end_seq: int | None = None

    @property
    def needs_fold(self) -> bool:
        """Whether rows may get step metrics: a glob may get one later, for keys that it has not met yet."""
        return any(said.get("step_metric") or said["name"].endswith("*") for _, said in self.definitions)


def insert_steps(fold: RowFold, calls: Calls) -> list[InsertedCells]:
    """Fold the calls and return the cells that they get in addition."""
    events: list[tuple[int, int, Any]] = [(seq, 0, said) for seq, said in calls.definitions]
    events += [(found.seq, 1, found) for found in calls.maps]
    events += [(int(piece.rows.seq[piece.lo]), 2, piece) for piece in _pieces(calls.blocks)]
    if calls.end_seq is not None:
        events.append((calls.end_seq, 3, None))
    inserted: list[InsertedCells] = []
    for seq, what, event in sorted(events, key=lambda found: found[:2]):
        if what == 0:
            fold.define(event)
        elif what == 1:
            done = fold.call(seq, event.row.step, event.flags, event.t_ns, event.row.values)
            _keep(inserted, done)
        elif what == 2:
            _fold_piece(fold, event, inserted)
        else:
            _keep(inserted, fold.finish(seq))
    return inserted


def prime(
    fold: RowFold, definitions: Sequence[dict[str, Any]], last_rows: Sequence[Block], step: int
) -> None:
    """Bring a new fold to where its writer stands: what it has defined, and its rows at its highest step."""
    for said in definitions:
        fold.define(said)
    calls = sorted(
        (int(block.seq[at]), block, int(at))
        for block in last_rows
        for at in np.flatnonzero(block.step == step)
    )
    for seq, block, at in calls:
        fold.call(seq, step, int(block.flags[at]), int(block.t_ns[at]), list(_cells_at(block, at)))


def _cells_at(block: Block, at: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, columns in block.columns.items():
        for column in columns:
            place = at
            if column.rows is not None:
                place = int(np.searchsorted(column.rows, at))
                if place == len(column.rows) or column.rows[place] != at:
                    continue
            value = column.values[place]
            yield decode_path(key), value.item() if hasattr(value, "item") else value


def _pieces(blocks: Sequence[RowBlock]) -> Iterator[_Piece]:
    """Cut blocks where another call lies between two of theirs, and where a bulk fold would not hold."""
    for block in blocks:
        rows = block_rows(block)
        columns: list[Any] = [
            np.frombuffer(column, dtype="<f8" if kind == "d" else "<i8")
            for kind, column in zip(block.kinds, block.columns, strict=True)
        ]
        breaks = (
            (rows.seq[1:] - rows.seq[:-1] != 1)
            | (rows.step[1:] <= rows.step[:-1])
            | (rows.flags[1:] != rows.flags[:-1])
        )
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), block.n]
        for lo, hi in itertools.pairwise(edges):
            yield _Piece(block, rows, columns, lo, hi)


def _fold_piece(fold: RowFold, piece: _Piece, inserted: list[InsertedCells]) -> None:
    block, rows = piece.block, piece.rows.cut(piece.lo, piece.hi)
    taken = fold.take_block(
        block.paths,
        block.kinds,
        [column[piece.lo : piece.hi] for column in piece.columns],
        rows.step,  # type: ignore[arg-type]  # reads single items only, as from a list
        flags=int(rows.flags[0]),
        increasing=True,
        first_seq=int(rows.seq[0]),
    )
    count = 0
    if taken is not None:
        count = taken.count
        if taken.before is not None:
            _keep(inserted, [taken.before])
        bulk = rows.cut(0, count)
        inserted += [
            InsertedCells(path, _in_range(value), bulk.seq, bulk.step, bulk.t_ns, bulk.flags)
            for path, value in taken.inserted
        ]
    for at in range(count, len(rows)):
        cells = [
            (path, bool(value) if kind == "?" else value)
            for path, kind, value in zip(
                block.paths,
                block.kinds,
                (column[piece.lo + at].item() for column in piece.columns),
                strict=True,
            )
        ]
        done = fold.call(
            int(rows.seq[at]), int(rows.step[at]), int(rows.flags[at]), int(rows.t_ns[at]), cells
        )
        _keep(inserted, done)


def inserted_cells(rows: Sequence[CommittedRow]) -> list[InsertedCells]:
    """Return the cells that committed rows got in addition."""
    inserted: list[InsertedCells] = []
    for row in rows:
        if not row.inserted:
            continue
        at = Rows(
            np.array([row.seq], dtype=np.uint64),
            np.array([row.step], dtype=np.int64),
            np.array([row.t_ns], dtype=np.uint64),
            np.zeros(1, dtype=np.uint8),
        )
        inserted += [
            InsertedCells(path, _in_range(row.cells[path]), at.seq, at.step, at.t_ns, at.flags)
            for path in row.inserted
        ]
    return inserted


def _keep(inserted: list[InsertedCells], rows: Sequence[CommittedRow]) -> None:
    inserted += inserted_cells(rows)


def _in_range(value: Any) -> int | float:
    """Return a number that a column can hold: an int outside 64 bits becomes a float."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value  # type: ignore[no-any-return]  # a step metric is a number
