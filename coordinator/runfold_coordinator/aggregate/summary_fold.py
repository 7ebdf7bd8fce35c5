"""Summaries folded from columns: whole windows of rows at once, with the bits of one row after the other.

In: rows by step, and the definitions and manual values that lie between them. Out: a `SummaryTree`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runfold.protocol.history.definitions import MetricDefinition, MetricDefinitions
from runfold.protocol.history.leaf import LeafBatch, SummaryLeaf
from runfold.protocol.history.summary import RUNTIME, STEP, TIMESTAMP, SummaryTree
from runfold.protocol.keypath import KeyPath, decode_path, encode_path
from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.column import Axis, Column, Floats, Ints
from runfold_coordinator.aggregate.merge import merge_columns
from runfold_coordinator.aggregate.rows import LaneRows, conflicts

#: Keys that no call can log: every row gets them by itself.
UNLOGGABLE = frozenset({"_step", "_runtime"})
TIMESTAMP_KEY = encode_path(TIMESTAMP)
EventApply = Callable[[SummaryTree, MetricDefinitions], None]
#: Values that one running sum takes at a time: its scratch array stays small.
SUM_BATCH = 65536


@dataclass(frozen=True, slots=True)
class Event:
    """Something said between rows. `apply` changes the tree and the definitions; `seq` orders it.

    `definition`: the METRIC payload where it is one. `is_end`: the writer said that it ends.
    """

    seq: int
    apply: EventApply
    definition: dict[str, Any] | None = None
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class Expansion:
    """A glob's definition given to a key at the row of this step."""

    step: int
    path: KeyPath
    definition: MetricDefinition


def observe_column(leaf: SummaryLeaf, column: Column) -> None:
    """Take a key's values in step order, as `leaf.observe` would take them one by one, bit for bit."""
    if not len(column):
        return
    if isinstance(column.values, list):
        for step, value in zip(column.step.tolist(), column.values, strict=True):
            leaf.observe(value, step)
        return
    first_step, last_step = int(column.step[0]), int(column.step[-1])
    first, last = column.values[0].item(), column.values[-1].item()
    if column.kind == "?":
        leaf.observe_batch(LeafBatch(first, last, first_step, last_step))
        return
    values: Floats = column.values.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        total = running_sum(leaf.total, values)
        low, high, nan_count = float(values.min()), float(values.max()), 0
        if np.isnan(low):
            known = values[~np.isnan(values)]
            nan_count = len(values) - len(known)
            low, high = (float(known.min()), float(known.max())) if len(known) else (low, high)
    has_known = nan_count < len(values)
    leaf.observe_batch(
        LeafBatch(
            first=first,
            last=last,
            first_step=first_step,
            last_step=last_step,
            low=low + 0.0 if has_known else None,  # no -0.0, as in single feeding
            high=high + 0.0 if has_known else None,
            count=len(values),
            nan_count=nan_count,
            total=total,
            has_float=column.kind == "d",
        )
    )


def running_sum(total: float, values: Floats) -> float:
    """Add values to a total from left to right; never pairwise, so that the bits are those of a loop."""
    for at in range(0, len(values), SUM_BATCH):
        part = np.empty(len(values[at : at + SUM_BATCH]) + 1)
        part[0], part[1:] = total, values[at : at + SUM_BATCH]
        total = float(np.add.accumulate(part)[-1])
    return total


