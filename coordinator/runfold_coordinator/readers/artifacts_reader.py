"""Reads artifacts: one by any of its names, versions of a collection, what runs logged and used, files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import LATEST, version_index
from runfold.protocol.content_sum import is_md5_hex
from runfold_coordinator.artifacts.collections import no_such_collection
from runfold_coordinator.artifacts.errors import NoSuchArtifactError
from runfold_coordinator.artifacts.versions import USED_BY
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.readers.artifact_documents import (
    documents,
    draft_document,
    members,
    run_rows,
)
from runfold_coordinator.readers.manifest_pages import ManifestPages
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.store import Store

_v = at.artifact_versions.c
_m = at.artifact_members.c
_a = at.artifact_aliases.c
_t = at.artifact_tags.c
_c = at.artifact_collections.c
_d = at.artifact_drafts.c
_r = at.artifact_runs.c

#: Drafts that are listed beside what a run logged.
MAX_PENDING_LISTED = 1000


@dataclass(frozen=True, slots=True)
class ArtifactsPage:
    """`next_cursor` goes on where this page ends; None on the last."""

    items: list[dict[str, Any]]
    next_cursor: str | None
    total: int = 0


class ArtifactsReader:
    """Thread-safe."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._pages = ManifestPages(blobs)

    def version(self, version_id: str, *, collection_pk: int | None = None) -> dict[str, Any]:
        """Return a version as the collection shows it (None: that it was logged into).

        Raises:
            NoSuchArtifactError: There is none, or it is not in the collection.
        """
        seen_in = _v.collection_pk if collection_pk is None else sa.literal(collection_pk)
        return self._only(version_id, members().where(_v.id == version_id, _m.collection_pk == seen_in))

    def draft(self, client_id: str) -> dict[str, Any]:
        """Return what has become of a draft.

        Raises:
            NoSuchArtifactError: Nothing was heard of it.
        """
        with self._store.snapshot() as connection:
            row = connection.execute(
                sa.select(at.artifact_drafts).where(_d.client_id == client_id)
            ).one_or_none()
            if row is None:
                raise _no_such(f"draft {client_id}")
            return self._drafts(connection, [row])[0]

    def find(self, entity: str, project: str, name: str, version: str | None) -> dict[str, Any]:
        """Return the version of this name.

        Args:
            name: Of a collection; or a digest alone.
            version: "v3", an alias or a digest; None: "latest".

        Raises:
            NoSuchArtifactError: There is none; the message says which part of the name is unknown.
        """
        wanted = version or LATEST
        shown = f"{entity}/{project}/{name}:{wanted}"
        with self._store.snapshot() as connection:
            where = (_c.entity == entity, _c.project == project)
            collection = connection.execute(
                sa.select(_c.collection_pk).where(*where, _c.live_name == name)
            ).one_or_none()
            if collection is None:
                if version is None and is_md5_hex(name):
                    newest = members().where(*where, _v.digest == name, _c.live_name.is_not(None))
                    return self._first(connection, newest.order_by(_v.version_pk.desc()), name)
                raise NoSuchArtifactError(
                    "artifact_not_found", f"no artifact {entity}/{project}/{name}", field="name"
                )
            found = members().where(_m.collection_pk == collection.collection_pk)
            index = version_index(wanted)
            alias = sa.select(_a.version_pk).where(
                _a.collection_pk == collection.collection_pk, _a.alias == wanted
            )
            if index is not None:
                found = found.where(_m.index == index)
            elif is_md5_hex(wanted) and connection.execute(alias).first() is None:
                found = found.where(_v.digest == wanted).order_by(_m.index.desc())
            else:
                found = found.where(_v.version_pk.in_(alias))
            return self._first(connection, found, shown, _newest(connection, collection.collection_pk))

    def versions(
        self,
        collection_id: str,
        *,
        tags: Collection[str] = (),
        alias: str | None = None,
        digest: str | None = None,
        is_descending: bool = True,
        limit: int,
        cursor: str | None = None,
    ) -> ArtifactsPage:
        """Return versions of a collection by number.

        Raises:
            NoSuchArtifactError: There is no such collection.
            ValueError: The cursor is none.
        """
        with self._store.snapshot() as connection:
            pk = connection.execute(
                sa.select(_c.collection_pk).where(_c.id == collection_id, _c.live_name.is_not(None))
            ).scalar_one_or_none()
            if pk is None:
                raise no_such_collection(collection_id)
            where = [
                _m.collection_pk == pk,
                *(sa.exists().where(_t.version_pk == _v.version_pk, _t.tag == tag) for tag in tags),
            ]
            if alias is not None:
                named = sa.select(_a.version_pk).where(_a.collection_pk == pk, _a.alias == alias)
                where.append(_v.version_pk.in_(named))
            if digest is not None:
                where.append(_v.digest == digest)
            found = members().where(*where)
            total = connection.execute(
                sa.select(sa.func.count()).select_from(found.with_only_columns(_v.version_pk).subquery())
            ).scalar_one()
            order = _m.index.desc() if is_descending else _m.index
            if cursor is not None:
                after = _id(int(cursor))
                found = found.where(_m.index < after if is_descending else _m.index > after)
            rows = connection.execute(found.order_by(order).limit(limit + 1)).all()
            page = rows[:limit]
            following = str(page[-1].index) if len(rows) > limit else None
            return ArtifactsPage(documents(connection, page), following, total)

    def links(self, version_id: str) -> list[dict[str, Any]]:
        """Return the version as each collection shows it that it is linked into.

        Raises:
            NoSuchArtifactError: There is no such version.
        """
        self.version(version_id)
        with self._store.snapshot() as connection:
            rows = connection.execute(
                members()
                .where(_v.id == version_id, _m.collection_pk != _v.collection_pk)
                .order_by(_m.since_unix_s, _m.collection_pk)
            ).all()
            return documents(connection, rows)

    def used_by(self, version_id: str, *, limit: int, cursor: str | None = None) -> ArtifactsPage:
        """Return the runs that used a version, first use first.

        Raises:
            NoSuchArtifactError: There is no such version.
            ValueError: The cursor is none.
        """
        self.version(version_id)
        r = t.runs.c
        statement = (
            sa.select(_r.at_unix_s, _r.run_pk, _r.use_as, r.entity, r.project, r.run_id, r.name)
            .join(t.runs, r.run_pk == _r.run_pk)
            .join(at.artifact_versions, _v.version_pk == _r.version_pk)
            .where(_v.id == version_id, _r.relation == USED_BY, r.deleted_unix_s.is_(None))
        )
        order = (_r.at_unix_s, _r.run_pk, _r.use_as)
        rows, following = self._page(statement, order, limit, cursor)
        return ArtifactsPage([_use(row) for row in rows], following)

    def of_run(
        self,
        run_pk: int,
        relation: str,
        *,
        limit: int,
        cursor: str | None = None,
        include_pending: bool = False,
    ) -> ArtifactsPage:
        """Return what a run logged or used, oldest first; `total` is the number of drafts that are pending.

        With `include_pending` those, and those that failed, follow on the last page.

        Raises:
            ValueError: The cursor is none.
        """
        statement = (
            members()
            .add_columns(_r.use_as, _r.at_unix_s)
            .join(at.artifact_runs, _r.version_pk == _v.version_pk)
            .where(_r.run_pk == run_pk, _r.relation == relation, _m.collection_pk == _v.collection_pk)
        )
        order = (_r.at_unix_s, _r.version_pk, _r.use_as)
        rows, following = self._page(statement, order, limit, cursor)
        with self._store.snapshot() as connection:
            found = documents(connection, rows)
            is_open = (_d.run_pk == run_pk, _d.version_pk.is_(None))
            pending = connection.execute(
                sa.select(sa.func.count()).select_from(at.artifact_drafts).where(*is_open, _d.error.is_(None))
            ).scalar_one()
            if relation == USED_BY:
                for document, row in zip(found, rows, strict=True):
                    document |= {"use_as": row.use_as or None, "used_unix_s": row.at_unix_s}
            elif include_pending and following is None:
                drafts = connection.execute(
                    sa.select(at.artifact_drafts)
                    .where(*is_open)
                    .order_by(_d.said_unix_ns, _d.client_id)
                    .limit(MAX_PENDING_LISTED)
                ).all()
                found += self._drafts(connection, drafts)
        return ArtifactsPage(found, following, pending)

    def files(
        self,
        version_id: str,
        *,
        names: Collection[str] | None = None,
        prefix: str = "",
        limit: int,
        cursor: str | None = None,
    ) -> ArtifactsPage:
        """Return files of a version by name, as its manifest has them.

        Raises:
            NoSuchArtifactError: There is no such version.
            BlobError, OSError: The manifest can't be read now.
        """
        manifest = self.version(version_id)["manifest"]
        after = "" if cursor is None else f"{cursor}\0"  # the least name that comes after it
        first = max(after, prefix)
        if names is None:
            entries = self._pages.entries(manifest, first)
        else:
            entries = self._pages.chosen(manifest, [name for name in names if name >= first])
        found: list[dict[str, Any]] = []
        with contextlib.closing(entries):
            for name, entry in entries:
                if not name.startswith(prefix):
                    break  # names are in order: no more of this prefix
                if len(found) == limit:
                    return ArtifactsPage(found, found[-1]["name"])
                found.append({"name": name, "ref": None, "extra": {}} | entry.to_map())
        return ArtifactsPage(found, None)

    def _only(self, name: str, statement: sa.Select[Any]) -> dict[str, Any]:
        with self._store.snapshot() as connection:
            return self._first(connection, statement, name)

    def _first(
        self, connection: sa.Connection, statement: sa.Select[Any], name: str, hint: str | None = None
    ) -> dict[str, Any]:
        rows = connection.execute(statement.limit(1)).all()
        if not rows:
            raise _no_such(name, hint)
        return documents(connection, rows)[0]

    def _drafts(self, connection: sa.Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
        runs = run_rows(connection, {row.run_pk for row in rows if row.run_pk is not None})
        version_pks = [row.version_pk for row in rows if row.version_pk is not None]
        found = members().where(_v.version_pk.in_(version_pks), _m.collection_pk == _v.collection_pk)
        known = connection.execute(found).all() if version_pks else []
        by_pk = {row.version_pk: each for row, each in zip(known, documents(connection, known), strict=True)}
        return [draft_document(row, runs.get(row.run_pk), version=by_pk.get(row.version_pk)) for row in rows]

    def _page(
        self,
        statement: sa.Select[Any],
        order: tuple[sa.ColumnElement[Any], ...],
        limit: int,
        cursor: str | None,
    ) -> tuple[list[Any], str | None]:
        """Return a page by three columns (float, int, str), and its cursor: their values in the last row."""
        if cursor is not None:
            after = json.loads(cursor)
            if not isinstance(after, list) or [type(part) for part in after] != [float, int, str]:
                raise ValueError("not a cursor")
            after = [after[0], _id(after[1]), clean_text(after[2])]
            statement = statement.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
        rows = self._store.fetch(statement.order_by(*order).limit(limit + 1))
        page = rows[:limit]
        last = [getattr(page[-1], column.name) for column in order] if len(rows) > limit else None
        return page, None if last is None else json.dumps(last)


def _id(number: int) -> int:
    """Return a number that a column can be compared with.

    Raises:
        ValueError: It is none.
    """
    if not 0 <= number < 2**63:
        raise ValueError("not a cursor")
    return number


def _use(row: Any) -> dict[str, Any]:
    return {
        "entity": row.entity,
        "project": row.project,
        "run_id": row.run_id,
        "name": row.name,
        "use_as": row.use_as or None,
        "used_unix_s": row.at_unix_s,
    }


def _newest(connection: sa.Connection, collection_pk: int) -> str | None:
    """Return what people may ask for instead."""
    row = connection.execute(
        members().where(_m.collection_pk == collection_pk).order_by(_m.index.desc()).limit(1)
    ).first()
    if row is None:
        return "all of its versions have been deleted"
    lacks = ", which lacks files of some processes" if row.incomplete is not None else ""
    return f"its newest version is v{row.index}{lacks}"


def _no_such(name: str, hint: str | None = None) -> NoSuchArtifactError:
    return NoSuchArtifactError("artifact_not_found", f"no artifact {name}", field="artifact", hint=hint)
