"""Reads collections of artifacts and the types that a project has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import LATEST
from runfold_coordinator.artifacts.collections import no_such_collection
from runfold_coordinator.readers.artifacts_reader import ArtifactsPage
from runfold_coordinator.readers.name_patterns import fits
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

_c = at.artifact_collections.c
_m = at.artifact_members.c
_v = at.artifact_versions.c
_a = at.artifact_aliases.c
#: Aliases of one collection in a document.
MAX_ALIASES = 10_000


class CollectionsReader:
    """Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def types(self, entity: str, project: str) -> list[dict[str, Any]]:
        """Return the types of a project's collections, by name."""
        rows = self._store.fetch(
            sa.select(_c.type, sa.func.count().label("number"))
            .where(_c.entity == entity, _c.project == project, _c.live_name.is_not(None))
            .group_by(_c.type)
            .order_by(_c.type)
        )
        return [{"name": row.type, "collection_count": row.number} for row in rows]

    def collection(self, collection_id: str) -> dict[str, Any]:
        """Return one collection.

        Raises:
            NoSuchArtifactError: There is none.
        """
        rows = self._store.fetch(_living().where(_c.id == collection_id))
        if not rows:
            raise no_such_collection(collection_id)
        return self._documents(rows)[0]

    def collections(
        self,
        entity: str,
        project: str,
        *,
        type_name: str | None = None,
        name: str | None = None,
        pattern: str | None = None,
        kind: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> ArtifactsPage:
        """Return collections by name.

        Args:
            pattern: Of names, as in SQL's LIKE; the case counts.
            kind: "logged" or "linked".
        """
        statement = _living().where(_c.entity == entity, _c.project == project)
        for column, value in ((_c.type, type_name), (_c.live_name, name), (_c.kind, kind)):
            if value is not None:
                statement = statement.where(column == value)
        if pattern is not None:
            statement = statement.where(fits(self._store, _c.live_name, pattern))
        if cursor is not None:
            statement = statement.where(_c.live_name > cursor)
        rows = self._store.fetch(statement.order_by(_c.live_name).limit(limit + 1))
        page = rows[:limit]
        return ArtifactsPage(self._documents(page), page[-1].name if len(rows) > limit else None)

    def _documents(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        pks = [row.collection_pk for row in rows]
        counts, aliases, latest = dict[int, int](), dict[int, list[str]](), dict[int, str]()
        with self._store.snapshot() as connection:
            for some in in_slices(pks):
                counts |= {
                    row.collection_pk: row.number
                    for row in connection.execute(
                        sa.select(_m.collection_pk, sa.func.count().label("number"))
                        .join(at.artifact_versions, _v.version_pk == _m.version_pk)
                        .where(_m.collection_pk.in_(some), _v.deleted_unix_s.is_(None))
                        .group_by(_m.collection_pk)
                    )
                }
                named = (
                    sa.select(_a.collection_pk, _a.alias, _m.index)
                    .join(
                        at.artifact_members,
                        sa.and_(_m.collection_pk == _a.collection_pk, _m.version_pk == _a.version_pk),
                    )
                    .where(_a.collection_pk.in_(some))
                    .order_by(_a.alias)
                )
                for row in connection.execute(named):
                    of_it = aliases.setdefault(row.collection_pk, [])
                    if len(of_it) < MAX_ALIASES:
                        of_it.append(row.alias)
                    if row.alias == LATEST:
                        latest[row.collection_pk] = f"v{row.index}"
        return [
            {
                "id": row.id,
                "entity": row.entity,
                "project": row.project,
                "name": row.name,
                "type": row.type,
                "kind": row.kind,
                "description": row.description,
                "tags": row.tags_json,
                "aliases": aliases.get(row.collection_pk, []),
                "version_count": counts.get(row.collection_pk, 0),
                "latest": latest.get(row.collection_pk),
                "ttl_s": row.ttl_s,
                "created_unix_s": row.created_unix_s,
            }
            for row in rows
        ]


def _living() -> sa.Select[Any]:
    return sa.select(at.artifact_collections).where(_c.live_name.is_not(None))
