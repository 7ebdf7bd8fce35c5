"""Many lanes' columns of one key -> one reduced column, by the metric's rule, in the order of the lanes.

Numbers follow the rule (mean unless told otherwise). Of anything else one lane is shown: the primary,
else the first lane, unless the rule itself picks (first, last, primary, none).
An int stays an int where the rule picks one value, where all lanes agree on it, and in sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from runfold_coordinator.aggregate.align import align, find
from runfold_coordinator.aggregate.column import (
    EMPTY,
    Axis,
    Bools,
    Column,
    Floats,
    Ints,
    Places,
    column_of,
    is_int64,
    is_number,
    numbers,
)
from runfold_coordinator.aggregate.stats import Stats, add_up, describe, extreme

Rule: TypeAlias = Literal["mean", "sum", "min", "max", "first", "last", "primary", "none"]
RULES: frozenset[str] = frozenset(get_args(Rule))
#: Sums of ints at or above this are kept as floats, as int64 could overflow.
LARGEST_INT_SUM = float(1 << 62)


@dataclass(frozen=True, slots=True)
class Reduced:
    """Numbers of one key over lanes; `value` is by the rule, NaN where "none" leaves several alone."""

    x: Axis
    value: Floats
    stats: Stats


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the lanes of one key become one value.

    Attributes:
        rule: By `define_metric(reduce=)`.
        primary: Index of the primary's lane; None where no lane is.
        weights: The weight metric's column of each lane, or None for no weights. Only "mean" uses it, at
            steps where every lane with a value has a weight and the weights' sum is above 0.
    """

    rule: str = "mean"
    primary: int | None = None
    weights: Sequence[Column] | None = None


MEAN = Reduction()


def reduce_numbers(lanes: Sequence[tuple[Axis, Floats]], reduction: Reduction = MEAN) -> Reduced:
    """Reduce numeric lanes, with all statistics. `lanes`: (x strictly increasing, value) in lane order."""
    axis, places = align([x for x, _ in lanes])
    values = [value for _, value in lanes]
    stats = describe(values, places, len(axis))
    return Reduced(axis, _by_rule(lanes, places, stats, reduction), stats)


def reduce_columns(lanes: Sequence[Column], reduction: Reduction = MEAN) -> Column:
    """Reduce one key to the values that reduced rows show; steps where the rule leaves nothing are absent."""
    filled = [lane for lane in lanes if len(lane)]
    if not filled:
        return EMPTY
    if len(filled) == 1:
        return filled[0]
    kinds = {lane.kind for lane in filled}
    if kinds == {"d"}:
        return _reduce_floats(lanes, reduction)
    if kinds <= {"d", "q"}:
        return _reduce_mixed_numbers(lanes, reduction)
    if kinds == {"?"}:
        return _pick(lanes, reduction)
    return _reduce_anything(lanes, reduction)


def _by_rule(
    lanes: Sequence[tuple[Axis, Floats]], places: Sequence[Places], stats: Stats, reduction: Reduction
) -> Floats:
    values, n = [value for _, value in lanes], len(stats.count)
    match reduction.rule:
        case "mean":
            if reduction.weights is None:
                return stats.mean
            return _weighted_mean(lanes, places, stats.mean, stats.count, reduction.weights)
        case "sum":
            with np.errstate(all="ignore"):
                return add_up(values, places, n)[0]
        case "min":
            return stats.min
        case "max":
            return stats.max
        case "none":
            single = add_up(values, places, n)[0]
            single[stats.count > 1] = np.nan
            return single
    chosen = np.full(n, np.nan)
    for lane in _picking_order(len(lanes), reduction):
        chosen[places[lane]] = values[lane]
    return chosen


def _picking_order(count: int, reduction: Reduction) -> list[int]:
    """Lanes in the order in which to write them over each other; the last one written is shown."""
    match reduction.rule:
        case "last":
            return list(range(count))
        case "first":
            return list(reversed(range(count)))
        case rule if rule in RULES:
            rest = [lane for lane in reversed(range(count)) if lane != reduction.primary]
            return rest if reduction.primary is None else [*rest, reduction.primary]
    raise ValueError(f"unknown reduce rule {reduction.rule!r}; known are {', '.join(sorted(RULES))}")


