"""What a run's records make of it: name, tags, config, definitions. Pure; the same in any order of arrival.

In: decoded records of its writers. Out: a Projection. The primary's word wins, others fill what is missing,
and what they say differently is kept as a conflict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runfold.protocol.values import pack_value
from runfold_coordinator.edits.merge import edited_config, edited_fields, merge_config
from runfold_coordinator.edits.said import Edit
from runfold_coordinator.edits.stored import pack_projection
from runfold_coordinator.ingest.branch_points import branch_points
from runfold_coordinator.ingest.writer_words import WriterWords

#: Values of one config key that are kept as a conflict, the primary's first.
MAX_CONFLICT_VALUES = 8

#: Longer ids of sweeps are cut.
MAX_SWEEP_CHARS = 128


@dataclass(frozen=True, slots=True)
class Projection:
    """The run as its row shows it."""

    primary_writer_pk: int | None
    mode: str
    group: str | None
    job_type: str | None
    fold: Any
    name: str | None
    notes: str | None
    tags: tuple[str, ...]
    config: dict[str, Any]
    conflicts: dict[str, Any]
    definitions: tuple[dict[str, Any], ...]
    started_unix_ns: int
    program: str | None
    host: str | None
    sweep: str | None = None
    #: Where it was resumed, rewound or forked from: see branch_points.py.
    branches: tuple[dict[str, Any], ...] = ()

    def to_map(self) -> dict[str, Any]:
        """Return what the store keeps beside the columns that filters use."""
        return {
            "group": self.group,
            "job_type": self.job_type,
            "fold": self.fold,
            "name": self.name,
            "notes": self.notes,
            "tags": list(self.tags),
            "config": self.config,
            "conflicts": self.conflicts,
            "definitions": list(self.definitions),
            "sweep": self.sweep,
            "branches": list(self.branches),
        }

    def pack(self) -> bytes:
        """Return it as it is stored."""
        return pack_projection(self.to_map())


def project(writers: Iterable[WriterWords], edits: Sequence[Edit] = ()) -> Projection:
    """Return the projection of one run's writers and edits; at least one writer."""
    found = sorted(writers, key=lambda writer: writer.order)
    assert found, "a run has a writer"
    # What keeps a process's output is not one of the run's processes; alone, it still tells whose run it is.
    in_order = [w for w in found if w.identity is None or w.identity.role != "console"] or found
    primary = pick_primary(in_order)
    others = [writer for writer in in_order if writer is not primary]
    ranked = [primary, *others]
    identities = [writer.identity for writer in ranked if writer.identity is not None]
    config, conflicts = merge_config(*_merge_config(ranked), edited_config(ranked, edits))
    said = Projection(
        primary_writer_pk=primary.writer_pk,
        mode=identities[0].mode if identities else "grouped",
        group=_first(identity.group for identity in identities),
        job_type=_first(identity.job_type for identity in identities),
        fold=_first(identity.fold for identity in identities),
        name=_first(writer.name for writer in ranked),
        notes=_first(writer.notes for writer in ranked),
        tags=_first(writer.tags for writer in ranked) or (),
        config=config,
        conflicts=conflicts,
        definitions=_merge_definitions(in_order),
        started_unix_ns=min(writer.started_unix_ns for writer in in_order),
        program=_first(identity.program for identity in identities),
        host=_first(identity.host for identity in identities),
        sweep=(_first(identity.sweep_id for identity in identities) or "")[:MAX_SWEEP_CHARS] or None,
        branches=tuple(branch_points(identities)),
    )
    return replace(said, **edited_fields(ranked, edits)) if edits else said


def pick_primary(in_order: list[WriterWords]) -> WriterWords:
    """Return the writer that said it is primary, else rank 0, else the first seen; of attempts, the newest.

    Args:
        in_order: By `WriterWords.order`.
    """
    said = [writer for writer in in_order if writer.identity is not None and writer.identity.primary]
    zero = [writer for writer in in_order if writer.identity is not None and writer.identity.rank == 0]
    for candidates in (said, zero):
        if candidates:
            return max(candidates, key=lambda writer: (writer.begins_unix_ns, writer.writer_id))
    is_shared = any(writer.identity is not None and writer.identity.mode == "shared" for writer in in_order)
    pick = min if is_shared else max  # several unranked writers of a grouped run are attempts of one process
    return pick(in_order, key=lambda writer: (writer.begins_unix_ns, writer.writer_id))


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None and value != ""), None)


def _merge_config(ranked: list[WriterWords]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Merge whole top-level values; a thousand writers with equal configs cost one."""
    merged: dict[str, Any] = {}
    conflicts: dict[str, list[Any]] = {}
    seen: set[bytes] = set()
    deleted = ranked[0].deleted
    for writer in ranked:
        if writer.config_digest is None:
            writer.config_digest = _digest(writer.config)
        if writer.config_digest in seen:
            continue
        seen.add(writer.config_digest)
        for key, value in writer.config.items():
            if key in deleted and writer is not ranked[0]:
                continue  # the primary took it out: another's copy does not bring it back
            if key not in merged:
                merged[key] = value
            elif not _is_same(merged[key], value):
                found = conflicts.setdefault(key, [merged[key]])
                if len(found) < MAX_CONFLICT_VALUES and not any(_is_same(value, other) for other in found):
                    found.append(value)
    return merged, conflicts


def _merge_definitions(in_order: list[WriterWords]) -> tuple[dict[str, Any], ...]:
    """Return all definitions by rank, start and seq; who said the same as one before adds nothing."""
    merged: list[dict[str, Any]] = []
    seen: set[bytes] = set()
    for writer in in_order:
        if not writer.definitions:
            continue
        if writer.definitions_digest is None:
            writer.definitions_digest = _digest(writer.definitions)
        if writer.definitions_digest not in seen:
            seen.add(writer.definitions_digest)
            merged += writer.definitions
    return tuple(merged)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(pack_projection(value)).digest()


def _is_same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or pack_value(a) == pack_value(b))
