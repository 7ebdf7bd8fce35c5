"""Finds the runs of a page: filter, order, count, cut. In: a RunQuery; out: RunRows, total, next cursor.

What SQL can decide is left to SQL. Else the catalogue is walked in batches, keeping (sort value, key) only.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.api.errors import BadRequestError, UnavailableError
from runfold_coordinator.api.filter_sql import ORDER_COLUMNS, condition
from runfold_coordinator.api.filters import Filter, matches
from runfold_coordinator.api.run_fields import (
    MISSING,
    RunFieldError,
    RunView,
    canonical_field,
    check_field,
)
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.tables import runs

#: Most runs on one page.
MAX_PAGE_RUNS = 1000
#: Longest walk over the catalogue for one page.
MAX_WALK_S = 20.0
_BATCH_RUNS = 500


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What is asked: None for entity or project is any. `order` is "+field" or "-field"."""

    entity: str | None
    project: str | None
    filter: Filter
    order: str
    limit: int
    offset: int = 0
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page: `total` counts all runs that match; `next_cursor` is None on the last page."""

    runs: list[RunRow]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Order:
    field: str
    descending: bool


def list_runs(
    store: Store,
    query: RunQuery,
    *,
    summary_of: Callable[[RunRow], Mapping[str, Any]],
    mono_s: Callable[[], float],
) -> RunPage:
    """Return one page of runs.

    Args:
        summary_of: Gives a run's summary as of now, asked only where filter or order name a summary value.
        mono_s: Monotonic clock, seconds; bounds the walk.

    Raises:
        BadRequestError: The order or the cursor is not valid.
        UnavailableError: The walk took longer than MAX_WALK_S.
    """
    order = _parse_order(query.order)
    after = _read_cursor(query.cursor, query.order) if query.cursor else None
    where = condition(query.filter)
    if where.exact and order.field in ORDER_COLUMNS:
        return _page_by_sql(store, query, order, after, where.clause)
    walk = _Walk(store, query, order, where.clause, summary_of)
    return walk.page(after, mono_s)


def _parse_order(text: str) -> _Order:
    field = text.lstrip("+-") if text[:1] in "+-" else text
    try:
        check_field(field)
    except RunFieldError as error:
        raise BadRequestError(str(error), field="order", hint=error.hint) from error
    return _Order(canonical_field(field), text.startswith("-"))


def _page_by_sql(
    store: Store,
    query: RunQuery,
    order: _Order,
    after: tuple[Any, int] | None,
    where: sa.ColumnElement[bool] | None,
) -> RunPage:
    total = store.count_runs(query.entity, query.project, where=where)
    column = ORDER_COLUMNS[order.field]
    if after is not None:
        value, pk = after
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _bad_cursor()
        beyond = column < value if order.descending else column > value
        pk_beyond = runs.c.run_pk < pk if order.descending else runs.c.run_pk > pk
        past = sa.or_(beyond, sa.and_(column == value, pk_beyond))
        where = past if where is None else sa.and_(where, past)
    ordering = [each.desc() if order.descending else each.asc() for each in (column, runs.c.run_pk)]
    found = store.list_runs(
        query.entity,
        query.project,
        where=where,
        order_by=ordering,
        limit=query.limit + 1,
        offset=query.offset,
    )
    page, more = found[: query.limit], len(found) > query.limit
    cursor = None
    if more:
        last = page[-1]
        value = {"createdAt": last.started_unix_ns, "heartbeatAt": last.updated_unix_s}.get(
            order.field, last.last_step
        )
        cursor = _write_cursor(query.order, value, last.run_pk)
    return RunPage(page, total, cursor)


@dataclass(frozen=True, slots=True)
class _Walk:
    """Looks at every candidate, and keeps of those that match what they sort by."""

    store: Store
    query: RunQuery
    order: _Order
    where: sa.ColumnElement[bool] | None
    summary_of: Callable[[RunRow], Mapping[str, Any]]

    def page(self, after: tuple[Any, int] | None, mono_s: Callable[[], float]) -> RunPage:
        found = self._matching(mono_s)
        start, limit = self.query.offset, self.query.limit
        if after is not None:
            mark = _sort_key(after[0], after[1], self.order)
            start += next((at for at, entry in enumerate(found) if entry[0] > mark), len(found))
        page = found[start : start + limit]
        more = start + limit < len(found) and bool(page)
        cursor = _write_cursor(self.query.order, page[-1][1], page[-1][2]) if more else None
        return RunPage(_load(self.store, [pk for _, _, pk in page]), len(found), cursor)

    def _matching(self, mono_s: Callable[[], float]) -> list[tuple[tuple[Any, ...], Any, int]]:
        """Return (sort key, sort value, run_pk) of all runs that match, in order."""
        deadline_s = mono_s() + MAX_WALK_S
        found: list[tuple[tuple[Any, ...], Any, int]] = []
        for run in self._candidates():
            if mono_s() > deadline_s:
                raise UnavailableError(
                    f"the filter needs longer than {MAX_WALK_S:.0f} s",
                    hint="name the project, and filter by state, group or createdAt first",
                )
            view = RunView(run, self.summary_of)
            if matches(self.query.filter, view):
                value = _sortable(view.get(self.order.field))
                found.append((_sort_key(value, run.run_pk, self.order), value, run.run_pk))
        found.sort(key=lambda entry: entry[0])
        return found

    def _candidates(self) -> Iterator[RunRow]:
        """Yield the runs that SQL lets through in order of their key, a batch at a time."""
        last_pk = -1
        while True:
            past = runs.c.run_pk > last_pk
            batch = self.store.list_runs(
                self.query.entity,
                self.query.project,
                where=past if self.where is None else sa.and_(self.where, past),
                order_by=[runs.c.run_pk],
                limit=_BATCH_RUNS,
            )
            yield from batch
            if len(batch) < _BATCH_RUNS:
                return
            last_pk = batch[-1].run_pk


def _load(store: Store, pks: list[int]) -> list[RunRow]:
    loaded: dict[int, RunRow] = {}
    for start in range(0, len(pks), _BATCH_RUNS):
        part = pks[start : start + _BATCH_RUNS]
        for run in store.list_runs(where=runs.c.run_pk.in_(part), limit=len(part)):
            loaded[run.run_pk] = run
    return [loaded[pk] for pk in pks if pk in loaded]


def _sortable(value: Any) -> float | str | None:
    """Return what a value sorts by; what has no order (absent, NaN, lists, maps) sorts last, as None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is MISSING or not isinstance(value, (bool, int, float, str)):
        return None
    return (
        value
        if isinstance(value, str)
        else float(value)
        if abs(value) < 1e300
        else math.copysign(1e300, value)
    )


class _Reversed:
    """Turns the order of texts round inside a sort key."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Reversed) -> bool:
        return other.text < self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _sort_key(value: float | str | None, pk: int, order: _Order) -> tuple[Any, ...]:
    """Numbers, then texts, then what is absent, in either direction; equals by key."""
    sign = -1 if order.descending else 1
    if value is None:
        return (2, sign * pk)
    if isinstance(value, str):
        return (1, _Reversed(value) if order.descending else value, sign * pk)
    return (0, sign * value, sign * pk)


def _write_cursor(order: str, value: Any, pk: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, value, pk]).encode()).decode()


def _read_cursor(cursor: str, order: str) -> tuple[Any, int]:
    try:
        said_order, value, pk = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise _bad_cursor() from error
    fits = value is None or isinstance(value, (int, float, str))
    if said_order != order or not isinstance(pk, int) or isinstance(pk, bool) or not fits or abs(pk) > 2**62:
        raise _bad_cursor()
    if isinstance(value, (int, float)) and not abs(value) <= 1e300:
        raise _bad_cursor()
    return value, pk


def _bad_cursor() -> BadRequestError:
    return BadRequestError(
        "the cursor does not belong to this query", field="cursor", hint="start again without a cursor"
    )