def _weighted_mean(
    lanes: Sequence[tuple[Axis, Floats]],
    places: Sequence[Places],
    plain: Floats,
    count: Ints,
    weights: Sequence[Column],
) -> Floats:
    """sum(weight * value) / sum(weight), in lane order; else the plain mean."""
    weighted, total = np.full(len(plain), -0.0), np.full(len(plain), -0.0)
    all_weighed = count > 1  # one lane's value is its own mean, to the last bit
    with np.errstate(all="ignore"):
        for (x, value), place, column in zip(lanes, places, weights, strict=True):
            at, weight = numbers(column)
            where, is_there = find(at, x)
            all_weighed[place] &= is_there
            if is_there.any():
                weight = np.where(is_there, weight[where], -0.0)
                total[place] += weight
                weighted[place] += value * weight
        all_weighed &= total > 0
        return np.where(all_weighed, weighted / total, plain)


def _reduce_floats(lanes: Sequence[Column], reduction: Reduction) -> Column:
    pairs = [numbers(lane) for lane in lanes]
    axis, places = align([x for x, _ in pairs])
    values, n = [value for _, value in pairs], len(axis)
    with np.errstate(all="ignore"):
        match reduction.rule:
            case "min" | "max":
                value = extreme(values, places, n, smallest=reduction.rule == "min")[0]
            case "mean" | "sum" | "none":
                total, count = add_up(values, places, n)
                if reduction.rule == "none":
                    return Column(axis, "d", total).take(np.flatnonzero(count == 1))
                value = total if reduction.rule == "sum" else total / count
                if reduction.rule == "mean" and reduction.weights is not None:
                    value = _weighted_mean(pairs, places, value, count, reduction.weights)
            case _:
                value = np.full(n, np.nan)
                for lane in _picking_order(len(lanes), reduction):
                    value[places[lane]] = values[lane]
    return Column(axis, "d", value)


def _reduce_mixed_numbers(lanes: Sequence[Column], reduction: Reduction) -> Column:
    """Lanes of floats and of ints: as floats, then ints put back where the exact answer is an int."""
    reduced = _reduce_floats(lanes, reduction)
    axis, places = align([lane.step for lane in lanes])
    if reduction.rule == "none":
        at, _ = find(axis, reduced.step)
    else:
        at = np.arange(len(axis))
    assert not isinstance(reduced.values, list), "reduced numbers are an array"
    exact, is_int = _exact_ints(lanes, places, len(axis), reduction)
    exact, is_int = exact[at], is_int[at]
    if reduction.rule == "sum":
        is_int &= np.abs(reduced.values) < LARGEST_INT_SUM
    if is_int.all():
        return Column(reduced.step, "q", exact)
    if not is_int.any():
        return reduced
    pairs = zip(reduced.values.tolist(), exact.tolist(), is_int.tolist(), strict=True)
    return Column(reduced.step, "o", [whole if use else value for value, whole, use in pairs])


def _exact_ints(
    lanes: Sequence[Column], places: Sequence[Places], n: int, reduction: Reduction
) -> tuple[Ints, Bools]:
    """Return the exact int answer at each point, and where it is the answer."""
    low, high = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    total, chosen = np.zeros(n, np.int64), np.zeros(n, np.int64)
    are_ints, chosen_int = np.ones(n, np.bool_), np.zeros(n, np.bool_)
    for lane, place in zip(lanes, places, strict=True):
        if lane.kind != "q":
            are_ints[place] = False
            continue
        value = np.asarray(lane.values)
        low[place], high[place] = np.minimum(low[place], value), np.maximum(high[place], value)
        total[place] += value
    match reduction.rule:
        case "sum" | "none":
            return total, are_ints
        case "min":
            return low, are_ints
        case "max":
            return high, are_ints
        case "mean":
            return low, are_ints & (low == high)
    for i in _picking_order(len(lanes), reduction):
        chosen_int[places[i]] = lanes[i].kind == "q"
        if lanes[i].kind == "q":
            chosen[places[i]] = lanes[i].values
    return chosen, chosen_int


