"""Artifacts as clients see them: documents of versions, through a collection, and of drafts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.artifacts.collections import LINKED
from runfold_coordinator.artifacts.drafts import About
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.slices import in_slices

_v = at.artifact_versions.c
_m = at.artifact_members.c
_a = at.artifact_aliases.c
_t = at.artifact_tags.c
_c = at.artifact_collections.c
_r = t.runs.c

SAID, PENDING, COMMITTED, FAILED, DELETED = "said", "pending", "committed", "failed", "deleted"


def members() -> sa.Select[Any]:
    """Return the statement for rows that `documents` takes: versions as members of living collections."""
    return (
        sa.select(
            at.artifact_versions,
            _m.index,
            _m.since_unix_s,
            _m.collection_pk.label("seen_in_pk"),
            _c.id.label("collection_id"),
            _c.entity,
            _c.project,
            _c.name,
            _c.kind,
            _c.type,
        )
        .join(at.artifact_members, _m.version_pk == _v.version_pk)
        .join(at.artifact_collections, _c.collection_pk == _m.collection_pk)
        .where(_v.deleted_unix_s.is_(None))
    )


def documents(connection: sa.Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the documents of rows of `members()`, in their order."""
    version_pks = {row.version_pk for row in rows}
    aliases = _aliases(connection, version_pks)
    tags = _tags(connection, version_pks)
    sources = _sources(connection, version_pks)
    runs = run_rows(connection, {row.run_pk for row in rows if row.run_pk is not None})
    return [
        _document(
            row,
            aliases.get((row.seen_in_pk, row.version_pk), []),
            tags.get(row.version_pk, []),
            sources[row.version_pk],
            runs.get(row.run_pk),
        )
        for row in rows
    ]


def draft_document(row: Any, run: Any, *, version: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the document of a draft: that of its version, if it is one, with what is known of the draft.

    Args:
        row: Of artifact_drafts.
        run: (entity, project, run_id, name) of its run, or None.
        version: Its version's document; None where it is none, or was deleted.
    """
    about = About.unpack(row.about)
    found = version or {
        "id": None,
        "entity": row.entity,
        "project": row.project,
        "collection": row.name,
        "collection_id": None,
        "version": None,
        "aliases": list(about.aliases),
        "is_link": False,
        "linked_unix_s": None,
        "source": None,
        "type": row.type,
        "description": about.description,
        "metadata": dict(about.metadata),
        "tags": list(about.tags),
        "digest": row.digest,
        "manifest": row.manifest,
        "size": row.size,
        "count": row.count,
        "ttl_s": about.ttl.seconds,
        "ttl_is_inherited": about.ttl.is_inherited,
        "expires_unix_s": None,
        "created_unix_s": row.heard_unix_s,
        "updated_unix_s": row.arrived_unix_s or row.heard_unix_s,
        "logged_by": _run_document(run),
        "distributed_id": row.distributed_id,
        "incomplete": None,
    }
    return found | {
        "client_id": row.client_id,
        "state": draft_state(row, is_there=version is not None),
        "error": row.error,
        "waits_for": row.waits_for,
        "said_unix_s": row.said_unix_ns / 1e9,
    }


def draft_state(row: Any, *, is_there: bool) -> str:
    """Return what has become of a draft; `is_there`: its version was not deleted."""
    if row.version_pk is not None:
        return COMMITTED if is_there else DELETED
    if row.error is not None:
        return FAILED
    return SAID if row.arrived_unix_s is None else PENDING


def run_rows(connection: sa.Connection, run_pks: Collection[int]) -> dict[int, Any]:
    """Return (run_pk, entity, project, run_id, name) of runs that were not deleted."""
    found: dict[int, Any] = {}
    for some in in_slices(sorted(run_pks)):
        rows = connection.execute(
            sa.select(_r.run_pk, _r.entity, _r.project, _r.run_id, _r.name).where(
                _r.run_pk.in_(some), _r.deleted_unix_s.is_(None)
            )
        )
        found |= {row.run_pk: row for row in rows}
    return found


def _document(row: Any, aliases: list[str], tags: list[str], source: Any, run: Any) -> dict[str, Any]:
    ttl_s = source.ttl_s if row.ttl_is_inherited else row.ttl_s
    return {
        "id": row.id,
        "client_id": row.client_id,
        "state": COMMITTED,
        "entity": row.entity,
        "project": row.project,
        "collection": row.name,
        "collection_id": row.collection_id,
        "version": f"v{row.index}",
        "aliases": aliases,
        "is_link": row.kind == LINKED,
        "linked_unix_s": row.since_unix_s if row.kind == LINKED else None,
        "source": {
            "entity": source.entity,
            "project": source.project,
            "collection": source.name,
            "collection_id": source.id,
            "version": f"v{source.index}",
        },
        "type": row.type,
        "description": row.description,
        "metadata": unpack_stored(row.metadata),
        "tags": tags,
        "digest": row.digest,
        "content_digest": row.content_digest,
        "manifest": row.manifest,
        "size": row.size,
        "count": row.count,
        "ttl_s": ttl_s,
        "ttl_is_inherited": row.ttl_is_inherited,
        "expires_unix_s": None if ttl_s is None else row.created_unix_s + ttl_s,
        "created_unix_s": row.created_unix_s,
        "updated_unix_s": row.updated_unix_s,
        "logged_by": _run_document(run),
        "distributed_id": row.distributed_id,
        "incomplete": None if row.incomplete is None else {"missing": unpack_stored(row.incomplete)},
    }


def _run_document(run: Any) -> dict[str, Any] | None:
    if run is None:
        return None
    return {"entity": run.entity, "project": run.project, "run_id": run.run_id, "name": run.name}


def _aliases(connection: sa.Connection, version_pks: Collection[int]) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for some in in_slices(sorted(version_pks)):
        statement = sa.select(_a.collection_pk, _a.version_pk, _a.alias).where(_a.version_pk.in_(some))
        for row in connection.execute(statement.order_by(_a.alias)):
            found.setdefault((row.collection_pk, row.version_pk), []).append(row.alias)
    return found


def _tags(connection: sa.Connection, version_pks: Collection[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for some in in_slices(sorted(version_pks)):
        statement = sa.select(_t.version_pk, _t.tag).where(_t.version_pk.in_(some)).order_by(_t.tag)
        for row in connection.execute(statement):
            found.setdefault(row.version_pk, []).append(row.tag)
    return found


def _sources(connection: sa.Connection, version_pks: Collection[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for some in in_slices(sorted(version_pks)):
        rows = connection.execute(
            sa.select(_v.version_pk, _c.entity, _c.project, _c.name, _c.id, _c.ttl_s, _m.index)
            .join(at.artifact_collections, _c.collection_pk == _v.collection_pk)
            .join(
                at.artifact_members,
                sa.and_(_m.collection_pk == _v.collection_pk, _m.version_pk == _v.version_pk),
            )
            .where(_v.version_pk.in_(some))
        )
        found |= {row.version_pk: row for row in rows}
    return found
