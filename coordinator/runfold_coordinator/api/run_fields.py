"""The fields of a run that filters and orders may name: their aliases, their values, their allow-list. Pure.

In: a field name and a RunRow. Out: a plain value to compare, or MISSING.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runfold_coordinator.store.model import RunRow


class _Missing:
    """Stands for a field that a run does not have; None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()

#: Longest field name, in characters (a metric key may be long).
MAX_FIELD_CHARS = 4096


class RunFieldError(ValueError):
    """Nobody may filter or order by this name; `hint` lists what there is."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _ended_unix_ns(run: RunRow) -> int:
    return run.ended_unix_ns or max(run.last_record_unix_ns, run.started_unix_ns)


#: Every name that is not under config. or summary_metrics., W&B's spellings first.
_FIELDS: dict[str, Callable[[RunRow], Any]] = {
    "name": lambda run: run.run_id,  # W&B's `name` in filters is the id, `displayName` is what people see
    "displayName": lambda run: run.name,
    "state": lambda run: run.state,
    "createdAt": lambda run: run.started_unix_ns / 1e9,
    "heartbeatAt": lambda run: run.updated_unix_s,
    "duration": lambda run: (_ended_unix_ns(run) - run.started_unix_ns) / 1e9,
    "group": lambda run: run.group,
    "jobType": lambda run: run.job_type,
    "sweep": lambda run: run.sweep,
    "host": lambda run: run.host,
    "tags": lambda run: list(run.tags),
    "username": lambda run: run.entity,
    "entity": lambda run: run.entity,
    "project": lambda run: run.project,
    "notes": lambda run: run.notes,
    "fold": lambda run: run.fold,
    "mode": lambda run: run.mode,
    "reason": lambda run: run.reason,
    "lastHistoryStep": lambda run: run.last_step,
}
_ALIASES = {
    "display_name": "displayName",
    "created_at": "createdAt",
    "heartbeat_at": "heartbeatAt",
    "job_type": "jobType",
    "id": "name",
    "run_id": "name",
    "last_history_step": "lastHistoryStep",
    "user": "username",
    "sweepName": "sweep",
    "sweep_name": "sweep",
    "sweep_id": "sweep",
}
_TIMES = frozenset({"createdAt", "heartbeatAt"})
_TREES = {"config": "config", "summary_metrics": "summary", "summaryMetrics": "summary", "summary": "summary"}


def canonical_field(name: str) -> str:
    """Return the one spelling of a field that is not in a tree."""
    return _ALIASES.get(name, name)


def tree_path(name: str) -> tuple[str, list[str]] | None:
    """Return ("config" | "summary", parts) of a dotted name in a tree, or None."""
    root, dot, rest = name.partition(".")
    return (_TREES[root], rest.split(".")) if dot and rest and root in _TREES else None


def check_field(name: str) -> None:
    """Accept a name that runs may be filtered and ordered by.

    Raises:
        RunFieldError: There is no such field.
    """
    if len(name) > MAX_FIELD_CHARS:
        raise RunFieldError(
            f"a field name of {len(name)} characters is too long", f"at most {MAX_FIELD_CHARS}"
        )
    if tree_path(name) is None and canonical_field(name) not in _FIELDS:
        known = ", ".join([*_FIELDS, "config.<key>", "summary_metrics.<key>"])
        raise RunFieldError(f"unknown field {name!r}", f"fields: {known}")


def comparable(name: str, value: Any) -> Any:
    """Return a filter's value in the unit of the field: times may be said in ISO 8601 or as unix seconds.

    A text that is no time is kept; it equals nothing and orders with nothing.
    """
    if canonical_field(name) not in _TIMES or not isinstance(value, str):
        return value
    try:
        moment = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        return value
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


class RunView:
    """One run, as filters and orders see it."""

    def __init__(self, run: RunRow, summary_of: Callable[[RunRow], Mapping[str, Any]] | None = None) -> None:
        """Take the run; `summary_of` gives its summary when a field asks for it, else what the row holds."""
        self._run = run
        self._summary_of = summary_of

    def get(self, field: str) -> Any:
        """Return the value of a field that `check_field` accepts, or MISSING."""
        path = tree_path(field)
        if path is None:
            value = _FIELDS[canonical_field(field)](self._run)
            return MISSING if value is None else value
        root, parts = path
        if root == "config":
            return lookup(self._run.config, parts)
        return lookup(self._run.summary if self._summary_of is None else self._summary_of(self._run), parts)


def lookup(tree: Any, parts: Sequence[str]) -> Any:
    """Return what stands at a dotted path, or MISSING.

    A part of the path may itself contain dots (a key "a.b" logged as such). W&B spells config paths with
    `.value` after the key; where no such key exists, that word is passed over.
    """
    found = _walk(tree, parts, 0, set())
    if found is MISSING and "value" in parts:
        at = parts.index("value")
        found = _walk(tree, [*parts[:at], *parts[at + 1 :]], 0, set())
    return found


def _walk(tree: Any, parts: Sequence[str], start: int, failed: set[tuple[int, int]]) -> Any:
    """Look for parts[start:] in `tree`. `failed` keeps what led nowhere, so that no place is tried twice."""
    if start == len(parts):
        return tree
    if not isinstance(tree, Mapping) or (id(tree), start) in failed:
        return MISSING
    for end in range(start + 1, len(parts) + 1):
        key = ".".join(parts[start:end])
        if key in tree:
            found = _walk(tree[key], parts, end, failed)
            if found is not MISSING:
                return found
    failed.add((id(tree), start))
    return MISSING