def _reduce_anything(lanes: Sequence[Column], reduction: Reduction) -> Column:
    """Lanes of which some hold strings, bools, lists, None: where any does, one lane's value is shown.

    None says "nothing here": it counts only where no lane says more.
    """
    said = [_where(lane, lambda value: value is not None) for lane in lanes]
    spoken, _ = align([lane.step for lane in said])
    picked_at, _ = align([_where(lane, lambda value: not is_number(value)).step for lane in said])
    parts = [
        _pick([_at(lane, picked_at, keep=True) for lane in said], reduction),
        _reduce_numbers_of_any_kind([_at(lane, picked_at, keep=False) for lane in said], reduction),
        _pick([_at(lane, spoken, keep=False) for lane in lanes], reduction),
    ]
    step = np.concatenate([part.step for part in parts if len(part)] or [np.empty(0, np.int64)])
    values = [value for part in parts for value in part.objects()]
    by_step = np.argsort(step, kind="stable")
    return column_of(step[by_step], [values[i] for i in by_step.tolist()])


def _reduce_numbers_of_any_kind(lanes: Sequence[Column], reduction: Reduction) -> Column:
    """Reduce lanes that hold numbers only, whatever their kind says; ints and floats may alternate."""
    order = list(range(len(lanes)))
    if reduction.rule == "primary":
        order = _picking_order(len(lanes), reduction)[::-1]
        reduction = Reduction("first")
    split: list[Column] = []
    weights: list[Column] = []
    for lane in (lanes[i] for i in order):
        ints = _where(lane, is_int64)
        floats = _at(lane, ints.step, keep=False)
        split += [
            Column(ints.step, "q", np.array(ints.objects(), np.int64)),
            Column(floats.step, "d", np.array(floats.objects(), np.float64)),
        ]
    if reduction.weights is not None:
        weights = [reduction.weights[i] for i in order for _ in range(2)]
    # a lane's ints and floats are two lanes side by side that never share a step: the order over lanes stays
    return reduce_columns(split, Reduction(reduction.rule, None, weights or None))


def _pick(lanes: Sequence[Column], reduction: Reduction) -> Column:
    """Return at each step one lane's value as it is; under the rule "none" only where one lane has one."""
    axis, places = align([lane.step for lane in lanes])
    all_bools = all(lane.kind == "?" for lane in lanes if len(lane))
    chosen: NDArray[Any] = np.zeros(len(axis), np.bool_ if all_bools else np.object_)
    for i in _picking_order(len(lanes), reduction):
        if len(lanes[i]):
            chosen[places[i]] = lanes[i].values if all_bools else _object_array(lanes[i])
    picked = Column(axis, "?", chosen) if all_bools else column_of(axis, chosen.tolist())
    if reduction.rule != "none":
        return picked
    count = np.zeros(len(axis), np.int64)
    for place in places:
        count[place] += 1
    return picked.take(np.flatnonzero(count == 1))


def _object_array(column: Column) -> NDArray[Any]:
    array = np.empty(len(column), np.object_)
    for i, value in enumerate(column.objects()):
        array[i] = value  # one by one: numpy would take a list of lists for a matrix
    return array


def _where(column: Column, test: Callable[[Any], bool]) -> Column:
    if column.kind == "o":
        return column.take(np.array([i for i, v in enumerate(column.values) if test(v)], np.int64))
    if not len(column):
        return column
    return column if test(column.take(slice(0, 1)).objects()[0]) else column.take(slice(0, 0))


def _at(column: Column, step: Axis, *, keep: bool) -> Column:
    """Return the points whose step is (keep) or is not (not keep) among `step`."""
    if not len(column):
        return column
    _, is_there = find(step, column.step)
    return column.take(np.flatnonzero(is_there if keep else ~is_there))


def reduce_with_stats(
    lanes: Sequence[Column], reduction: Reduction = MEAN, *, stats: bool
) -> tuple[Column, Reduced | None]:
    """Reduce one key; with `stats` also describe its numbers over the lanes, if there are any."""
    if not stats or not any(lane.kind != "?" and len(lane) for lane in lanes):
        return reduce_columns(lanes, reduction), None
    reduced = reduce_numbers([numbers(lane) for lane in lanes], reduction)
    if not len(reduced.x):
        return reduce_columns(lanes, reduction), None
    if all(lane.kind == "d" for lane in lanes if len(lane)):
        column = Column(reduced.x, "d", reduced.value)
        if reduction.rule == "none":
            column = column.take(np.flatnonzero(reduced.stats.count == 1))
        return column, reduced
    return reduce_columns(lanes, reduction), reduced
