"""Versions and collections go: hidden at once, their blobs a day later. Numbers are never given again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import LATEST
from runfold_coordinator.artifacts.collections import locked_collection
from runfold_coordinator.artifacts.errors import ArtifactInUseError, NoSuchArtifactError
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: How long a deleted version keeps its blobs, seconds.
KEEP_DELETED_S = 86_400.0
#: Parts of a version that nobody finishes are given up after so long, seconds.
KEEP_UNFINISHED_S = 30 * 86_400.0
#: Versions that go in one transaction.
_AT_ONCE = 500

_v = at.artifact_versions.c
_m = at.artifact_members.c
_a = at.artifact_aliases.c
_c = at.artifact_collections.c
_d = at.artifact_drafts.c


class Deleter:
    """Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def delete_version(self, version_id: str, *, force: bool) -> None:
        """Delete a version.

        Raises:
            NoSuchArtifactError: There is none.
            ArtifactInUseError: It has aliases, or is linked somewhere, and `force` is not given.
        """
        with self._store.writing.transaction() as tx:
            row = tx.connection.execute(
                sa.select(_v.version_pk, _v.deleted_unix_s).where(_v.id == version_id).with_for_update()
            ).one_or_none()
            if row is None or row.deleted_unix_s is not None:
                raise NoSuchArtifactError("artifact_not_found", f"no artifact {version_id}", field="artifact")
            if not force:
                _refuse_named(tx, row.version_pk)
                _refuse_linked(tx, [row.version_pk])
            self._delete(tx, [row.version_pk])

    def delete_collection(self, collection_id: str, *, force: bool) -> None:
        """Delete a collection with its versions; of one that versions are linked into, the links.

        Raises:
            NoSuchArtifactError: There is none.
            ArtifactInUseError: A version of it is linked elsewhere, and `force` is not given.
        """
        with self._store.writing.transaction() as tx:
            collection_pk = locked_collection(tx, collection_id).collection_pk
            versions = tx.connection.execute(
                sa.select(_v.version_pk).where(_v.collection_pk == collection_pk, _v.deleted_unix_s.is_(None))
            ).scalars()
            own = list(versions)
            if not force:
                _refuse_linked(tx, own)
            for some in in_slices(own):
                self._delete(tx, some)
            tx.connection.execute(sa.delete(at.artifact_aliases).where(_a.collection_pk == collection_pk))
            is_link = _m.version_pk.not_in(sa.select(_v.version_pk).where(_v.collection_pk == collection_pk))
            tx.connection.execute(
                sa.delete(at.artifact_members).where(_m.collection_pk == collection_pk, is_link)
            )
            tx.connection.execute(
                sa.update(at.artifact_collections)
                .where(_c.collection_pk == collection_pk)
                .values(live_name=None, updated_unix_s=self._clock.unix_s())
            )

    def delete_logged_by(self, run_pk: int) -> int:
        """Delete what a run has made, with aliases and links; return how many versions."""
        with self._store.writing.transaction() as tx:
            found = list(
                tx.connection.execute(
                    sa.select(_v.version_pk).where(_v.run_pk == run_pk, _v.deleted_unix_s.is_(None))
                ).scalars()
            )
            for some in in_slices(found):
                self._delete(tx, some)
        return len(found)

    def expire(self) -> int:
        """Delete versions whose time to live is over and that are linked nowhere; return how many."""
        now_unix_s = self._clock.unix_s()
        other = at.artifact_members.alias()
        is_linked = sa.exists().where(
            other.c.version_pk == _v.version_pk, other.c.collection_pk != _v.collection_pk
        )
        living = sa.select(_v.version_pk).where(_v.deleted_unix_s.is_(None), ~is_linked).limit(_AT_ONCE)
        own = living.where(_v.ttl_s.is_not(None), _v.created_unix_s + _v.ttl_s < now_unix_s)
        inherited = living.join(at.artifact_collections, _c.collection_pk == _v.collection_pk).where(
            _c.ttl_s.is_not(None), _v.ttl_is_inherited, _v.created_unix_s + _c.ttl_s < now_unix_s
        )
        count = 0
        for each in (own, inherited):
            if not self._store.fetch(each.limit(1)):
                continue  # the write lock is not taken while there are none
            with self._store.writing.transaction() as tx:
                # As it is now: somebody may have linked one meanwhile, or let it live.
                found = list(tx.connection.execute(each.with_for_update(of=at.artifact_versions)).scalars())
                self._delete(tx, found)
                count += len(found)
        return count

    def purge(self) -> int:
        """Let deleted versions go of their blobs, when they were long enough; return how many did."""
        before = self._clock.unix_s() - KEEP_DELETED_S
        is_over = (_v.deleted_unix_s.is_not(None), _v.manifest.is_not(None), _v.deleted_unix_s < before)
        return self._update_if_any(at.artifact_versions, is_over, manifest=None)

    def give_up_unfinished(self) -> int:
        """Let go of parts that nobody has finished for a long time; return how many."""
        before = self._clock.unix_s() - KEEP_UNFINISHED_S
        is_old = (
            _d.distributed_id.is_not(None),
            _d.generation.is_(None),
            _d.error.is_(None),
            sa.func.coalesce(_d.arrived_unix_s, _d.heard_unix_s) < before,
        )
        return self._update_if_any(at.artifact_drafts, is_old, error="nobody has finished it")

    def _update_if_any(self, table: sa.Table, where: Sequence[sa.ColumnElement[bool]], **values: Any) -> int:
        """Update rows; the write lock is not taken while there are none."""
        if not self._store.fetch(sa.select(sa.literal(1)).select_from(table).where(*where).limit(1)):
            return 0
        with self._store.writing.transaction() as tx:
            return int(tx.connection.execute(sa.update(table).where(*where).values(values)).rowcount)

    def _delete(self, tx: Transaction, version_pks: Collection[int]) -> None:
        now_unix_s = self._clock.unix_s()
        collections = list(
            tx.connection.execute(
                sa.select(_a.collection_pk).distinct().where(_a.version_pk.in_(version_pks))
            ).scalars()
        )
        tx.connection.execute(
            sa.update(at.artifact_versions)
            .where(_v.version_pk.in_(version_pks))
            .values(deleted_unix_s=now_unix_s, updated_unix_s=now_unix_s)
        )
        tx.connection.execute(sa.delete(at.artifact_aliases).where(_a.version_pk.in_(version_pks)))
        tx.connection.execute(
            sa.delete(at.artifact_members).where(_m.version_pk.in_(version_pks), _is_link())
        )
        restore_latest(tx, collections, int(now_unix_s * 1e9))