class RowsFold:
    """The summary of rows that come in step order, with events between them. Not thread-safe."""

    def __init__(
        self,
        started_unix_ns: int,
        tree: SummaryTree | None = None,
        definitions: MetricDefinitions | None = None,
    ) -> None:
        self.tree = tree or SummaryTree()
        self.definitions = definitions or MetricDefinitions()
        self._started_unix_ns = started_unix_ns
        self._logged_steps: Mapping[str, Ints] = {}

    def take(
        self,
        rows: LaneRows,
        events: Sequence[tuple[int, Event]] = (),
        expansions: Sequence[Expansion] | None = None,
        logged_steps: Mapping[str, Ints] | None = None,
    ) -> None:
        """Take rows above all rows taken before.

        Args:
            events: With the number of these rows that come before each, ascending.
            logged_steps: For keys with inserted cells, the steps at which a call logged them: globs apply to
                what is logged, not to what is inserted.
            expansions: What globs gave to keys of these rows; None to find that out here, in this order.
        """
        self._logged_steps = logged_steps or {}
        at = 0
        for place, event in events:
            if place > at:
                self._take_between(rows, at, place, expansions)
                at = place
            event.apply(self.tree, self.definitions)
        if at < len(rows.step):
            self._take_between(rows, at, len(rows.step), expansions)

    def _take_between(
        self, rows: LaneRows, start: int, stop: int, expansions: Sequence[Expansion] | None
    ) -> None:
        step = rows.step[start:stop]
        low, high = int(step[0]), int(step[-1]) + 1
        columns = {}
        for key, column in rows.columns.items():
            cut = column.between(low, high)
            if len(cut) and key not in UNLOGGABLE:
                columns[key] = cut
        if conflicts(columns):
            self._take_one_by_one(step, rows.t_ns[start:stop].view(np.int64), columns, expansions)
            return
        for path, definition in self._expand(columns, low, high, expansions):
            self.tree.configure(path, definition)
        for key, column in columns.items():
            if key != TIMESTAMP_KEY:
                observe_column(self.tree.leaf(decode_path(key)), column)
        self._take_own(step, rows.t_ns[start:stop].view(np.int64), columns.get(TIMESTAMP_KEY))

    def _expand(
        self, keys: Iterable[str], low: int, high: int, given: Sequence[Expansion] | None
    ) -> list[tuple[KeyPath, MetricDefinition]]:
        """Return what globs give to keys that are logged at low <= step < high."""
        if given is not None:
            return [(e.path, e.definition) for e in given if low <= e.step < high]
        paths = (decode_path(key) for key in keys if self._is_logged(key, low, high))
        return [(path, found) for path in paths if (found := self.definitions.see(path)) is not None]

    def _is_logged(self, key: str, low: int, high: int) -> bool:
        steps = self._logged_steps.get(key)
        return steps is None or bool(np.searchsorted(steps, high) > np.searchsorted(steps, low))

    def _take_own(self, step: Axis, t_ns: Ints, said: Column | None) -> None:
        """Take what every row has by itself; a `_timestamp` that was logged comes before the row's own."""
        observe_column(self.tree.leaf(STEP), Column(step, "q", step))
        stamps = Column(step, "d", t_ns.astype(np.float64) / 1e9)
        observe_column(
            self.tree.leaf(TIMESTAMP), merge_columns([stamps, said]) if said is not None else stamps
        )
        runtime = (t_ns - np.int64(self._started_unix_ns)).astype(np.float64) / 1e9
        observe_column(self.tree.leaf(RUNTIME), Column(step, "d", runtime))
        self.tree.observe_runtime_shown(float(runtime[-1]))

    def _take_one_by_one(
        self,
        step: Axis,
        t_ns: Ints,
        columns: dict[str, Column],
        given: Sequence[Expansion] | None,
    ) -> None:
        """Take rows in which a key is a value here and a subtree there: the order of rows decides what
        stays.
        """
        cells: list[list[tuple[KeyPath, object]]] = [[] for _ in range(len(step))]
        for key, column in columns.items():
            path = decode_path(key)
            for place, value in zip(find(step, column.step)[0].tolist(), column.objects(), strict=True):
                cells[place].append((path, value))
        stamps = (t_ns.astype(np.float64) / 1e9).tolist()
        runtimes = ((t_ns - np.int64(self._started_unix_ns)).astype(np.float64) / 1e9).tolist()
        for place, at in enumerate(step.tolist()):
            keys = [encode_path(path) for path, _ in cells[place]]
            for path, definition in self._expand(keys, at, at + 1, given):
                self.tree.configure(path, definition)
            self.tree.observe_row(at, cells[place], timestamp=stamps[place], runtime=runtimes[place])
