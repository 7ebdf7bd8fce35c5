"""Statistics over the runs of a group: histories on a common x axis, and tables of summaries over folds or
seeds.

In: the group's runs. Out: `Table`, and rows as dicts. A run of many ranks is reduced first, then counts as
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from runfold.protocol.keypath import KeyPath, display_name
from runfold_coordinator.aggregate.align import align
from runfold_coordinator.aggregate.column import EMPTY, Axis, Column, Floats
from runfold_coordinator.aggregate.fold_table import Member, fold_table, newest_of_each_fold
from runfold_coordinator.aggregate.groups import on_axis, over_runs
from runfold_coordinator.aggregate.merge import merge_axis
from runfold_coordinator.aggregate.reduce import reduce_columns
from runfold_coordinator.readers.answers import Table, TableColumn
from runfold_coordinator.readers.branches import load_histories
from runfold_coordinator.readers.lane_columns import read_columns_of_runs
from runfold_coordinator.readers.reduced_window import Window, join_windows, read_window
from runfold_coordinator.readers.run_lanes import STEP, RunLanes
from runfold_coordinator.readers.series_reader import rows_in, statistics_columns
from runfold_coordinator.readers.step_windows import join_spans, read_spans
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: Cells of all keys and runs that are held at a time.
MAX_WINDOW_CELLS = 2_000_000
#: `by` names that begin with it mean: every config key but this one.
ALL_BUT = "-"


class Summaries(Protocol):
    """What is needed of a SummaryReader."""

    def summary(self, run: RunRow) -> dict[str, Any]: ...


class GroupReader:
    """Reads groups. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store, summaries: Summaries) -> None:
        self._store = store
        self._summaries = summaries

    def history(
        self,
        runs: Sequence[RunRow],
        *,
        keys: Sequence[str] | None = None,
        samples: int = 500,
        x_axis: str = STEP,
        stats: bool = False,
    ) -> Table:
        """Return the mean over runs of each key at every x, sampled to at most `samples` rows.

        Args:
            keys: Display names; None for every numeric key of any run.
            x_axis: "_step", or a metric that the runs logged: where it stands still, the last value counts.
            stats: Also k:mean, k:std, k:min, k:max, k:count, k:argmin, k:argmax; the last two are run ids.

        A fold that was run again counts once: its newest finished run, else its newest.
        """
        counted = newest_of_each_fold([_member(run, {}) for run in runs])
        by_id = {run.run_id: run for run in runs}
        members = load_histories(self._store, [by_id[member.run_id] for member in counted])
        names = list(dict.fromkeys(keys if keys is not None else _numeric_names(members)))
        ids = [member.run.run_id for member in members]
        parts = [window.sample(samples) for window in self._windows(members, names, x_axis)]
        window = join_windows(parts).sample(samples) if parts else _empty()
        columns = [TableColumn(x_axis, window.step)]
        for name in names:
            if name in window.columns:
                column = window.columns[name]
                columns.append(TableColumn(name, column.values, rows_in(window.step, column.step)))
                columns += statistics_columns(window, name, name, ids) if stats else []
        return Table(len(window.step), columns)

    def summary(self, runs: Sequence[RunRow]) -> list[dict[str, Any]]:
        """Return a row a run, oldest first: run_id, name, fold, state, then each summary leaf by display
        name.
        """
        rows = []
        for run in sorted(runs, key=lambda run: (run.started_unix_ns, run.run_id)):
            who = {"run_id": run.run_id, "name": run.name, "fold": run.fold, "state": run.state}
            rows.append(who | leaves_of(self._summaries.summary(run)))
        return rows

    def table(self, runs: Sequence[RunRow], by: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return a row per summary key and combination of `by`: mean, std, min, max, median, n,
        ci95_low/high.

        Args:
            by: Config keys; names that begin with a minus ("-seed") mean every config key but those.
        """
        members = [_member(run, leaves_of(self._summaries.summary(run))) for run in runs]
        all_but = [name.removeprefix(ALL_BUT) for name in by or () if name.startswith(ALL_BUT)]
        named = [name for name in by or () if not name.startswith(ALL_BUT)]
        rows = []
        for line in fold_table(members, named or None, all_but=all_but):
            for key, spread in line.spreads.items():
                rows.append({**line.by, "key": key, **asdict(spread)})
        return rows

    def _windows(self, members: Sequence[RunLanes], names: Sequence[str], x_axis: str) -> Iterator[Window]:
        if x_axis != STEP:
            yield self._on_metric(members, names, x_axis)
            return
        rows = sum(seat.writer.row_count for member in members for seat in member.seats)
        if rows * max(1, len(names)) <= MAX_WINDOW_CELLS:
            yield self._over_steps(members, names, None, None)
            return
        spans = join_spans([read_spans(self._store, member) for member in members])
        for low, high in spans.windows(MAX_WINDOW_CELLS // max(1, len(names))):
            yield self._over_steps(members, names, low, high)

    def _over_steps(
        self, members: Sequence[RunLanes], names: Sequence[str], low: int | None, high: int | None
    ) -> Window:
        series = {}
        for name in names:
            found = self._read(members, name, low, high)
            series[name] = [on_axis(column, None) for column in found]
        return _reduced(series)

    def _on_metric(self, members: Sequence[RunLanes], names: Sequence[str], x_axis: str) -> Window:
        """Align on a metric: what is held are the points after alignment, one per x and run."""
        series: dict[str, list[tuple[Axis, Floats]]] = {name: [] for name in names}
        for member in members:
            held: dict[str, list[tuple[Axis, Floats]]] = {name: [] for name in names}
            for low, high in read_spans(self._store, member).windows(MAX_WINDOW_CELLS // (len(names) + 1)):
                (axis,) = self._read([member], x_axis, low, high)
                for name in names:
                    (column,) = self._read([member], name, low, high)
                    held[name].append(on_axis(column, axis))
            for name in names:
                x = np.concatenate([part[0] for part in held[name]] or [np.empty(0)])
                y = np.concatenate([part[1] for part in held[name]] or [np.empty(0)])
                series[name].append(merge_axis(x, y))
        return _reduced(series)

    def _read(
        self, members: Sequence[RunLanes], name: str, low: int | None, high: int | None
    ) -> list[Column]:
        """Return the reduced column of each run; an empty one where it lacks the key."""
        columns = [EMPTY] * len(members)
        by_key: dict[str, list[int]] = {}
        for place, member in enumerate(members):
            key = member.find_key(name)
            if key is not None:
                by_key.setdefault(key, []).append(place)
        for key, places in by_key.items():
            plain = [place for place in places if members[place].weight_key(key) is None]
            runs = [members[place] for place in plain]
            for place, lanes in zip(
                plain, read_columns_of_runs(self._store, runs, key, low=low, high=high), strict=True
            ):
                columns[place] = reduce_columns(lanes, members[place].reduction(key))
            for place in set(places) - set(plain):
                window = read_window(self._store, members[place], [key], low=low, high=high)
                columns[place] = window.columns[key]
        return columns


def leaves_of(summary: Mapping[str, Any], above: KeyPath = ()) -> dict[str, Any]:
    """Return a nested summary's leaves by display name; what begins with "_" at the top is left out."""
    leaves: dict[str, Any] = {}
    for key, value in summary.items():
        if not above and key.startswith("_"):
            continue
        if isinstance(value, Mapping) and value:
            leaves |= leaves_of(value, (*above, key))
        else:
            leaves[display_name((*above, key))] = value
    return leaves


def _member(run: RunRow, summary: Mapping[str, Any]) -> Member:
    return Member(run.run_id, run.fold, run.state, run.started_unix_ns, summary, leaves_of(run.config))


def _numeric_names(members: Sequence[RunLanes]) -> list[str]:
    names = set()
    for member in members:
        shown = member.display_names()
        names |= {shown[key] for key, kinds in member.keys.items() if "d" in kinds or "q" in kinds}
    return sorted(names)


def _reduced(series: Mapping[str, Sequence[tuple[Axis, Floats]]]) -> Window:
    stats = {name: over_runs(runs) for name, runs in series.items() if any(len(x) for x, _ in runs)}
    columns = {name: Column(reduced.x, "d", reduced.value) for name, reduced in stats.items()}
    return Window(align([reduced.x for reduced in stats.values()])[0], None, columns, stats)


def _empty() -> Window:
    return Window(np.empty(0, np.int64), None, {}, {})
