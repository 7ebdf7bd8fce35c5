"""Versions in the database: made, named by aliases and tags, linked, tied to runs. Inside a transaction."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import LATEST
from runfold.protocol.values import pack_value
from runfold_coordinator.artifacts.collections import LINKED, LOGGED, open_collection, take_index
from runfold_coordinator.artifacts.drafts import (
    About,
    Draft,
    Target,
    split_versions,
    with_latest,
)
from runfold_coordinator.artifacts.errors import ArtifactError, ArtifactRefusedError
from runfold_coordinator.artifacts.manifest_stream import ManifestSums
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.writes import Transaction

#: Aliases of one version in a collection, and tags of one version, in all; a request has a limit of its own.
MAX_LABELS_IN_ALL = 5000
LOGGED_BY = "logged"
USED_BY = "used"

_v = at.artifact_versions.c
_m = at.artifact_members.c
_a = at.artifact_aliases.c
_c = at.artifact_collections.c
_r = at.artifact_runs.c
_t = at.artifact_tags.c


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who moves aliases, and when they said so: what one process said earlier takes nothing back."""

    writer_id: str | None
    said_unix_ns: int


@dataclass(frozen=True, slots=True)
class Made:
    """A draft that is a version now."""

    version_pk: int
    is_new: bool
    #: Aliases that were left out; links that could not be made, with the reason.
    ignored_aliases: list[str]
    link_errors: list[dict[str, str]]


def make_version(
    tx: Transaction,
    draft: Draft,
    about: About,
    sums: ManifestSums,
    *,
    manifest: str,
    now_unix_s: float,
    incomplete: Sequence[dict[str, Any]] = (),
) -> Made:
    """Make the version, or find the one with this content; give it aliases, tags and links.

    A version that lacks parts (`incomplete`) gets no alias and no link: who asks for "latest" gets the last
    whole one.

    Raises:
        ArtifactRefusedError: The collection has another type, versions are linked into it, or labels are too
            many. The transaction must not be committed then.
    """
    place = (draft.entity, draft.project, draft.name)
    collection = open_collection(tx, place, kind=LOGGED, type_name=draft.type, now_unix_s=now_unix_s)
    version_pk = None if incomplete else _same_content(tx, collection.collection_pk, sums.content_digest)
    is_new = version_pk is None
    if version_pk is None:
        version_pk = tx.new_ids()
        row = {
            "version_pk": version_pk,
            "id": secrets.token_hex(16),
            "collection_pk": collection.collection_pk,
            "client_id": draft.client_id,
            "digest": sums.digest,
            "content_digest": sums.content_digest,
            "manifest": manifest,
            "size": sums.size,
            "count": sums.count,
            "description": about.description,
            "metadata": pack_value(dict(about.metadata), max_depth=64),
            "ttl_s": about.ttl.seconds,
            "ttl_is_inherited": about.ttl.is_inherited,
            "run_pk": draft.run_pk,
            "distributed_id": draft.distributed_id,
            "incomplete": pack_value(list(incomplete)) if incomplete else None,
            "created_unix_s": now_unix_s,
            "updated_unix_s": now_unix_s,
            "deleted_unix_s": None,
        }
        tx.insert(at.artifact_versions, [row])
        add_member(tx, collection.collection_pk, version_pk, now_unix_s)
    add_tags(tx, version_pk, about.tags)
    aliases, ignored = split_versions(about.aliases)
    link_errors: list[dict[str, str]] = []
    if not incomplete:
        # What is added to the latest version is the latest one, whatever its process has said meanwhile: else
        # the next addition would begin without it.
        writer_id = None if about.incremental else draft.writer_id
        speaker = Speaker(writer_id, draft.said_unix_ns)
        move_aliases(tx, collection.collection_pk, version_pk, with_latest(aliases), speaker)
        for target, said in about.links:
            chosen, left_out = split_versions(said)
            ignored += left_out
            try:
                where = Target.parse(target, draft.entity, draft.project)
                link_version(tx, version_pk, draft.type, where, chosen, speaker, now_unix_s)
            except ArtifactError as error:
                # The version is there whatever becomes of the link: who asked is told of it.
                link_errors.append({"target": target, "error": str(error)})
    return Made(version_pk, is_new, list(dict.fromkeys(ignored)), link_errors)


