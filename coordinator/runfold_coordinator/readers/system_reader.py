"""System metrics of a run: what the agents of its nodes sampled while its processes ran there.

In: a run. Out: a `Table` by time, of W&B's names. A window of samples is held at a time, never the history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from runfold.protocol.keypath import decode_path, encode_path
from runfold_coordinator.aggregate.align import find
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.aggregate.column import Bools, Column, Ints, numbers
from runfold_coordinator.aggregate.merge import merge_columns
from runfold_coordinator.aggregate.rows import LaneRows, merge_blocks
from runfold_coordinator.readers.answers import Table, TableColumn
from runfold_coordinator.readers.reduced_window import Window
from runfold_coordinator.readers.run_lanes import RUNTIME, TIMESTAMP
from runfold_coordinator.readers.series_reader import rows_in
from runfold_coordinator.readers.system_names import Key, Naming, is_counter
from runfold_coordinator.readers.system_places import Watch, find_watches
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: Cells of a window of samples: 8 bytes each, a few times over while they are sorted out.
MAX_WINDOW_CELLS = 1_000_000
#: Every sample has it.
TIME_KEY = encode_path(("agent.sample_cpu_ms",))
#: Of so many of the newest samples the newest value of each metric is the latest one.
LATEST_SAMPLES = 3
#: However many nodes a run has, each gets so many rows.
MIN_SAMPLES = 10


class SystemReader:
    """Reads what nodes did. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(
        self,
        run: RunRow,
        *,
        samples: int = 500,
        keys: Collection[str] | None = None,
        rank: int | None = None,
        label: str | None = None,
    ) -> Table:
        """Return at most about `samples` rows by time, extremes kept; a run on many nodes has ten of each.

        Args:
            keys: Only columns of these names, "system." in front; None: all.
            rank: Only writers of this rank, and their nodes; `label` likewise.
        """
        watches = find_watches(self._store, run, rank=rank, label=label)
        share = max(MIN_SAMPLES, samples // max(1, len(watches)))
        parts = [self._read(watch, share, keys) for watch in watches]
        return _table(run, _union(parts))

    def latest(self, run: RunRow) -> dict[str, float]:
        """Return the newest value of each metric, by name."""
        found: dict[str, float] = {}
        for watch in find_watches(self._store, run):
            window = _union(list(self._windows(watch, None, newest=LATEST_SAMPLES)))
            for name, column in window.columns.items():
                if len(column):
                    found[name] = float(np.asarray(column.values)[-1])
        return dict(sorted(found.items()))

    def _read(self, watch: Watch, samples: int, keys: Collection[str] | None) -> Window:
        parts: list[Window] = []
        for window in self._windows(watch, keys):
            parts.append(window.sample(samples))
            if sum(len(part.step) for part in parts) > samples * 3 // 2:
                parts = [_union(parts).sample(samples)]
        return _union(parts).sample(samples)

    def _windows(
        self, watch: Watch, keys: Collection[str] | None, *, newest: int | None = None
    ) -> Iterator[Window]:
        """Yield the node's samples as the run sees them, window after window, in order of time."""
        first: dict[str, float] = {}
        for agent in watch.agents:
            names = _wanted(self._store, agent, watch.naming, keys)
            steps = self._steps(agent, watch)
            if not names or not len(steps):
                continue
            if newest is not None and any(is_counter(name.key.name) for name in names.values()):
                self._window(agent, watch, names, steps[:1], first)  # what counters stood at when it began
            chosen = steps if newest is None else steps[-newest:]
            width = max(1, MAX_WINDOW_CELLS // len(names))
            for at in range(0, len(chosen), width):
                yield self._window(agent, watch, names, chosen[at : at + width], first)

    def _window(
        self,
        agent: WriterRow,
        watch: Watch,
        names: Mapping[str, _Name],
        steps: Ints,
        first: dict[str, float],
    ) -> Window:
        blocks = self._store.read_blocks(
            agent.run_pk, agent.writer_pk, step_min=int(steps[0]), step_max=int(steps[-1]), keys=names.keys()
        )
        rows = merge_blocks(list(blocks), Placement(1))
        rows = replace(rows, columns={key: _numeric(column) for key, column in rows.columns.items()})
        return _named(_by_time(rows, watch.covers(rows.t_ns.view(np.int64))), names, first)

    def _steps(self, agent: WriterRow, watch: Watch) -> Ints:
        """Return the numbers of the samples that fall into the run's time, ascending."""
        steps, times = [], []
        for cells in self._store.read_cells(agent.run_pk, TIME_KEY, writer_pks=[agent.writer_pk]):
            steps.append(cells.step)
            times.append(cells.t_ns.view(np.int64))
        if not steps:
            return np.empty(0, np.int64)
        found: Ints = np.unique(np.concatenate(steps)[watch.covers(np.concatenate(times))])
        return found


@dataclass(frozen=True, slots=True)
class _Name:
    """What a key of an agent is called in a run: `name`, and W&B's second name of a device's metric."""

    key: Key
    name: str | None
    process: str | None = None
    is_use: bool = field(default=False)


def _wanted(store: Store, agent: WriterRow, naming: Naming, keys: Collection[str] | None) -> dict[str, _Name]:
    """Return by canonical key the metrics of an agent that the run has, and those that tell of its use."""
    found: dict[str, _Name] = {}
    for row in store.keys(agent.run_pk):
        key = Key.parse(decode_path(row.key)[0])
        name, process = naming.name(key), naming.process_name(key)
        is_use = (
            name is not None and key.writer is not None and key.device is not None and key.name == "inUse"
        )
        if keys is not None:
            name = name if name in keys else None
            process = process if process in keys else None
        if name is not None or process is not None or is_use:
            found[row.key] = _Name(key, name, process, is_use)
    if keys is not None and not any(each.process for each in found.values()):
        found = {key: each for key, each in found.items() if each.name is not None}
    return found


def _numeric(column: Column) -> Column:
    """Return the column without what is no number: agents say none, whoever else writes may."""
    if column.kind in ("d", "q"):
        return column
    step, values = numbers(column)
    return Column(step, "d", values)


def _by_time(rows: LaneRows, is_covered: Bools) -> Window:
    """Return the covered rows with their times as the axis, strictly increasing whatever the clock did."""
    kept = np.flatnonzero(is_covered)
    t_ns = rows.t_ns.view(np.int64)[kept]
    order = np.argsort(t_ns, kind="stable")
    ordered = t_ns[order]
    # Two samples of one nanosecond: the later one is a nanosecond later.
    axis = ordered + _excess(ordered)
    at = np.empty(len(kept), np.int64)
    at[order] = axis
    columns = {}
    for key, column in rows.columns.items():
        if len(column) == len(rows.step):  # every row has it, as nearly all do
            shown = column.take(kept[order])
            columns[key] = Column(axis, shown.kind, shown.values)
            continue
        places, is_kept = find(rows.step[kept], column.step)
        times = at[places[is_kept]]
        turn = np.argsort(times, kind="stable")
        shown = column.take(np.flatnonzero(is_kept)).take(turn)
        columns[key] = Column(times[turn], shown.kind, shown.values)
    return Window(axis, None, columns, {})


def _excess(ordered: Ints) -> Ints:
    """Return what is to be added to ascending numbers so that each is above the one before it."""
    places = np.arange(len(ordered), dtype=np.int64)
    if not len(ordered):
        return places
    excess: Ints = np.maximum.accumulate(ordered - places) + places - ordered
    return excess


def _named(window: Window, names: Mapping[str, _Name], first: dict[str, float]) -> Window:
    """Return the window under the run's names, counters since the run's first sample, uses made out."""
    columns: dict[str, list[Column]] = {}
    in_use: dict[str, list[Ints]] = {}
    # What a writer says goes over what the node says under the same name.
    for key in sorted(window.columns, key=lambda key: (names[key].key.writer is not None, key)):
        each, column = names[key], window.columns[key]
        if each.is_use and each.key.device is not None:
            in_use.setdefault(each.key.device, []).append(column.step)
        if each.name is None or not len(column):
            continue
        if is_counter(each.key.name) and each.key.writer is None:
            values = np.asarray(column.values, np.float64)
            base = first.setdefault(each.name, float(values[0]))
            # A device that was taken out and put back counts from 0 again.
            with np.errstate(invalid="ignore"):
                column = Column(column.step, "d", np.maximum(values - base, 0.0))
        columns.setdefault(each.name, []).append(column)
    for key, column in window.columns.items():
        each = names[key]
        if each.process is None or each.key.device not in in_use:
            continue
        used = np.unique(np.concatenate(in_use[each.key.device]))
        kept = np.flatnonzero(find(used, column.step)[1])
        if len(kept):
            columns.setdefault(each.process, []).append(column.take(kept))
    merged = {name: merge_columns(found) for name, found in columns.items()}
    return Window(window.step, None, merged, {})


def _union(parts: Sequence[Window]) -> Window:
    """Join windows of whatever times; at one moment the later part wins a column."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Window(np.empty(0, np.int64), None, {}, {})
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {
        name: merge_columns([part.columns[name] for part in parts if name in part.columns]) for name in names
    }
    return Window(np.unique(np.concatenate([part.step for part in parts])), None, columns, {})


def _table(run: RunRow, window: Window) -> Table:
    t_ns = window.step
    columns = [
        TableColumn(TIMESTAMP, t_ns.astype(np.float64) / 1e9),
        TableColumn(RUNTIME, (t_ns - np.int64(run.started_unix_ns)).astype(np.float64) / 1e9),
    ]
    for name in sorted(window.columns):
        column = window.columns[name]
        if len(column):
            columns.append(TableColumn(name, column.values, rows_in(t_ns, column.step)))
    return Table(len(t_ns), columns)
