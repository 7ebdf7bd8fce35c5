"""Cells of one key, in chunks as stored -> one column: unique steps in order, the newest value at each.

Within a writer the highest seq wins a step; within a lane (one rank over its attempts) the later attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.column import DTYPES, EMPTY, Axis, Column, Ints, Kind


class CellsLike(Protocol):
    """What the store yields for one key of one chunk; arrays of one length, in seq order."""

    @property
    def seq(self) -> NDArray[np.uint64]: ...
    @property
    def step(self) -> NDArray[np.int64]: ...
    @property
    def kind(self) -> Any: ...
    @property
    def values(self) -> Any: ...


def merge_cells(parts: Sequence[CellsLike]) -> Column:
    """Merge one writer's cells of one key.

    Args:
        parts: Chunks in any order; a step may come in several of them, and a (seq, step) cell twice.

    Returns:
        One column; at each step the value with the highest seq. Ints stay ints where all are.
    """
    parts = [part for part in parts if len(part.step)]
    if not parts:
        return EMPTY
    parts = sorted(parts, key=lambda part: int(part.seq[0]))
    step = parts[0].step if len(parts) == 1 else np.concatenate([part.step for part in parts])
    kind, values = _join([(part.kind, part.values) for part in parts])
    if is_increasing(step):
        return Column(step, kind, values)
    seq = np.concatenate([part.seq for part in parts])
    return Column(step, kind, values).take(newest_places(step, seq))


def merge_columns(columns: Sequence[Column]) -> Column:
    """Merge columns of one lane; at a step that several have, the later column in the list wins."""
    columns = [column for column in columns if len(column)]
    if not columns:
        return EMPTY
    if len(columns) == 1:
        return columns[0]
    step = np.concatenate([column.step for column in columns])
    kind, values = _join([(column.kind, column.values) for column in columns])
    joined = Column(step, kind, values)
    if is_increasing(step):
        return joined
    order = np.concatenate([np.full(len(column), i, np.uint64) for i, column in enumerate(columns)])
    return joined.take(newest_places(step, order))


def merge_axis(x: Axis, values: NDArray[Any]) -> tuple[Axis, NDArray[Any]]:
    """Sort points by `x`; where an x comes again, the later point wins. Points at a NaN x are left out."""
    if x.dtype.kind == "f":
        known = ~np.isnan(x)
        if not known.all():
            x, values = x[known], values[known]
    if is_increasing(x):
        return x, values
    kept = newest_places(x, np.arange(len(x), dtype=np.uint64))
    return x[kept], values[kept]


def is_increasing(step: Axis) -> bool:
    """True when every step is above the one before it."""
    return len(step) < 2 or bool((step[1:] > step[:-1]).all())


def newest_places(step: Axis, seq: NDArray[np.uint64]) -> Ints:
    """Return the place of the highest-seq point of each step, in step order."""
    order = np.argsort(step, kind="stable") if is_increasing(seq) else np.lexsort((seq, step))
    in_order = step[order]
    is_last = np.empty(len(step), np.bool_)
    is_last[-1:] = True
    np.not_equal(in_order[1:], in_order[:-1], out=is_last[:-1])
    newest: Ints = order[is_last]
    return newest


def _join(parts: Sequence[tuple[Any, Any]]) -> tuple[Kind, NDArray[Any] | list[Any]]:
    """Join values of one or several kinds; unequal kinds become a list, so that an int stays an int."""
    kinds = {kind for kind, _ in parts}
    if len(kinds) > 1 or "o" in kinds:
        joined: list[Any] = []
        for _, values in parts:
            joined.extend(values if isinstance(values, list) else values.tolist())
        return "o", joined
    kind: Kind = parts[0][0]
    arrays = [np.asarray(values, DTYPES[kind]) for _, values in parts]
    return kind, arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
