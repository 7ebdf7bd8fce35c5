"""Many chunks of one writer and key set to one: the same rows, ascending in seq, with fewer pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runfold_coordinator.store.chunks import Chunk, ChunkColumn
from runfold_coordinator.store.model import I64, U8, U64, Column, ColumnKind

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class MergedRows:
    """Rows ready to be encoded."""

    seq: U64
    step: I64
    t_ns: U64
    flags: U8
    columns: list[ChunkColumn]


def merge_chunks(chunks: Sequence[Chunk]) -> MergedRows:
    """Return the rows of all chunks together; at least one chunk."""
    seq = np.concatenate([chunk.seq for chunk in chunks])
    step = np.concatenate([chunk.step for chunk in chunks])
    t_ns = np.concatenate([chunk.t_ns for chunk in chunks])
    flags = np.concatenate([chunk.flags for chunk in chunks])
    gathered: dict[tuple[int, ColumnKind], list[tuple[int, int, Column]]] = {}
    offset = 0
    for chunk in chunks:
        for key_pk in chunk.key_pks:
            for column in chunk.columns(key_pk):
                gathered.setdefault((key_pk, column.kind), []).append((offset, chunk.n, column))
        offset += chunk.n
    place = None
    if not (seq[1:] > seq[:-1]).all():
        order = np.argsort(seq, kind="stable")
        seq, step, t_ns, flags = seq[order], step[order], t_ns[order], flags[order]
        place = np.empty(len(seq), dtype=np.uint32)
        place[order] = np.arange(len(seq), dtype=np.uint32)
    columns = [_join(key_pk, kind, parts, len(seq), place) for (key_pk, kind), parts in gathered.items()]
    return MergedRows(seq, step, t_ns, flags, columns)


def _join(
    key_pk: int,
    kind: ColumnKind,
    parts: Sequence[tuple[int, int, Column]],
    n: int,
    place: npt.NDArray[np.uint32] | None,
) -> ChunkColumn:
    """Join one key's pieces.

    Args:
        parts: (offset of the piece's first row, its rows, its column).
        place: Where each row has gone, when they had to be sorted.
    """
    values: Array | list[Any]
    if kind == "o":
        values = [value for _, _, column in parts for value in column.values]
    else:
        values = np.concatenate([np.asarray(column.values) for _, _, column in parts])
    if len(values) == n and place is None:
        return ChunkColumn(key_pk, kind, values)
    at = np.concatenate(
        [
            np.arange(offset, offset + count, dtype=np.uint32)
            if column.rows is None
            else column.rows + np.uint32(offset)
            for offset, count, column in parts
        ]
    )
    if place is not None:
        at = place[at]
        order = np.argsort(at, kind="stable")
        at = at[order]
        values = [values[i] for i in order] if isinstance(values, list) else values[order]
    return ChunkColumn(key_pk, kind, values, None if len(values) == n else at)
