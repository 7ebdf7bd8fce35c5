"""Summaries of a group's runs -> mean, std, min, max, median, n and a 95 % interval per key, over folds or
seeds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runfold_coordinator.aggregate.column import is_number
from runfold_coordinator.aggregate.student import t_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a group.

    Attributes:
        fold: As given to `init(fold=)`; None where the run is no fold, and then it always counts.
        summary: Leaves by their text key, e.g. {"acc": 0.9, "loss.min": 0.1}.
        config: Leaves by their text key.
    """

    run_id: str
    fold: Any
    state: str
    started_unix_ns: int
    summary: Mapping[str, Any]
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """Statistics of one summary key. `std` (n - 1) and the interval are NaN for n = 1; any NaN makes all
    NaN.
    """

    mean: float
    std: float
    min: float
    max: float
    median: float
    n: int
    ci95_low: float
    ci95_high: float


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table: `by` names the config values that its runs share; {} where all runs are one
    line.
    """

    by: dict[str, Any]
    run_ids: tuple[str, ...]
    spreads: dict[str, Spread]


def fold_table(
    members: Sequence[Member], by: Sequence[str] | None = None, *, all_but: Sequence[str] = ()
) -> list[TableRow]:
    """Return one line per combination of the config values of `by`.

    Args:
        by: Config keys; None for one line over all runs.
        all_but: Group by every config key except these (and `by` is ignored).

    A fold that was run again counts once within its line: the newest finished run of it, else the newest run.
    """
    lines: dict[Hashable, list[Member]] = {}
    values: dict[Hashable, dict[str, Any]] = {}
    for member in sorted(members, key=lambda m: (m.started_unix_ns, m.run_id)):
        names = sorted(set(member.config) - set(all_but)) if all_but else list(by or ())
        shared = {name: member.config.get(name) for name in names}
        line = tuple((name, _freeze(value)) for name, value in shared.items())
        lines.setdefault(line, []).append(member)
        values.setdefault(line, shared)
    return [_row(values[line], newest_of_each_fold(lines[line])) for line in sorted(lines, key=repr)]


def newest_of_each_fold(members: Sequence[Member]) -> list[Member]:
    """Keep of each fold the newest finished run, else the newest; what is no fold stays. By start."""
    kept: dict[Hashable, Member] = {}
    for member in sorted(members, key=lambda m: (m.started_unix_ns, m.run_id)):
        place: Hashable = ("run", member.run_id) if member.fold is None else ("fold", _freeze(member.fold))
        earlier = kept.get(place)
        if earlier is None or member.state == "finished" or earlier.state != "finished":
            kept[place] = member
    return sorted(kept.values(), key=lambda m: (m.started_unix_ns, m.run_id))


def spread(values: Sequence[float]) -> Spread:
    """Return the statistics of at least one number; sums are exact (`math.fsum`), so the order does not
    matter.
    """
    n = len(values)
    if any(map(math.isnan, values)):
        return Spread(math.nan, math.nan, math.nan, math.nan, math.nan, n, math.nan, math.nan)
    in_order = sorted(values)
    low, high = in_order[0], in_order[-1]
    median = in_order[n // 2] if n % 2 else in_order[n // 2 - 1] / 2 + in_order[n // 2] / 2
    if math.isinf(low) or math.isinf(high):
        mean = math.nan if math.isinf(low) and math.isinf(high) and low != high else (low + high)
        return Spread(mean, math.nan, low, high, median, n, math.nan, math.nan)
    try:
        mean = math.fsum(values) / n
    except OverflowError:  # the sum leaves float64 though the mean does not
        mean = math.fsum(value / n for value in values)
    if n == 1:
        return Spread(mean, math.nan, low, high, median, 1, math.nan, math.nan)
    std = math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / (n - 1))
    half_width = t_quantile((1 + CONFIDENCE) / 2, n - 1) * std / math.sqrt(n)
    return Spread(mean, std, low, high, median, n, mean - half_width, mean + half_width)


def _row(by: dict[str, Any], members: Sequence[Member]) -> TableRow:
    keys = sorted({key for member in members for key in member.summary})
    spreads = {}
    for key in keys:
        values = [float(m.summary[key]) for m in members if is_number(m.summary.get(key))]
        if values:
            spreads[key] = spread(values)
    return TableRow(by, tuple(member.run_id for member in members), spreads)


def _freeze(value: Any) -> Hashable:
    """Return a hashable stand-in for a config value, 1 and 1.0 alike, True and 1 apart."""
    if isinstance(value, Mapping):
        return ("map", *sorted((str(k), _freeze(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return ("list", *map(_freeze, value))
    if isinstance(value, bool):
        return ("bool", value)
    return value if isinstance(value, Hashable) else repr(value)
