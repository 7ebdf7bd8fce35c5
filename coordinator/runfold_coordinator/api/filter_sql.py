"""Says of a run filter what SQL can decide: a condition on `runs`, and whether it decides all of it.

In: a Filter tree. Out: a condition that no matching run fails, and `exact`. Values travel as parameters,
column names come from the tables here, never from the request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.api.filters import And, Compare, Filter, Not
from runfold_coordinator.api.run_fields import canonical_field
from runfold_coordinator.store.tables import runs

_TEXT: dict[str, sa.Column[Any]] = {
    "name": runs.c.run_id,
    "displayName": runs.c.name,
    "state": runs.c.state,
    "group": runs.c.group_name,
    "jobType": runs.c.job_type,
    "sweep": runs.c.sweep,
    "host": runs.c.host,
    "username": runs.c.entity,
    "entity": runs.c.entity,
    "project": runs.c.project,
    "mode": runs.c.mode,
    "notes": runs.c.notes,
    "reason": runs.c.reason,
}
#: Longer lists are compared in Python: a statement has a limit of parameters (32,766 in SQLite).
_MAX_SQL_TEXTS = 150
#: Column and units of the column per unit of the field.
_NUMBERS: dict[str, tuple[sa.Column[Any], float]] = {
    "createdAt": (runs.c.started_unix_ns, 1e9),
    "heartbeatAt": (runs.c.updated_unix_s, 1.0),
    "lastHistoryStep": (runs.c.last_step, 1.0),
}
#: Fields that SQL can order by: never null.
ORDER_COLUMNS: dict[str, sa.Column[Any]] = {name: column for name, (column, _) in _NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """`clause` None: SQL can say nothing. `exact` False: a run that passes must still be checked."""

    clause: sa.ColumnElement[bool] | None
    exact: bool


_UNDECIDED = Condition(None, exact=False)


def condition(query: Filter) -> Condition:
    """Return what SQL can decide of `query`."""
    if isinstance(query, Compare):
        clause = _compare(canonical_field(query.field), query.op, query.value)
        return _UNDECIDED if clause is None else Condition(clause, exact=True)
    if isinstance(query, Not):
        part = condition(query.part)
        if not part.exact or part.clause is None:
            return _UNDECIDED
        return Condition(sa.not_(part.clause), exact=True)
    parts = [condition(part) for part in query.parts]
    exact = all(part.exact for part in parts)
    clauses = [part.clause for part in parts if part.clause is not None]
    if isinstance(query, And):
        return Condition(sa.and_(sa.true(), *clauses), exact)
    if len(clauses) < len(parts):
        return _UNDECIDED
    return Condition(sa.or_(sa.false(), *clauses), exact)


def _compare(field: str, op: str, value: Any) -> sa.ColumnElement[bool] | None:
    if op in ("$ne", "$nin"):
        inner = _compare(field, "$eq" if op == "$ne" else "$in", value)
        return None if inner is None else sa.not_(inner)
    if field in _TEXT:
        return _compare_text(_TEXT[field], op, value)
    if field in _NUMBERS:
        column, scale = _NUMBERS[field]
        return _compare_number(column, scale, op, value)
    return None


def _compare_text(column: sa.Column[Any], op: str, value: Any) -> sa.ColumnElement[bool] | None:
    """Equality only: the order of texts depends on the database's collation."""
    if op == "$exists":
        return column.is_not(None) if value else column.is_(None)
    wanted = value if op == "$in" else [value] if op == "$eq" else None
    if wanted is None or any(isinstance(each, (list, tuple, dict)) for each in wanted):
        return None
    texts = [each for each in wanted if isinstance(each, str)]
    if len(texts) > _MAX_SQL_TEXTS or not all(_storable(text) for text in texts):
        return None
    # `column IN (...)` alone is NULL for a NULL column, and its negation too: keep it two-valued.
    clauses = [sa.and_(column.is_not(None), column.in_(texts))]
    if None in wanted:
        clauses.append(column.is_(None))
    return sa.or_(*clauses)


def _compare_number(
    column: sa.Column[Any], scale: float, op: str, value: Any
) -> sa.ColumnElement[bool] | None:
    if op == "$exists":
        return sa.true() if value else sa.false()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        return None
    scaled = value * scale
    if not math.isfinite(scaled) or abs(scaled) > 2**62:
        return None
    number: float = round(scaled) if scale > 1 else scaled
    if op == "$eq":
        return column == number
    return {
        "$gt": column > number,
        "$gte": column >= number,
        "$lt": column < number,
        "$lte": column <= number,
    }.get(op)


def _storable(text: str) -> bool:
    """Whether a database can hold it at all; what it can't hold equals nothing, and is compared in Python."""
    try:
        return "\0" not in text and bool(text.encode() or True)
    except UnicodeEncodeError:
        return False
