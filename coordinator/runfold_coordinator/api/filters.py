"""Mongo-like filters over runs, as W&B's `Api.runs(filters=...)` takes them: parse, check, evaluate. Pure.

In: the decoded JSON of a filter. Out: a tree of And, Or, Not, Compare, and `matches(tree, view)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from runfold_coordinator.api.errors import BadRequestError
from runfold_coordinator.api.patterns import Pattern, PatternError, compile_pattern
from runfold_coordinator.api.run_fields import MISSING, RunFieldError, check_field, comparable

#: Most comparisons and logical operators in one filter.
MAX_FILTER_NODES = 200
#: Deepest nesting of `$and`, `$or`, `$nor`, `$not`.
MAX_FILTER_DEPTH = 20
#: Most values in one `$in` or `$nin`.
MAX_LIST_VALUES = 10_000

_COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$regex")
_LOGICAL = ("$and", "$or", "$nor")
_HINT = "operators: " + " ".join((*_LOGICAL, "$not", *_COMPARISONS))


class FieldView(Protocol):
    """One run, as filters see it: `get(field)` gives a plain value, or MISSING."""

    def get(self, field: str) -> Any:
        """Return the value of `field`."""


@dataclass(frozen=True, slots=True)
class Compare:
    """`field` stands in relation `op` to `value`. For `$regex`, `value` is the compiled pattern."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold; no part at all holds too."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: tuple[Filter, ...]


Filter = Compare | Not | And | Or


def parse_filter(query: Any) -> Filter:
    """Return the tree of a filter.

    Args:
        query: What JSON gave: an object of fields and operators; None and {} accept every run.

    Raises:
        BadRequestError: Unknown field or operator, wrong kind of value, or more than the limits allow.
    """
    return _Parser().parse({} if query is None else query, 0)


class _Parser:
    def __init__(self) -> None:
        self._nodes = 0

    def parse(self, query: Any, depth: int) -> Filter:
        if not isinstance(query, Mapping):
            raise BadRequestError(f"a filter is an object, not {_brief(query)}", field="filters", hint=_HINT)
        if depth > MAX_FILTER_DEPTH:
            raise BadRequestError("the filter nests too deeply", field="filters", limit=MAX_FILTER_DEPTH)
        parts: list[Filter] = []
        for name, value in query.items():
            parts.extend(self._entry(name, value, depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _entry(self, name: str, value: Any, depth: int) -> list[Filter]:
        self._count()
        if name in _LOGICAL:
            if not isinstance(value, list) or not value:
                raise BadRequestError(f"{name} takes a list of filters", field="filters")
            parts = tuple(self.parse(part, depth + 1) for part in value)
            if name == "$and":
                return [And(parts)]
            return [Or(parts) if name == "$or" else Not(Or(parts))]
        if name == "$not":
            return [Not(self.parse(value, depth + 1))]
        if name.startswith("$"):
            raise BadRequestError(f"unknown operator {name!r}", field="filters", hint=_HINT)
        try:
            check_field(name)
        except RunFieldError as error:
            raise BadRequestError(str(error), field="filters", hint=error.hint) from error
        return self._field(name, value, depth)

    def _field(self, name: str, value: Any, depth: int) -> list[Filter]:
        if not (isinstance(value, Mapping) and any(key.startswith("$") for key in value)):
            return [self._compare(name, "$eq", value)]
        parts: list[Filter] = []
        for op, operand in value.items():
            if op == "$not":
                self._count()
                if depth >= MAX_FILTER_DEPTH:
                    raise BadRequestError(
                        "the filter nests too deeply", field="filters", limit=MAX_FILTER_DEPTH
                    )
                parts.append(Not(And(tuple(self._field(name, operand, depth + 1)))))
            else:
                parts.append(self._compare(name, op, operand))
        return parts

    def _compare(self, name: str, op: str, value: Any) -> Compare:
        self._count()
        if op not in _COMPARISONS:
            raise BadRequestError(f"unknown operator {op!r} on {name!r}", field="filters", hint=_HINT)
        if op == "$regex":
            return Compare(name, op, _pattern(name, value))
        if op in ("$in", "$nin"):
            if not isinstance(value, list):
                raise BadRequestError(f"{op} on {name!r} takes a list", field="filters")
            if len(value) > MAX_LIST_VALUES:
                raise BadRequestError(
                    f"{op} on {name!r} has too many values", field="filters", limit=MAX_LIST_VALUES
                )
            return Compare(name, op, [comparable(name, each) for each in value])
        if op == "$exists":
            return Compare(name, op, bool(value))
        return Compare(name, op, comparable(name, value))

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_FILTER_NODES:
            raise BadRequestError("the filter has too many parts", field="filters", limit=MAX_FILTER_NODES)


def _pattern(name: str, value: Any) -> Pattern:
    if not isinstance(value, str):
        raise BadRequestError(f"$regex on {name!r} takes a string", field="filters")
    try:
        return compile_pattern(value)
    except PatternError as error:
        hint = "the syntax is RE2's: no back references, no look-around"
        raise BadRequestError(f"$regex on {name!r}: {error}", field="filters", hint=hint) from error


def matches(query: Filter, view: FieldView) -> bool:
    """Tell whether the run behind `view` passes the filter."""
    if isinstance(query, Compare):
        return _COMPARE[query.op](view.get(query.field), query.value)
    if isinstance(query, Not):
        return not matches(query.part, view)
    if isinstance(query, And):
        return all(matches(part, view) for part in query.parts)
    return any(matches(part, view) for part in query.parts)


def _equal(found: Any, wanted: Any) -> bool:
    """Mongo's equality: null equals absent, a list equals any of its elements, 1 equals 1.0 but not true."""
    if found is MISSING:
        found = None
    if isinstance(found, (list, tuple)) and not isinstance(wanted, (list, tuple)):
        return any(_equal(each, wanted) for each in found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, (list, tuple)):
        return list(found) == list(wanted)
    return bool(found == wanted)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(found: Any, wanted: Any) -> bool:
        if isinstance(found, (list, tuple)):
            return any(compare(each, wanted) for each in found)
        numbers = _is_number(found) and _is_number(wanted)
        texts = isinstance(found, str) and isinstance(wanted, str)
        return (numbers or texts) and test(found, wanted)

    return compare


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _in(found: Any, wanted: list[Any]) -> bool:
    return any(_equal(found, each) for each in wanted)


def _search(found: Any, pattern: Pattern) -> bool:
    if isinstance(found, (list, tuple)):
        return any(_search(each, pattern) for each in found)
    return isinstance(found, str) and pattern.search(found)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda found, wanted: not _equal(found, wanted),
    "$gt": _ordered(lambda found, wanted: found > wanted),
    "$gte": _ordered(lambda found, wanted: found >= wanted),
    "$lt": _ordered(lambda found, wanted: found < wanted),
    "$lte": _ordered(lambda found, wanted: found <= wanted),
    "$in": _in,
    "$nin": lambda found, wanted: not _in(found, wanted),
    "$exists": lambda found, wanted: (found is not MISSING) == wanted,
    "$regex": _search,
}


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
