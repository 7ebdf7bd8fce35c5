"""What a committed batch tells the verdicts: progress, timings, values that must be equal.

In: one writer's part of a batch, as ingest stored it. Out: `Seen`, small copies of a few columns.
Called once a writer and batch, so that its cost is that of some lookups where nothing is of interest.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from runfold.protocol.blocks import RowBlock
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import ExitRecord, MetricRecord
from runfold_coordinator.ingest.row_chunks import MapRow, Schema
from runfold_coordinator.store.model import F64, I64, U64
from runfold_coordinator.verdicts.desync import Expectations
from runfold_coordinator.verdicts.timings import PREFIX

#: Newest rows of a batch that progress and timings look at.
TAIL = 128
#: Map rows of a batch that are searched for timings: they are not in columns.
TAIL_MAPS = 16

Values = npt.NDArray[Any] | list[Any]


@dataclass(slots=True)
class Equal:
    """Values of one metric that must be equal on all ranks."""

    path: KeyPath
    steps: I64
    values: Values


@dataclass(slots=True)
class Seen:
    """Steps and times of the newest rows, in the order they were said; at most TAIL of them."""

    steps: I64
    t_ns: U64
    timings: list[tuple[I64, dict[str, F64]]] = field(default_factory=list)
    equal: list[Equal] = field(default_factory=list)


def rows_of(blocks: Sequence[RowBlock], maps: Sequence[MapRow], expected: Expectations) -> Seen | None:
    """Return what the rows of a batch tell; None when it has none."""
    parts: list[tuple[RowBlock | Sequence[MapRow], I64, U64]] = []
    timings: list[tuple[I64, dict[str, F64]]] = []
    equal: list[Equal] = []
    for block in blocks:
        steps = np.frombuffer(block.steps, "<i8")
        parts.append((block, steps[-TAIL:], np.frombuffer(block.t_ns, "<u8")[-TAIL:]))
        timers = timer_columns((block.paths, block.kinds))
        if timers:
            columns = {name: _numbers(block, at)[-TAIL:].astype(np.float64) for name, at in timers}
            timings.append((steps[-TAIL:], columns))
        if expected:
            for at, path in enumerate(block.paths):
                if expected.of(path) is not None:
                    values = _numbers(block, at).copy()
                    equal.append(Equal(path, steps.copy(), values))
    if maps:
        newest = maps[-TAIL:]
        parts.append(
            (
                newest,
                np.array([found.row.step for found in newest], np.int64),
                np.array([found.t_ns for found in newest], np.uint64),
            )
        )
        timings += _timings_of_maps(maps[-TAIL_MAPS:])
        if expected:
            equal += _equal_of_maps(maps, expected)
    if not parts:
        return None
    if len(parts) == 1:
        return Seen(parts[0][1], parts[0][2], timings, equal)
    seq = np.concatenate([_seqs(whose)[-TAIL:] for whose, _, _ in parts])
    order = np.argsort(seq, kind="stable")[-TAIL:]
    steps, t_ns = np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
    return Seen(steps[order], t_ns[order], timings, equal)


def _seqs(rows: RowBlock | Sequence[MapRow]) -> list[int]:
    return rows.seq_list() if isinstance(rows, RowBlock) else [found.seq for found in rows]


def said(payloads: Sequence[tuple[int, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Return the METRIC payloads that speak of equality, and whether there is an EXIT."""
    metrics = [
        payload.to_map()
        for _, payload in payloads
        if isinstance(payload, MetricRecord) and (payload.expect is not None or payload.overwrite)
    ]
    return metrics, any(isinstance(payload, ExitRecord) for _, payload in payloads)


@functools.lru_cache(maxsize=4096)
def timer_columns(schema: Schema) -> tuple[tuple[str, int], ...]:
    """Return (timer, place among the columns) of a key set."""
    paths, kinds = schema
    return tuple(
        (path[0].removeprefix(PREFIX), at)
        for at, (path, kind) in enumerate(zip(paths, kinds, strict=True))
        if len(path) == 1 and path[0].startswith(PREFIX) and kind in "dq"
    )


def _numbers(block: RowBlock, at: int) -> npt.NDArray[Any]:
    kind = block.kinds[at]
    values: npt.NDArray[Any] = np.frombuffer(block.columns[at], "<f8" if kind == "d" else "<i8")
    return values != 0 if kind == "?" else values


def _timings_of_maps(maps: Sequence[MapRow]) -> list[tuple[I64, dict[str, F64]]]:
    found = []
    for row in maps:
        timers = {
            path[0].removeprefix(PREFIX): np.array([float(value)])
            for path, value in row.row.values
            if len(path) == 1 and path[0].startswith(PREFIX) and isinstance(value, int | float)
        }
        if timers:
            found.append((np.array([row.row.step], np.int64), timers))
    return found


def _equal_of_maps(maps: Sequence[MapRow], expected: Expectations) -> list[Equal]:
    by_path: dict[KeyPath, tuple[list[int], list[Any]]] = {}
    for row in maps:
        for path, value in row.row.values:
            if expected.of(path) is not None:
                steps, values = by_path.setdefault(path, ([], []))
                steps.append(row.row.step)
                values.append(value)
    return [Equal(path, np.array(steps, np.int64), values) for path, (steps, values) in by_path.items()]