def is_latest(tx: Transaction, draft: Draft, manifest: str | None, now_unix_s: float) -> bool:
    """Return whether this is the manifest of the latest version (None: there is none), and lock that so.

    Raises:
        ArtifactRefusedError: As `make_version`.
    """
    place = (draft.entity, draft.project, draft.name)
    # Locked by a statement of its own: one that waited for the lock would tell what was before the wait.
    open_collection(tx, place, kind=LOGGED, type_name=draft.type, now_unix_s=now_unix_s)
    return latest_manifest(tx.connection, *place) == manifest


def latest_manifest(connection: sa.Connection, entity: str, project: str, name: str) -> str | None:
    """Return the manifest of the collection's latest version; None where there is none."""
    found: str | None = connection.execute(
        sa.select(_v.manifest)
        .join(at.artifact_aliases, _a.version_pk == _v.version_pk)
        .join(at.artifact_collections, _c.collection_pk == _a.collection_pk)
        .where(_c.entity == entity, _c.project == project, _c.live_name == name)
        .where(_a.alias == LATEST, _v.deleted_unix_s.is_(None))
    ).scalar_one_or_none()
    return found


def add_member(tx: Transaction, collection_pk: int, version_pk: int, now_unix_s: float) -> None:
    """Make the version one of the collection's, under its next number; it is, if it was."""
    known = tx.connection.execute(
        sa.select(_m.index).where(_m.collection_pk == collection_pk, _m.version_pk == version_pk)
    ).scalar_one_or_none()
    if known is None:
        row = {
            "collection_pk": collection_pk,
            "version_pk": version_pk,
            "index": take_index(tx, collection_pk, now_unix_s),
            "since_unix_s": now_unix_s,
        }
        tx.insert(at.artifact_members, [row])


def link_version(  # noqa: PLR0917 - who links what to where
    tx: Transaction,
    version_pk: int,
    type_name: str,
    target: Target,
    aliases: Sequence[str],
    speaker: Speaker,
    now_unix_s: float,
) -> int:
    """Link the version into a collection, which is made if there is none; return its collection_pk.

    Raises:
        ArtifactRefusedError: The collection has another type, versions are logged into it, or the version
            would have too many aliases there; it is not linked then.
    """
    place = (target.entity, target.project, target.name)
    collection = open_collection(tx, place, kind=LINKED, type_name=type_name, now_unix_s=now_unix_s)
    wanted = with_latest(aliases)
    _refuse_too_many(tx, _held(collection.collection_pk, version_pk), wanted, "aliases")
    add_member(tx, collection.collection_pk, version_pk, now_unix_s)
    move_aliases(tx, collection.collection_pk, version_pk, wanted, speaker)
    return int(collection.collection_pk)


def move_aliases(
    tx: Transaction, collection_pk: int, version_pk: int, aliases: Collection[str], speaker: Speaker
) -> None:
    """Give the aliases to the version, but for those that the same process has given away since.

    Raises:
        ArtifactRefusedError: It would have too many; nothing was changed.
    """
    _refuse_too_many(tx, _held(collection_pk, version_pk), aliases, "aliases")
    for some in in_slices(dict.fromkeys(aliases)):
        where = (_a.collection_pk == collection_pk, _a.alias.in_(some))
        rows = tx.connection.execute(sa.select(_a.alias, _a.writer_id, _a.said_unix_ns).where(*where)).all()
        kept = {
            row.alias
            for row in rows
            if row.writer_id is not None
            and row.writer_id == speaker.writer_id
            and row.said_unix_ns > speaker.said_unix_ns
        }
        moving = [alias for alias in some if alias not in kept]
        tx.connection.execute(
            sa.delete(at.artifact_aliases).where(_a.collection_pk == collection_pk, _a.alias.in_(moving))
        )
        tx.insert(
            at.artifact_aliases,
            [
                {
                    "collection_pk": collection_pk,
                    "alias": alias,
                    "version_pk": version_pk,
                    "writer_id": speaker.writer_id,
                    "said_unix_ns": speaker.said_unix_ns,
                }
                for alias in moving
            ],
        )


