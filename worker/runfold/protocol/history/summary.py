"""SummaryTree: the summary of a run, leaf by leaf, with what was set by hand on top.

In: rows in step order, digested batches, definitions, SUMMARY operations. Out: the nested dict users see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from runfold.protocol.history.definitions import MetricDefinition, definition_from, definition_state
from runfold.protocol.history.leaf import ABSENT, SummaryLeaf
from runfold.protocol.history.saved_values import load_value, save_value
from runfold.protocol.keypath import KeyPath
from runfold.protocol.path_index import Overlay, PathIndex

STEP: KeyPath = ("_step",)
RUNTIME: KeyPath = ("_runtime",)
TIMESTAMP: KeyPath = ("_timestamp",)


def timestamp_unix_s(t_ns: int) -> float:
    """Return `_timestamp`, with the bits that numpy gives for a whole column."""
    return float(t_ns) / 1e9


def runtime_s(t_ns: int, started_unix_ns: int) -> float:
    """Return `_runtime`, in the same way."""
    return float(t_ns - started_unix_ns) / 1e9


class SummaryTree:
    """The summary of one run. Not thread-safe.

    Logged keys are leaves at key paths; of a leaf and a subtree at one place the later one stays. A value set
    by hand lies over whatever is logged at, above or below its place, until it is deleted or set again.
    """

    def __init__(self) -> None:
        self._leaves: dict[KeyPath, SummaryLeaf] = {}
        #: Definitions of places that hold no leaf: they wait for the first value, and move nothing aside.
        self._waiting: dict[KeyPath, MetricDefinition] = {}
        #: The places of leaves and waiting definitions.
        self._places = PathIndex()
        self._manual: Overlay[Any] = Overlay()
        self._runtime_s: int | None = None

    # -- logged values

    def observe_row(
        self,
        step: int,
        cells: Iterable[tuple[KeyPath, Any]],
        *,
        timestamp: float | None = None,
        runtime: float | None = None,
    ) -> None:
        """Take one committed row, and what every row has by itself.

        Args:
            timestamp: Unix seconds; a `_timestamp` among the cells is preferred.
            runtime: Seconds since the run's start.
        """
        has_timestamp = False
        for path, value in cells:
            self.leaf(path).observe(value, step)
            has_timestamp = has_timestamp or path == TIMESTAMP
        self.leaf(STEP).observe(step, step)
        if timestamp is not None and not has_timestamp:
            self.leaf(TIMESTAMP).observe(timestamp, step)
        if runtime is not None:
            leaf = self.leaf(RUNTIME)
            leaf.observe(runtime, step)
            self.observe_runtime_shown(leaf.latest)

    def observe_runtime_shown(self, runtime: float) -> None:
        """Take the newest row's seconds since the run's start, which `_wandb.runtime` shows whole."""
        self._runtime_s = int(runtime)

    def leaf(self, path: KeyPath) -> SummaryLeaf:
        """Return the leaf at `path`, made if need be: a leaf above it and leaves below it give way."""
        found = self._leaves.get(path)
        if found is None:
            definition = self._waiting.get(path)
            self._drop(path)
            self._clear_around(path)
            self._places.add(path)
            found = self._leaves[path] = SummaryLeaf()
            if definition is not None:
                found.configure(definition)
        return found

    def configure(self, path: KeyPath, definition: MetricDefinition) -> None:
        """Let a definition decide what is shown at `path`. Where a subtree lies it has no effect."""
        if path == RUNTIME:  # set anew by every row, so that it is always shown plain
            definition = replace(definition, summary=frozenset())
        leaf = self._leaves.get(path)
        if leaf is None:
            self._places.add(path)
            self._waiting[path] = definition
        else:
            leaf.configure(definition)

    def finish(self, runtime_s: float | None) -> None:
        """Tell the run's whole duration: shown in whole seconds as `_runtime` and `_wandb.runtime`."""
        if runtime_s is None:
            return
        self._runtime_s = int(runtime_s)
        leaf = self.leaf(RUNTIME)
        leaf.observe(self._runtime_s, leaf.last_step)

    # -- set by hand

    def apply(self, operations: Iterable[Sequence[Any]]) -> None:
        """Apply the operations of a SUMMARY record: ["set", path, value] and ["del", path]."""
        for operation in operations:
            if operation[0] == "set":
                self.set(tuple(operation[1]), operation[2])
            else:
                self.delete(tuple(operation[1]))

    def set(self, path: KeyPath, value: Any) -> None:
        """Set a value by hand; a dict is one opaque value. None or NaN shows nothing until the next row."""
        self._manual.clear(path)
        leaf = self._leaves.get(path)
        if leaf is not None:
            leaf.kinds = frozenset()  # W&B: plain until defined again
        else:
            self._clear_around(path)
            if path in self._waiting:
                self._waiting[path] = replace(self._waiting[path], summary=frozenset())
        if value is None or (isinstance(value, float) and math.isnan(value)):
            if leaf is not None:
                leaf.latest = None
        else:
            self._manual.set(path, value)

    def delete(self, path: KeyPath) -> None:
        """Delete a key or a subtree, if it is there. A dict set by hand can be deleted as a whole only."""
        self._manual.delete(path)
        leaf = self._leaves.get(path)
        if leaf is not None:
            leaf.clear()
        else:
            self._drop_below(path)

    # -- reading

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as nested dicts, sorted by key; the values in it are not copied."""
        tree: dict[str, Any] = {}
        for path, leaf in self._leaves.items():
            value = leaf.shown()
            if value is not ABSENT:
                _put(tree, path, value)
        if self._runtime_s is not None:
            _put(tree, ("_wandb", "runtime"), self._runtime_s)
        for path, value in self._manual.items():
            place = self._leaves.get(path) or self._waiting.get(path)
            if place is None or not place.none:
                _put(tree, path, value)
        return _sorted(tree)

    def paths(self) -> Iterator[KeyPath]:
        """Yield the places of logged keys, shown or not."""
        return iter(self._leaves)

    # -- state

    def to_state(self) -> list[Any]:
        """Return all of it as a msgpack-able value."""
        leaves = [[list(path), leaf.to_state()] for path, leaf in self._leaves.items()]
        manual = [[list(path), save_value(value)] for path, value in self._manual.items()]
        waiting = [[list(path), definition_state(defined)] for path, defined in self._waiting.items()]
        return [1, leaves, waiting, manual, self._runtime_s]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> Self:
        """Rebuild what to_state() returned."""
        tree = cls()
        _version, leaves, waiting, manual, tree._runtime_s = state
        tree._leaves = {tuple(path): SummaryLeaf.from_state(saved) for path, saved in leaves}
        tree._waiting = {tuple(path): definition_from(saved) for path, saved in waiting}
        for path in (*tree._leaves, *tree._waiting):
            tree._places.add(path)
        for path, saved in manual:
            tree._manual.set(tuple(path), load_value(saved))
        return tree

    def _drop(self, path: KeyPath) -> None:
        """Remove the leaf or the waiting definition at `path`; there is at most one of both."""
        if self._leaves.pop(path, None) or self._waiting.pop(path, None):
            self._places.discard(path)

    def _drop_below(self, path: KeyPath) -> None:
        for other in self._places.below(path):
            self._drop(other)

    def _clear_around(self, path: KeyPath) -> None:
        """Make room for a value at `path`: what lies above and below it goes."""
        self._drop_below(path)
        for size in range(1, len(path)):
            self._drop(path[:size])


def nest(cells: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """Return cells as nested dicts, as they were logged."""
    tree: dict[str, Any] = {}
    for path, value in cells.items():
        below = tree
        for part in path[:-1]:
            below = below.setdefault(part, {})
        below[path[-1]] = value
    return tree


class _Inner(dict[str, Any]):
    """An inner place, told apart from a dict that is a value."""


def _put(tree: dict[str, Any], path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        below = tree.get(part)
        if not isinstance(below, _Inner):
            below = tree[part] = _Inner()
        tree = below
    tree[path[-1]] = value


def _sorted(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _sorted(value) if isinstance(value, _Inner) else value for key, value in sorted(tree.items())
    }
