"""How W&B's client folds one process, written down as plainly as possible: the model that the folds are held against.

Two places where the client leaves the result to chance are settled as our rules say: of several globs the longest
wins, chains of step metrics are followed to the end. Statistics of nothing numeric are absent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runfold.protocol.records import MetricRecord, SummaryRecord
from worker.history.said import Log, Operation

Path = tuple[str, ...]
IMPLIED = {("_step",), ("_timestamp",), ("_runtime",)}


class Metric:
    def __init__(self) -> None:
        self.step_metric = ""
        self.step_sync = self.none = False
        self.kinds: set[str] = set()
        self.goal: str | None = None


class Leaf:
    def __init__(self) -> None:
        self.latest: Any = None
        self.first: Any = None
        self.numbers: list[float] = []
        self.has_data = self.none = False
        self.kinds: set[str] = set()
        self.goal: str | None = None

    def shown(self) -> Any:
        if self.none or not self.has_data:
            return None
        if not self.kinds:
            return self.latest
        values: dict[str, Any] = {"last": self.latest, "first": self.first}
        if self.numbers:
            total = 0.0
            for number in self.numbers:
                total += number
            is_nan = any(map(math.isnan, self.numbers))
            known = [number for number in self.numbers if not math.isnan(number)]
            values["mean"] = total / len(self.numbers)
            values["min"] = math.nan if is_nan else min(known)
            values["max"] = math.nan if is_nan else max(known)
            if known:
                values["best"] = max(known) if self.goal == "maximize" else min(known)
        return {kind: value for kind, value in values.items() if kind in self.kinds} or None


class Client:
    def __init__(self) -> None:
        self.step = 0
        self.pending: dict[Path, Any] | None = None
        self.rows: dict[int, dict[Path, Any]] = {}
        self.metrics: dict[str, Metric] = {}
        self.globs: dict[str, Metric] = {}
        self.latest_step: dict[str, float] = {}
        self.leaves: dict[Path, Leaf] = {}
        self.dropped = False

    def run(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation, MetricRecord):
                self.define(operation)
            elif isinstance(operation, SummaryRecord):
                for change in operation.changes:
                    assert change[0] == "del"
                    self.delete(change[1])
            else:
                self.log(operation)

    def log(self, call: Log) -> None:
        if call.step is not None:
            if call.step < self.step:
                self.dropped = True
                return
            if call.step > self.step:
                self.flush(call.step)
        row = self.pending if self.pending is not None else {}
        for path, value in call.cells:
            put(row, path, value)
        self.pending = row
        if call.commit if call.commit is not None else call.step is None:
            self.flush(self.step + 1)

    def flush(self, next_step: int) -> None:
        row, step = self.pending, self.step
        self.pending, self.step = None, next_step
        if row is None:
            return
        for name in self.latest_step:
            value = row.get(tuple(name.split(".")))
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.latest_step[name] = value
        for path in list(row):
            self.expand(".".join(path))
        todo = list(row)
        while todo:
            metric = self.metrics.get(".".join(todo.pop()))
            if metric is None or not metric.step_metric or not metric.step_sync:
                continue
            path = tuple(metric.step_metric.split("."))
            if path not in row and path not in IMPLIED:
                put(row, path, self.latest_step[metric.step_metric])
                todo.append(path)
        self.rows[step] = row
        for path, value in row.items():
            leaf = self.leaf(path)
            leaf.latest = value
            if not leaf.has_data:
                leaf.first = value
            leaf.has_data = True
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                leaf.numbers.append(float(value))

    def define(self, said: MetricRecord) -> None:
        if said.step_metric:
            self.latest_step.setdefault(said.step_metric, 0)
        table = self.globs if said.name.endswith("*") else self.metrics
        old = table.get(said.name)
        new = Metric() if old is None or said.overwrite else old
        if old is not None and new is old:  # expansions keep what they got
            copied = Metric()
            vars(copied).update(vars(old) | {"kinds": set(old.kinds)})
            new = copied
        new.step_sync |= bool(said.step_sync if said.step_sync is not None else said.step_metric)
        new.step_metric = said.step_metric or new.step_metric
        if said.summary:
            new.none = "none" in said.summary
            new.kinds |= set(said.summary) - {"none", "copy"}
        new.goal = said.goal or new.goal
        table[said.name] = new
        if table is self.metrics:
            self.configure(said.name)

    def expand(self, name: str) -> None:
        matching = [glob for glob in self.globs if name.startswith(glob[:-1])]
        if name not in self.metrics and matching and not name.startswith("_"):
            self.metrics[name] = self.globs[max(matching, key=len)]
            self.configure(name)

    def configure(self, name: str) -> None:
        metric, leaf = self.metrics[name], self.leaf(tuple(name.split(".")))
        leaf.none, leaf.kinds, leaf.goal = metric.none, metric.kinds, metric.goal

    def delete(self, path: Path) -> None:
        leaf = self.leaves.get(path)
        if leaf is not None:
            leaf.latest, leaf.has_data = None, False
        else:
            self.leaves = {other: leaf for other, leaf in self.leaves.items() if other[: len(path)] != path}

    def leaf(self, path: Path) -> Leaf:
        if path not in self.leaves:
            put(self.leaves, path, Leaf())
        return self.leaves[path]

    def summary(self) -> dict[Path, Any]:
        shown = {path: leaf.shown() for path, leaf in self.leaves.items()}
        return {path: value for path, value in shown.items() if value is not None}


def put(tree: dict[Path, Any], path: Path, value: Any) -> None:
    """Set a leaf: what lies above or below it goes."""
    for other in list(tree):
        if other != path and (other[: len(path)] == path or path[: len(other)] == other):
            del tree[other]
    tree[path] = value