def restore_latest(tx: Transaction, collection_pks: Iterable[int], now_unix_ns: int) -> None:
    """Give "latest" to the newest whole version of collections that have lost it."""
    for collection_pk in collection_pks:
        has = (_a.collection_pk == collection_pk, _a.alias == LATEST)
        if tx.connection.execute(sa.select(_a.version_pk).where(*has)).first() is not None:
            continue
        newest = tx.connection.execute(
            sa.select(_m.version_pk)
            .join(at.artifact_versions, _v.version_pk == _m.version_pk)
            .where(_m.collection_pk == collection_pk, _v.deleted_unix_s.is_(None), _v.incomplete.is_(None))
            .order_by(_m.index.desc())
            .limit(1)
        ).scalar_one_or_none()
        if newest is not None:
            row = {
                "collection_pk": collection_pk,
                "alias": LATEST,
                "version_pk": newest,
                "writer_id": None,
                "said_unix_ns": now_unix_ns,
            }
            tx.insert(at.artifact_aliases, [row])


def _refuse_named(tx: Transaction, version_pk: int) -> None:
    names = list(
        tx.connection.execute(
            sa.select(_a.alias).where(_a.version_pk == version_pk).order_by(_a.alias).limit(10)
        ).scalars()
    )
    if names:
        raise ArtifactInUseError(
            "artifact_has_aliases",
            f"the artifact has aliases: {', '.join(names)}",
            field="force",
            hint="remove them first, or delete it with its aliases",
        )


def _refuse_linked(tx: Transaction, version_pks: Collection[int]) -> None:
    for some in in_slices(version_pks):
        name = tx.connection.execute(
            sa.select(_c.name)
            .join(at.artifact_members, _m.collection_pk == _c.collection_pk)
            .where(_m.version_pk.in_(some), _is_link())
            .limit(1)
        ).scalar_one_or_none()
        if name is not None:
            raise ArtifactInUseError(
                "artifact_is_linked",
                f"it is linked into {name}",
                field="force",
                hint="unlink it first, or delete it with its links",
            )


def _is_link() -> sa.ColumnElement[bool]:
    """Condition on members: in another collection than the one that the version was logged into."""
    logged = sa.select(_v.collection_pk).where(_v.version_pk == _m.version_pk)
    return _m.collection_pk != logged.correlate(at.artifact_members).scalar_subquery()
