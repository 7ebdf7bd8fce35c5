"""RowFold: one writer's log() calls and metric definitions, in seq order, to the rows that they make.

In: calls (seq, step, flags, time, cells), METRIC payloads. Out: committed rows, step metrics inserted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from runfold.protocol.history.definitions import MetricDefinition, MetricDefinitions
from runfold.protocol.history.saved_values import load_value, pack_saved, save_value, unpack_saved
from runfold.protocol.keypath import KeyPath, parse_name
from runfold.protocol.records import MetricRecord
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN

#: Keys that every row has by itself: never inserted; `_step` and `_runtime` can't be logged.
IMPLIED_KEYS = frozenset({("_step",), ("_runtime",), ("_timestamp",)})
UNLOGGABLE_KEYS = frozenset({("_step",), ("_runtime",)})

#: Key sets whose insertion plan is remembered.
_PLANS_KEPT = 256

Cells = dict[KeyPath, Any]
Expansion = tuple[KeyPath, MetricDefinition]


@dataclass(slots=True)
class CommittedRow:
    """A finished row of one writer, or a patch of one (`late`)."""

    step: int
    cells: Cells
    #: Wall time of the last merged call.
    t_ns: int
    #: The last call merged into the row; inserted cells are stored under it.
    seq: int
    #: The call, or the end, that closed the row: what was said before this seq came before the row.
    commit_seq: int
    #: True when it lies below the writer's current step: it merges into the row of its step, if there is one.
    late: bool = False
    #: Which of the cells are inserted step metrics.
    inserted: tuple[KeyPath, ...] = ()
    #: Definitions that globs gave to keys of this row.
    expanded: tuple[Expansion, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockTake:
    """How far a block of calls was taken as rows, one row a call."""

    #: The row that was pending and that the block's first step closed.
    before: CommittedRow | None
    #: The first so many calls of the block are rows by themselves; feed the rest (none or one) to call().
    count: int
    #: Cells that each of these rows gets in addition.
    inserted: tuple[tuple[KeyPath, int | float], ...] = ()
    expanded: tuple[Expansion, ...] = ()


@dataclass(slots=True)
class _Plan:
    """What a row with a given key set needs: which cells feed a step metric, which step metrics to insert."""

    feeds: list[tuple[KeyPath, str]]
    inserts: list[tuple[KeyPath, str]]


class RowFold:
    """Folds one writer's calls into rows. State can be saved between any two calls. Not thread-safe."""

    def __init__(self) -> None:
        self.definitions = MetricDefinitions()
        #: Step of the newest committed row, None before the first.
        self.frontier: int | None = None
        self._pending: CommittedRow | None = None
        #: Last number seen under each name that some definition uses as step metric.
        self._latest: dict[str, int | float] = {}
        self._plans: dict[tuple[KeyPath, ...], _Plan] = {}
        self._plans_made_at = 0

    def define(self, payload: MetricRecord | Mapping[str, Any]) -> KeyPath | None:
        """Take a METRIC payload. Return the path whose definition changed, None when it was a glob."""
        if isinstance(payload, MetricRecord):
            payload = payload.to_map()
        if name := payload.get("step_metric"):
            self._latest.setdefault(name, 0)
        return self.definitions.apply(payload)

    @property
    def pending(self) -> CommittedRow | None:
        """The row that is still open."""
        return self._pending

    def call(
        self, seq: int, step: int, flags: int, t_ns: int, cells: Iterable[tuple[KeyPath, Any]]
    ) -> list[CommittedRow]:
        """Take one log() call and return the rows that it finished: none, one or two.

        Args:
            step: The row's step as the worker resolved it.
            flags: What the caller said (STEP_GIVEN, COMMIT_FALSE, COMMIT_TRUE).
        """
        done: list[CommittedRow] = []
        pending = self._pending
        if self._is_late(step):
            late = CommittedRow(step, {}, t_ns, seq, seq, late=True)
            merge_cells(late.cells, cells)
            late.expanded = self._expand(late.cells)
            return [late]
        if pending is not None and step > pending.step:
            done.append(self._commit(pending, seq))
            pending = None
        if pending is None:
            pending = CommittedRow(step, {}, t_ns, seq, seq)
        merge_cells(pending.cells, cells)
        pending.seq, pending.t_ns = seq, t_ns
        if flags & COMMIT_TRUE or not flags & (COMMIT_FALSE | STEP_GIVEN):
            done.append(self._commit(pending, seq))
            pending = None
        self._pending = pending
        return done

    def finish(self, seq: int) -> list[CommittedRow]:
        """Close the pending row, if any: the writer has ended. Harmless when repeated."""
        pending, self._pending = self._pending, None
        return [] if pending is None else [self._commit(pending, seq)]

    def take_block(
        self,
        paths: tuple[KeyPath, ...],
        kinds: str,
        columns: Sequence[Sequence[Any]],
        steps: Sequence[int],
        *,
        flags: int,
        increasing: bool,
        first_seq: int,
    ) -> BlockTake | None:
        """Take a block of calls with one key set as rows at once; None when it must go call by call.

        Args:
            columns: The values of each path, as long as `steps`; only single items are read.
            flags: The flags, equal for all calls of the block.
            increasing: Whether `steps` is strictly increasing.
            first_seq: Seq of the first call; no other call or definition may lie between the block's calls.
        """
        if not increasing or flags & COMMIT_FALSE or self._is_late(int(steps[0])):
            return None
        pending = self._pending
        if (pending is not None and pending.step == steps[0]) or not UNLOGGABLE_KEYS.isdisjoint(paths):
            return None
        # Without a commit the last call's row stays open.
        count = len(steps) if flags & COMMIT_TRUE or not flags & STEP_GIVEN else len(steps) - 1
        if count == 0:
            return None
        before = None
        if pending is not None:
            before, self._pending = self._commit(pending, first_seq), None
        expanded = self._expand(paths)
        plan = self._plan(paths)
        for path, name in plan.feeds:
            at = paths.index(path)
            if kinds[at] != "?":
                value = columns[at][count - 1]
                self._latest[name] = value.item() if hasattr(value, "item") else value
        self.frontier = int(steps[count - 1])
        inserted = tuple((path, self._latest[name]) for path, name in plan.inserts)
        return BlockTake(before, count, inserted, expanded)

    def _is_late(self, step: int) -> bool:
        if self._pending is not None:
            return step < self._pending.step
        return self.frontier is not None and step <= self.frontier

    def _commit(self, row: CommittedRow, seq: int) -> CommittedRow:
        row.commit_seq = seq
        self.frontier = row.step
        row.expanded = self._expand(row.cells)
        plan = self._plan(tuple(row.cells))
        for path, name in plan.feeds:
            value = row.cells[path]
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._latest[name] = value
        if plan.inserts:
            row.cells.update((path, self._latest[name]) for path, name in plan.inserts)
            row.inserted = tuple(path for path, _ in plan.inserts)
        return row

    def _expand(self, paths: Iterable[KeyPath]) -> tuple[Expansion, ...]:
        see = self.definitions.see
        return tuple((path, found) for path in paths if (found := see(path)) is not None)

    def _plan(self, paths: tuple[KeyPath, ...]) -> _Plan:
        if self._plans_made_at != self.definitions.changes or len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
            self._plans_made_at = self.definitions.changes
        plan = self._plans.get(paths)
        if plan is None:
            plan = self._plans[paths] = self._make_plan(paths)
        return plan

    def _make_plan(self, paths: tuple[KeyPath, ...]) -> _Plan:
        if not self._latest:
            return _Plan([], [])
        present = set(paths)
        feeds = [(path, name) for name in self._latest if (path := parse_name(name)) in present]
        inserts: dict[KeyPath, str] = {}
        for key in (*paths, *sorted(IMPLIED_KEYS - present)):
            for name in self.definitions.step_chain(key):
                path = parse_name(name)
                taken = path in present or path in IMPLIED_KEYS or path in inserts
                # A value logged above or below the step metric's place is kept: the insertion gives way.
                if (
                    not taken
                    and name in self._latest
                    and not any(_conflict(path, other) for other in present)
                ):
                    inserts[path] = name
        return _Plan(feeds, list(inserts.items()))

    def to_state(self) -> list[Any]:
        """Return the open state as a msgpack-able value."""
        row = self._pending
        pending = row and [
            row.step,
            row.t_ns,
            row.seq,
            pack_saved([[list(p), v] for p, v in row.cells.items()]),
        ]
        latest = [[name, save_value(value)] for name, value in self._latest.items()]
        return [1, self.definitions.to_state(), self.frontier, pending, latest]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Rebuild what to_state() returned."""
        restored = cls()
        _version, definitions, restored.frontier, pending, latest = state
        restored.definitions = MetricDefinitions.from_state(definitions)
        restored._latest = {name: load_value(saved) for name, saved in latest}
        if pending is not None:
            step, t_ns, seq, packed = pending
            cells = {tuple(path): value for path, value in unpack_saved(packed)}
            restored._pending = CommittedRow(step, cells, t_ns, seq, seq)
        return restored


def _conflict(a: KeyPath, b: KeyPath) -> bool:
    return len(a) != len(b) and (a[: len(b)] == b or b[: len(a)] == a)


def merge_cells(row: Cells, cells: Iterable[tuple[KeyPath, Any]]) -> None:
    """Lay a later call over a row: a later value replaces what lies at, above or below its key."""
    above: set[KeyPath] | None = None  # what lies above a key of the row; looked for once
    for path, value in cells:
        if path in UNLOGGABLE_KEYS:
            continue
        if path not in row:
            if above is None:
                above = {key[:at] for key in row if len(key) > 1 for at in range(1, len(key))}
            if path in above:
                for other in [other for other in row if _conflict(path, other)]:
                    del row[other]
            for at in range(1, len(path)):
                row.pop(path[:at], None)
                above.add(path[:at])
        row[path] = value
