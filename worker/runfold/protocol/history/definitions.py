"""Metric definitions of a run: merging of repeated define_metric() calls, globs, step metrics.

In: METRIC payloads (maps, None = not said) and the keys of rows. Out: which definition a key follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from runfold.protocol.history.reduce_rules import REDUCE_RULES
from runfold.protocol.keypath import KeyPath, display_name, encode_path, parse_name
from runfold.protocol.records import MetricRecord

#: Summary kinds in the order in which they are listed; "none" and "copy" are said but not kinds of value.
SUMMARY_KINDS = ("min", "max", "mean", "best", "last", "first")

Goal = Literal["minimize", "maximize"]
GOALS: tuple[str, ...] = get_args(Goal)


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """What is known of one name after all its definitions. The default is "nothing said"."""

    step_metric: str | None = None
    step_sync: bool = False
    hidden: bool = False
    #: True when the metric shall have no summary at all.
    none: bool = False
    summary: frozenset[str] = frozenset()
    goal: Goal | None = None
    reduce: str | None = None
    weight: str | None = None
    #: False for a definition that came from a glob and was never said by name.
    explicit: bool = False

    def merged(self, said: Mapping[str, Any]) -> MetricDefinition:
        """Return this definition with one more call laid over it (W&B's merge rules)."""
        changes: dict[str, Any] = {"explicit": True}
        step_metric, step_sync = said.get("step_metric"), said.get("step_sync")
        if step_metric:
            changes["step_metric"] = step_metric
        # Sync and hidden can be switched on only; a step metric alone switches sync on.
        changes["step_sync"] = self.step_sync or bool(step_metric if step_sync is None else step_sync)
        changes["hidden"] = self.hidden or bool(said.get("hidden"))
        if kinds := said.get("summary"):
            changes["none"] = "none" in kinds
            changes["summary"] = self.summary | (frozenset(kinds) & frozenset(SUMMARY_KINDS))
        if said.get("goal") in GOALS:
            changes["goal"] = said["goal"]
        if said.get("reduce") in REDUCE_RULES:
            changes["reduce"] = said["reduce"]
        if said.get("weight"):
            changes["weight"] = said["weight"]
        return replace(self, **changes)

    @property
    def summary_kinds(self) -> tuple[str, ...]:
        """Kinds in listing order."""
        return tuple(kind for kind in SUMMARY_KINDS if kind in self.summary)


_FIELDS = tuple(field.name for field in fields(MetricDefinition))


class MetricDefinitions:
    """All definitions of one run or writer.

    A glob is applied to a key when the key is first seen in a row, and for good: redefining the glob later
    changes new keys only. Of several matching globs the longest prefix wins; a definition by name beats all.
    """

    __slots__ = ("_by_path", "_globs", "_unmatched", "changes")

    def __init__(self) -> None:
        self._by_path: dict[KeyPath, MetricDefinition] = {}
        self._globs: dict[str, MetricDefinition] = {}
        self._unmatched: set[KeyPath] = set()
        #: Counts every change, so that readers can keep what they derived until it moves.
        self.changes = 0

    def apply(self, payload: MetricRecord | Mapping[str, Any]) -> KeyPath | None:
        """Take one METRIC payload. Return the path whose definition changed, None when it was a glob."""
        if isinstance(payload, MetricRecord):
            payload = payload.to_map()
        name: str = payload["name"]
        self.changes += 1
        path = None
        if name.endswith("*"):
            self._unmatched.clear()
            before = self._globs.get(name[:-1])
        else:
            path = parse_name(name)
            before = self._by_path.get(path)
        if before is None or payload.get("overwrite"):
            before = MetricDefinition()
        after = before.merged(payload)
        if path is None:
            self._globs[name[:-1]] = after
        else:
            self._by_path[path] = after
        return path

    def get(self, path: KeyPath) -> MetricDefinition | None:
        """Return the definition of exactly this path, which decides its summary. Expands nothing."""
        return self._by_path.get(path)

    def rule(self, path: KeyPath) -> MetricDefinition | None:
        """Return the definition that a logged key follows for its step metric and its reduction.

        A literal key `a.b` follows a definition named `a.b` too, as in W&B, though that names the nested key.
        """
        found = self._by_path.get(path)
        if found is None and any("." in part for part in path):
            found = self._by_path.get(tuple(display_name(path).split(".")))
        return found

    def see(self, path: KeyPath) -> MetricDefinition | None:
        """Tell that a row has this key. Return a definition only when a glob was applied to it just now."""
        if path in self._by_path or path in self._unmatched or self.rule(path) is not None:
            return None
        glob = self._matching_glob(path)
        if glob is None:
            self._unmatched.add(path)
            return None
        self.changes += 1
        self._by_path[path] = expanded = replace(glob, explicit=False)
        return expanded

    def _matching_glob(self, path: KeyPath) -> MetricDefinition | None:
        if not self._globs:
            return None
        name = display_name(path)
        if name.startswith("_"):  # internal keys are matched by no glob, not even by "_*"
            return None
        prefix = max((prefix for prefix in self._globs if name.startswith(prefix)), key=len, default=None)
        return None if prefix is None else self._globs[prefix]

    def synced_step(self, path: KeyPath) -> str | None:
        """Return the step metric to insert into rows that have this key, None when there is none."""
        rule = self.rule(path)
        return rule.step_metric if rule is not None and rule.step_sync else None

    def step_chain(self, path: KeyPath) -> Iterator[str]:
        """Yield the step metrics of a key: its own, then that one's, to the end; a circle ends the chain."""
        seen: set[str] = set()
        name = self.synced_step(path)
        while name and name not in seen:
            seen.add(name)
            yield name
            name = self.synced_step(parse_name(name))

    def to_public(self) -> list[dict[str, Any]]:
        """Return the definitions as users read them: first the named, then the globs, each sorted by name."""
        named = sorted((encode_path(path), definition) for path, definition in self._by_path.items())
        globs = sorted((prefix + "*", definition) for prefix, definition in self._globs.items())
        return [_public(name, definition, is_glob=False) for name, definition in named] + [
            _public(name, definition, is_glob=True) for name, definition in globs
        ]

    def items(self) -> Iterator[tuple[KeyPath, MetricDefinition]]:
        """Yield the named definitions, expansions included, in the order in which they appeared."""
        return iter(self._by_path.items())

    def to_state(self) -> list[Any]:
        """Return all of it as a msgpack-able value."""
        named = [[list(path), definition_state(d)] for path, d in self._by_path.items()]
        return [1, named, [[prefix, definition_state(d)] for prefix, d in self._globs.items()]]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Rebuild what to_state() returned."""
        restored = cls()
        _version, named, globs = state
        restored._by_path = {tuple(path): definition_from(values) for path, values in named}
        restored._globs = {prefix: definition_from(values) for prefix, values in globs}
        return restored


def _public(name: str, definition: MetricDefinition, *, is_glob: bool) -> dict[str, Any]:
    summary = ("none",) if definition.none else ()
    return {
        "name": name,
        "glob": is_glob,
        "step_metric": definition.step_metric,
        "step_sync": definition.step_sync,
        "hidden": definition.hidden,
        "summary": [*definition.summary_kinds, *summary],
        "goal": definition.goal,
        "reduce": definition.reduce,
        "weight": definition.weight,
        "explicit": definition.explicit,
    }


def definition_state(definition: MetricDefinition) -> list[Any]:
    """Return a definition as a msgpack-able value."""
    values = {name: getattr(definition, name) for name in _FIELDS}
    return [*({**values, "summary": list(definition.summary_kinds)}).values()]


def definition_from(values: list[Any]) -> MetricDefinition:
    """Rebuild what definition_state() returned."""
    known = dict(zip(_FIELDS, values, strict=True))
    return MetricDefinition(**{**known, "summary": frozenset(known["summary"])})
