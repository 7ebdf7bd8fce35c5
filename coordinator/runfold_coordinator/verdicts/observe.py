"""What a committed batch tells the verdicts: progress, timings, values that must be equal.

In: one writer's part of a batch, as ingest stored it. Out: a few numbers, and references to columns.
Called once a writer and batch, for a thousand writers a second: nothing is decoded here that can wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from runfold.protocol.blocks import RowBlock
from runfold.protocol.identity import Identity
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import ExitRecord, MetricRecord
from runfold_coordinator.ingest.row_chunks import MapRow
from runfold_coordinator.store.model import I64
from runfold_coordinator.verdicts.desync import Expectations
from runfold_coordinator.verdicts.timings import MAX_NAMES, PREFIX, STEP, Names, Piece

#: Newest rows of a batch from which the pace is learnt: every batch brings some.
TAIL = 6
#: Map rows of a batch that are searched for timings: they are not in columns.
TAIL_MAPS = 16
#: An int that a float may not hold.
_HUGE = 2**63
#: Key sets whose timers are remembered.
MAX_SCHEMAS = 1024
_WORDS = [Struct(f"<{count}q") for count in range(TAIL + 1)]

Values = npt.NDArray[Any] | list[Any]


@dataclass(slots=True)
class Equal:
    """Values of one metric that must be equal on all ranks."""

    path: KeyPath
    steps: I64
    values: Values


@dataclass(slots=True)
class Words:
    """What records beside rows say: METRIC payloads that speak of equality, whether there is an EXIT, who."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    has_exit: bool = False
    identity: Identity | None = None


def newest_rows(blocks: Sequence[RowBlock], maps: Sequence[MapRow]) -> tuple[Sequence[int], Sequence[int]]:
    """Return steps and times (ns, unix) of the newest rows, in the order they were said; at most TAIL."""
    if len(blocks) == 1 and not maps:
        (block,) = blocks
        count = min(block.n, TAIL)
        at = 8 * (block.n - count)
        return _WORDS[count].unpack_from(block.steps, at), _WORDS[count].unpack_from(block.t_ns, at)
    newest = [row for block in blocks for row in _tail(block)]
    newest += [(found.seq, found.row.step, found.t_ns) for found in maps[-TAIL:]]
    _, steps, t_ns = zip(*sorted(newest)[-TAIL:], strict=True)
    return steps, t_ns


def timings_of(blocks: Sequence[RowBlock], maps: Sequence[MapRow]) -> list[Piece]:
    """Return what the rows say of timers."""
    found = []
    for block in blocks:
        names, places = timer_columns(block.paths, block.kinds)
        if names:
            columns = [block.columns[at] for at in places]
            found.append(Piece.of(block.n, names, block.steps, columns))
    return found + _timings_of_maps(maps[-TAIL_MAPS:]) if maps else found


def equal_of(blocks: Sequence[RowBlock], maps: Sequence[MapRow], expected: Expectations) -> list[Equal]:
    """Return the values that must be equal on all ranks."""
    found = []
    for block in blocks:
        for path, at in expected.columns((block.paths, block.kinds)):
            steps = np.frombuffer(block.steps, "<i8").copy()
            found.append(Equal(path, steps, _numbers(block, at).copy()))
    return found + _equal_of_maps(maps, expected)


def _tail(block: RowBlock) -> list[tuple[int, int, int]]:
    """Return (seq, step, t_ns) of the newest rows."""
    count = min(block.n, TAIL)
    at = 8 * (block.n - count)
    if isinstance(block.seqs, int):
        seqs: Sequence[int] = range(block.seqs + block.n - count, block.seqs + block.n)
    else:
        seqs = _WORDS[count].unpack_from(block.seqs, at)
    words = _WORDS[count]
    return list(zip(seqs, words.unpack_from(block.steps, at), words.unpack_from(block.t_ns, at), strict=True))


def words_of(payloads: Sequence[tuple[int, Any]]) -> Words:
    """Return what the records of a batch say."""
    words = Words()
    for _, payload in payloads:
        if isinstance(payload, MetricRecord):
            if payload.expect is not None or payload.overwrite:
                words.metrics.append(payload.to_map())
        elif isinstance(payload, ExitRecord):
            words.has_exit = True
        elif isinstance(payload, Identity):
            words.identity = payload
    return words


class _TimerColumns:
    """The timers of key sets, and their places among the columns.

    The decoder gives one tuple for all frames with the same keys, which is known by its identity: to hash a
    hundred keys takes longer than all else that is done with a frame here.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[KeyPath, ...], str, Names, tuple[int, ...]]] = {}

    def __call__(self, paths: tuple[KeyPath, ...], kinds: str) -> tuple[Names, tuple[int, ...]]:
        known = self._known.get(id(paths))
        if known is None or known[0] is not paths or known[1] != kinds:
            found = [
                ((path[0].removeprefix(PREFIX), kind), at)
                for at, (path, kind) in enumerate(zip(paths, kinds, strict=True))
                if len(path) == 1 and path[0].startswith(PREFIX) and kind in "dq"
            ][:MAX_NAMES]
            if STEP not in [name for (name, _), _ in found]:
                found = []  # such rows begin no step
            if len(self._known) >= MAX_SCHEMAS:
                self._known.clear()
            names, places = tuple(name for name, _ in found), tuple(at for _, at in found)
            known = self._known[id(paths)] = (paths, kinds, names, places)
        return known[2], known[3]


timer_columns = _TimerColumns()


def _numbers(block: RowBlock, at: int) -> npt.NDArray[Any]:
    kind = block.kinds[at]
    values: npt.NDArray[Any] = np.frombuffer(block.columns[at], "<f8" if kind == "d" else "<i8")
    return values != 0 if kind == "?" else values


def _timings_of_maps(maps: Sequence[MapRow]) -> list[Piece]:
    found = []
    for row in maps:
        timers = {
            path[0].removeprefix(PREFIX): np.array([float(value)])
            for path, value in row.row.values
            if len(path) == 1
            and path[0].startswith(PREFIX)
            and (isinstance(value, float) or (isinstance(value, int) and abs(value) < _HUGE))
        }
        if STEP in timers:
            found.append(Piece.from_arrays(np.array([row.row.step], np.int64), timers))
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