def drop_aliases(tx: Transaction, collection_pk: int, version_pk: int, aliases: Collection[str]) -> None:
    """Take aliases from the version; those that it has not are fine."""
    for some in in_slices(dict.fromkeys(aliases)):
        tx.connection.execute(
            sa.delete(at.artifact_aliases).where(
                _a.collection_pk == collection_pk, _a.version_pk == version_pk, _a.alias.in_(some)
            )
        )


def add_tags(tx: Transaction, version_pk: int, tags: Iterable[str]) -> None:
    """Give tags to the version.

    Raises:
        ArtifactRefusedError: It would have too many; nothing was changed.
    """
    wanted = list(dict.fromkeys(tags))
    _refuse_too_many(tx, sa.select(_t.tag).where(_t.version_pk == version_pk), wanted, "tags")
    tx.insert_new(at.artifact_tags, [{"version_pk": version_pk, "tag": tag} for tag in wanted])


def relate(
    tx: Transaction,
    run_pk: int,
    relation: str,
    artifact: str,
    *,
    version_pk: int | None,
    at_unix_s: float,
    use_as: str = "",
) -> None:
    """Note that a run logged or used a version; `artifact` is its id, or the client id of a draft."""
    row = {
        "run_pk": run_pk,
        "relation": relation,
        "artifact": artifact,
        "use_as": use_as,
        "version_pk": version_pk,
        "at_unix_s": at_unix_s,
    }
    tx.insert_new(at.artifact_runs, [row])


def settle_uses(tx: Transaction, client_id: str, version_pk: int) -> None:
    """Let uses of a draft be uses of the version that it has become."""
    is_use = (_r.artifact == client_id, _r.version_pk.is_(None))
    uses = tx.connection.execute(sa.select(at.artifact_runs).where(*is_use)).all()
    if uses:
        tx.connection.execute(sa.delete(at.artifact_runs).where(*is_use))
        now = {"artifact": version_id(tx, version_pk), "version_pk": version_pk}
        # The run may have said the same by the version's own id.
        tx.insert_new(at.artifact_runs, [dict(row._mapping) | now for row in uses])  # noqa: SLF001 - public in SQLAlchemy's docs


def version_id(tx: Transaction, version_pk: int) -> str:
    """Return the id that clients know the version by."""
    return str(tx.connection.execute(sa.select(_v.id).where(_v.version_pk == version_pk)).scalar_one())


def _held(collection_pk: int, version_pk: int) -> sa.Select[Any]:
    """Return the question for the aliases that a version has in a collection."""
    return sa.select(_a.alias).where(_a.collection_pk == collection_pk, _a.version_pk == version_pk)


def _refuse_too_many(tx: Transaction, held: sa.Select[Any], more: Collection[str], what: str) -> None:
    """Raise ArtifactRefusedError where the labels that are held and these are too many together."""
    if not more:
        return
    count = tx.connection.execute(sa.select(sa.func.count()).select_from(held.subquery())).scalar_one()
    if count + len(more) <= MAX_LABELS_IN_ALL:
        return
    new = set(more).difference(tx.connection.execute(held).scalars())
    if count + len(new) > MAX_LABELS_IN_ALL:
        raise ArtifactRefusedError(
            "too_many",
            f"a version has at most {MAX_LABELS_IN_ALL} {what}: it has {count}, {len(new)} more are given",
            field=what,
            limit=MAX_LABELS_IN_ALL,
            hint=f"remove {what} that nobody needs",
        )


def _same_content(tx: Transaction, collection_pk: int, content_digest: str) -> int | None:
    found: int | None = tx.connection.execute(
        sa.select(_v.version_pk)
        .where(
            _v.collection_pk == collection_pk,
            _v.content_digest == content_digest,
            _v.deleted_unix_s.is_(None),
            _v.incomplete.is_(None),
        )
        .order_by(_v.version_pk.desc())
        .limit(1)
    ).scalar_one_or_none()
    return found
