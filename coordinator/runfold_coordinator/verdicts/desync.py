"""Metrics that all ranks must log alike: the first step at which they don't. Pure.

In: values as they are stored, writer by writer, and up to which step all have said theirs. Out: one finding a
metric, kept for ever. Values wait until their step is settled; at most `MAX_WAITING` of a metric.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from runfold.protocol.keypath import KeyPath, display_name, parse_name
from runfold_coordinator.ingest.row_chunks import Schema
from runfold_coordinator.store.model import I64

#: Metrics of a run that are compared.
MAX_METRICS = 64
#: Key sets of which is remembered what is compared.
MAX_SCHEMAS = 256
#: Values of one metric that wait for the other ranks; beyond, the oldest steps are compared as they are.
MAX_WAITING = 200_000
#: Ranks and values that a finding lists.
MAX_LISTED = 64
#: Longest text of a value in a finding.
MAX_TEXT = 200
_FLOAT_BITS = 1000


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Values a and b are equal when |a - b| <= atol + rtol * |median of all|."""

    rtol: float = 0.0
    atol: float = 0.0


class Expectations:
    """What define_metric(expect="equal") said in one run; a name may end in `*`."""

    def __init__(self) -> None:
        self._by_path: dict[KeyPath, Tolerance] = {}
        self._by_prefix: dict[str, Tolerance] = {}
        #: By key set, its columns of which something is expected.
        self._by_schema: dict[Schema, list[tuple[KeyPath, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_path or self._by_prefix)

    def apply(self, said: Mapping[str, Any]) -> None:
        """Take one METRIC payload; one without `expect` takes nothing back unless it overwrites."""
        name = str(said.get("name") or "")
        where: dict[Any, Tolerance] = self._by_prefix if name.endswith("*") else self._by_path
        key: Any = name[:-1] if name.endswith("*") else parse_name(name)
        if said.get("expect") == "equal":
            if len(self._by_path) + len(self._by_prefix) < MAX_METRICS or key in where:
                where[key] = Tolerance(float(said.get("rtol") or 0.0), float(said.get("atol") or 0.0))
        elif said.get("overwrite"):
            where.pop(key, None)
        self._by_schema.clear()

    def columns(self, schema: Schema) -> list[tuple[KeyPath, int]]:
        """Return the paths, and their places, of a key set of which something is expected."""
        found = self._by_schema.get(schema)
        if found is None:
            if len(self._by_schema) >= MAX_SCHEMAS:
                self._by_schema.clear()
            found = [(path, at) for at, path in enumerate(schema[0]) if self.of(path) is not None]
            self._by_schema[schema] = found
        return found

    def of(self, path: KeyPath) -> Tolerance | None:
        """Return the tolerance of a logged key; None: nothing is expected of it."""
        found = self._by_path.get(path)
        if found is None and any("." in part for part in path):
            found = self._by_path.get(tuple(display_name(path).split(".")))
        if found is None and self._by_prefix:
            name = display_name(path)
            prefixes = [prefix for prefix in self._by_prefix if name.startswith(prefix)]
            if prefixes and not name.startswith("_"):
                found = self._by_prefix[max(prefixes, key=len)]
        return found


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step at which a metric was not equal. `expected`: the majority's value, None in a tie."""

    step: int
    writers: tuple[str, ...]
    values: tuple[Any, ...]
    expected: Any


@dataclass(slots=True)
class _Waiting:
    """One metric: pieces (steps, values) by writer."""

    tolerance: Tolerance
    pieces: dict[str, list[tuple[I64, Sequence[Any] | npt.NDArray[Any]]]] = field(default_factory=dict)
    count: int = 0


class Desync:
    """Compares the metrics of one run. Steps are the run's. Not thread-safe."""

    def __init__(self, found: Collection[str] = ()) -> None:
        """Begin; `found`: metrics of which the first difference is known."""
        self._found = set(found)
        self._metrics: dict[str, _Waiting] = {}

    def add(
        self,
        metric: str,
        tolerance: Tolerance,
        writer: str,
        steps: I64,
        values: Sequence[Any] | npt.NDArray[Any],
    ) -> None:
        """Take one writer's values."""
        if metric in self._found:
            return
        waiting = self._metrics.get(metric)
        if waiting is None:
            if len(self._metrics) >= MAX_METRICS:
                return
            waiting = self._metrics[metric] = _Waiting(tolerance)
        waiting.tolerance = tolerance
        waiting.pieces.setdefault(writer, []).append((steps, values))
        waiting.count += len(steps)

    @property
    def is_waiting(self) -> bool:
        """Whether any value waits to be compared."""
        return any(waiting.count for waiting in self._metrics.values())

    @property
    def is_full(self) -> bool:
        """Whether so much waits that it is to be compared now."""
        return any(waiting.count > MAX_WAITING for waiting in self._metrics.values())

    def drop(self) -> None:
        """Forget what waits: a new attempt says its own."""
        self._metrics.clear()

    def settle(self, upto: int) -> dict[str, Difference]:
        """Compare the steps up to `upto`, and what is too much to wait; return what was found, by metric."""
        found: dict[str, Difference] = {}
        for metric, waiting in list(self._metrics.items()):
            steps, is_due = _due(waiting, upto)
            difference = _first_difference(waiting, steps) if len(steps) else None
            if difference is not None:
                found[metric] = difference
                self._found.add(metric)
                del self._metrics[metric]
            elif len(steps):
                _forget(waiting, is_due)
        return found


def _due(waiting: _Waiting, upto: int) -> tuple[I64, int]:
    """Return the steps to be compared, ascending, and the last of them."""
    pieces = [steps for of_writer in waiting.pieces.values() for steps, _ in of_writer]
    every = np.unique(np.concatenate(pieces)) if pieces else np.zeros(0, np.int64)
    if waiting.count > MAX_WAITING and len(every):
        upto = max(upto, int(every[len(every) // 2]))
    due = every[every <= upto]
    return due, upto


def _forget(waiting: _Waiting, upto: int) -> None:
    waiting.count = 0
    for writer, pieces in list(waiting.pieces.items()):
        kept = []
        for steps, values in pieces:
            left = np.flatnonzero(steps > upto)
            if len(left) == len(steps):
                kept.append((steps, values))
            elif len(left):
                rest = [values[at] for at in left] if isinstance(values, list) else np.asarray(values)[left]
                kept.append((steps[left], rest))
        waiting.pieces[writer] = kept
        waiting.count += sum(len(steps) for steps, _ in kept)
        if not kept:
            del waiting.pieces[writer]


def _first_difference(waiting: _Waiting, steps: I64) -> Difference | None:
    suspects = _suspects(waiting, steps)
    if not len(suspects):
        return None
    table = _values_at(waiting, suspects)
    for step in sorted(table):
        found = compare(table[step], waiting.tolerance)
        if found is not None:
            writers, values, expected = found
            return Difference(step, writers, values, expected)
    return None


def _suspects(waiting: _Waiting, steps: I64) -> I64:
    """Return the steps that may differ: of numbers by columns, of anything else all."""
    pieces = [piece for of_writer in waiting.pieces.values() for piece in of_writer]
    arrays = [(where, values) for where, values in pieces if isinstance(values, np.ndarray)]
    odd = [where for where, values in pieces if not isinstance(values, np.ndarray)]
    is_suspect = np.zeros(len(steps), bool)
    for where in odd:
        is_suspect[np.searchsorted(steps, where[np.isin(where, steps)])] = True
    kinds = {values.dtype.kind for _, values in arrays}
    if len(kinds) > 1:  # ints on one rank, floats on another
        return steps
    if kinds == {"i"}:  # as they are: a float would lose the low bits of a checksum
        return steps[is_suspect | _differs_in_ints(arrays, steps)]
    return steps[is_suspect | _differs_in_floats(arrays, steps, waiting.tolerance)]


def _differs_in_ints(arrays: Sequence[tuple[I64, npt.NDArray[Any]]], steps: I64) -> npt.NDArray[np.bool_]:
    info = np.iinfo(np.int64)
    low, high = np.full(len(steps), info.max), np.full(len(steps), info.min)
    for where, values in arrays:
        inside = np.isin(where, steps)
        at = np.searchsorted(steps, where[inside])
        np.minimum.at(low, at, values[inside])
        np.maximum.at(high, at, values[inside])
    return high > low


def _differs_in_floats(
    arrays: Sequence[tuple[I64, npt.NDArray[Any]]], steps: I64, tolerance: Tolerance
) -> npt.NDArray[np.bool_]:
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    has_nan = np.zeros(len(steps), bool)
    for where, values in arrays:
        inside = np.isin(where, steps)
        at, told = np.searchsorted(steps, where[inside]), values[inside].astype(np.float64)
        is_nan = np.isnan(told)
        has_nan[at[is_nan]] = True
        np.minimum.at(low, at[~is_nan], told[~is_nan])
        np.maximum.at(high, at[~is_nan], told[~is_nan])
    with np.errstate(invalid="ignore", over="ignore"):
        # The median lies between low and high: it is at least as far from 0 as the nearer of them.
        nearest = np.where(np.sign(low) == np.sign(high), np.minimum(np.abs(low), np.abs(high)), 0.0)
        allowed = tolerance.atol + np.where(nearest > 0, tolerance.rtol * nearest, 0.0)
        differs = (high > low) & ~(high - low <= allowed)
    return np.asarray(differs | (has_nan & (high >= low)), bool)


def _values_at(waiting: _Waiting, suspects: I64) -> dict[int, dict[str, Any]]:
    """Return what each writer said at these steps; of two values the later."""
    found: dict[int, dict[str, Any]] = {}
    for writer, pieces in waiting.pieces.items():
        for steps, values in pieces:
            for at in np.flatnonzero(np.isin(steps, suspects)).tolist():
                value = values[at]
                plain = value.item() if isinstance(value, np.generic) else value
                found.setdefault(int(steps[at]), {})[writer] = plain
    return found


def compare(
    values: Mapping[str, Any], tolerance: Tolerance
) -> tuple[tuple[str, ...], tuple[Any, ...], Any] | None:
    """Return (writers that differ from the majority, their values, the majority's), None when all are equal.

    Numbers are equal within the tolerance around all; NaN equals NaN only; anything else is compared exactly.
    In a tie all differ, and there is no value of the majority.
    """
    numbers = [value for value in values.values() if _is_number(value) and not _is_nan(value)]
    finite = [value for value in numbers if math.isfinite(value)]
    allowed = tolerance.atol + tolerance.rtol * abs(median(finite)) if finite else tolerance.atol
    if len(numbers) == len(values):
        if not values or _within(min(numbers), max(numbers), allowed):
            return None
    elif len({_exact(value) for value in values.values()}) == 1:
        return None
    groups: list[list[str]] = []
    heads: list[Any] = []
    for writer in sorted(values, key=lambda writer: _order(values[writer])):
        value = values[writer]
        if heads and _alike(heads[-1], value, allowed):
            groups[-1].append(writer)
        else:
            heads.append(value)
            groups.append([writer])
    sizes = sorted((len(group) for group in groups), reverse=True)
    is_tie = len(sizes) > 1 and sizes[0] == sizes[1]
    most = max(range(len(groups)), key=lambda at: len(groups[at]))
    differing = [writer for at, group in enumerate(groups) if is_tie or at != most for writer in group][
        :MAX_LISTED
    ]
    told = tuple(shown(values[writer]) for writer in differing)
    return tuple(differing), told, None if is_tie else shown(heads[most])


def shown(value: Any) -> Any:
    """Return a value as a finding keeps it: texts cut, containers as text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)[:MAX_TEXT]
    return str(value)[:MAX_TEXT]


def _within(low: Any, high: Any, allowed: float) -> bool:
    return low == high or (math.isfinite(low) and math.isfinite(high) and high - low <= allowed)


def _alike(first: Any, value: Any, allowed: float) -> bool:
    if _is_number(first) and _is_number(value) and not _is_nan(first) and not _is_nan(value):
        return _within(min(first, value), max(first, value), allowed)
    return _exact(first) == _exact(value)


def _exact(value: Any) -> tuple[str, str]:
    if _is_nan(value):
        return "nan", ""
    return ("number", repr(value)) if _is_number(value) else (type(value).__name__, repr(value))


def _order(value: Any) -> tuple[int, float, str]:
    if _is_nan(value):
        return 1, 0.0, ""
    return (0, value, repr(value)) if _is_number(value) else (2, 0.0, repr(value))


def _is_number(value: Any) -> bool:
    # What no float can hold is compared exactly, as a text is.
    return isinstance(value, float) or (isinstance(value, int) and value.bit_length() < _FLOAT_BITS)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
