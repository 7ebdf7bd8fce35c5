"""Changes to what is there: descriptions, metadata, tags, aliases, time to live, links, uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import check_name, version_index
from runfold.protocol.values import pack_value
from runfold_coordinator.artifacts.collections import LINKED, locked_collection
from runfold_coordinator.artifacts.deleting import restore_latest
from runfold_coordinator.artifacts.drafts import (
    Target,
    Ttl,
    checked_aliases,
    checked_description,
    checked_metadata,
    checked_tags,
    with_latest,
    with_name,
)
from runfold_coordinator.artifacts.errors import (
    ArtifactInUseError,
    ArtifactRefusedError,
    NoSuchArtifactError,
)
from runfold_coordinator.artifacts.versions import (
    LOGGED_BY,
    USED_BY,
    Speaker,
    add_tags,
    drop_aliases,
    link_version,
    move_aliases,
    relate,
)
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

_v = at.artifact_versions.c
_m = at.artifact_members.c
_a = at.artifact_aliases.c
_t = at.artifact_tags.c
_c = at.artifact_collections.c
MAX_USE_AS_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Labels:
    """What is to become of a list of labels: replaced (None: not), then more, then less."""

    all: Sequence[str] | None = None
    add: Sequence[str] = ()
    remove: Sequence[str] = ()


class Editor:
    """Thread-safe. `changes` name what is to change; everything else stays."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def edit_version(
        self,
        version_id: str,
        changes: Mapping[str, Any],
        *,
        tags: Labels = Labels(),
        aliases: Labels = Labels(),
        collection_id: str | None = None,
    ) -> int | None:
        """Change a version; return the collection_pk of the aliases that were meant.

        Args:
            changes: Of description, metadata, ttl_s ("inherit", None or seconds).
            collection_id: Whose aliases; None: of the collection that it was logged into.

        Raises:
            NoSuchArtifactError: There is no such version, or it is not in the collection.
            ArtifactRefusedError: A value is not what it should be.
        """
        now_unix_s = self._clock.unix_s()
        values: dict[str, Any] = {"updated_unix_s": now_unix_s}
        if "description" in changes:
            values["description"] = checked_description(changes["description"])
        if "metadata" in changes:
            values["metadata"] = pack_value(dict(checked_metadata(changes["metadata"])), max_depth=64)
        if "ttl_s" in changes:
            ttl = Ttl.parse(changes["ttl_s"])
            values |= {"ttl_s": ttl.seconds, "ttl_is_inherited": ttl.is_inherited}
        with self._store.writing.transaction() as tx:
            row = locked_version(tx, version_id)
            tx.connection.execute(
                sa.update(at.artifact_versions).where(_v.version_pk == row.version_pk).values(values)
            )
            _edit_tags(tx, row.version_pk, tags)
            collection_pk = _membership(tx, row, collection_id)
            _edit_aliases(tx, collection_pk, row.version_pk, aliases, Speaker(None, int(now_unix_s * 1e9)))
        return collection_pk

    def edit_collection(
        self, collection_id: str, changes: Mapping[str, Any], *, tags: Labels = Labels()
    ) -> None:
        """Change a collection.

        Args:
            changes: Of name, description, ttl_s (None or seconds).

        Raises:
            NoSuchArtifactError: There is none.
            ArtifactInUseError: The name is another's.
            ArtifactRefusedError: A value is not what it should be.
        """
        values: dict[str, Any] = {"updated_unix_s": self._clock.unix_s()}
        if "description" in changes:
            values["description"] = checked_description(changes["description"])
        if "ttl_s" in changes:
            if changes["ttl_s"] == "inherit":
                raise ArtifactRefusedError(
                    "bad_ttl", "a collection has nobody to inherit from", field="ttl_s"
                )
            values["ttl_s"] = Ttl.parse(changes["ttl_s"]).seconds
        with self._store.writing.transaction() as tx:
            row = locked_collection(tx, collection_id)
            if changes.get("name", row.name) != row.name:
                name = str(changes["name"])
                with_name(lambda: check_name(name), "name")
                taken = (_c.entity == row.entity, _c.project == row.project, _c.live_name == name)
                if tx.connection.execute(sa.select(_c.id).where(*taken)).first() is not None:
                    raise ArtifactInUseError("name_taken", f"there is a collection {name}", field="name")
                values |= {"name": name, "live_name": name}
            values["tags_json"] = list(_labelled(row.tags_json, tags))
            tx.connection.execute(
                sa.update(at.artifact_collections).where(_c.collection_pk == row.collection_pk).values(values)
            )

    def link(self, version_id: str, target: str, aliases: Sequence[str]) -> int:
        """Link a version into a collection, which is made if there is none; return its collection_pk.

        Raises:
            NoSuchArtifactError: There is no such version.
            ArtifactRefusedError: The target is none, or has another type; an alias may not be.
        """
        now_unix_s = self._clock.unix_s()
        chosen = _no_versions(checked_aliases(aliases))
        with self._store.writing.transaction() as tx:
            row = locked_version(tx, version_id)
            source = tx.connection.execute(
                sa.select(_c.entity, _c.project, _c.type).where(_c.collection_pk == row.collection_pk)
            ).one()
            where = Target.parse(target, source.entity, source.project)
            speaker = Speaker(None, int(now_unix_s * 1e9))
            return link_version(tx, row.version_pk, source.type, where, chosen, speaker, now_unix_s)

    def unlink(self, version_id: str, collection_id: str) -> None:
        """Take a link back.

        Raises:
            NoSuchArtifactError: The version is not linked there.
        """
        with self._store.writing.transaction() as tx:
            row = locked_version(tx, version_id)
            collection = locked_collection(tx, collection_id)
            collection_pk = collection.collection_pk
            found = tx.connection.execute(
                sa.delete(at.artifact_members).where(
                    _m.collection_pk == collection_pk,
                    _m.version_pk == row.version_pk,
                    sa.literal(collection.kind == LINKED),
                )
            )
            if not found.rowcount:
                raise NoSuchArtifactError(
                    "link_not_found", "the version is not linked into this collection", field="collection"
                )
            tx.connection.execute(
                sa.delete(at.artifact_aliases).where(
                    _a.collection_pk == collection_pk, _a.version_pk == row.version_pk
                )
            )
            restore_latest(tx, [collection_pk], int(self._clock.unix_s() * 1e9))

    def use(self, run_pk: int, version_id: str, use_as: str | None) -> None:
        """Note that the run used a version; NoSuchArtifactError if there is none."""
        if len(use_as or "") > MAX_USE_AS_CHARS:
            raise ArtifactRefusedError("too_long", "too long", field="use_as", limit=MAX_USE_AS_CHARS)
        with self._store.writing.transaction() as tx:
            row = locked_version(tx, version_id)
            self._relate(tx, run_pk, USED_BY, row, clean_text(use_as or ""))

    def log(self, run_pk: int, version_id: str, aliases: Sequence[str], tags: Sequence[str]) -> None:
        """Note that the run brought a version that is there; it gets aliases and tags.

        Raises:
            NoSuchArtifactError: There is no such version.
            ArtifactRefusedError: An alias or a tag may not be.
        """
        chosen = with_latest(_no_versions(checked_aliases(aliases)))
        more = checked_tags(tags)
        with self._store.writing.transaction() as tx:
            row = locked_version(tx, version_id)
            self._relate(tx, run_pk, LOGGED_BY, row, "")
            add_tags(tx, row.version_pk, more)
            speaker = Speaker(None, int(self._clock.unix_s() * 1e9))
            move_aliases(tx, row.collection_pk, row.version_pk, chosen, speaker)

    def _relate(self, tx: Transaction, run_pk: int, relation: str, row: Any, use_as: str) -> None:
        relate(
            tx,
            run_pk,
            relation,
            row.id,
            version_pk=row.version_pk,
            at_unix_s=self._clock.unix_s(),
            use_as=use_as,
        )


def locked_version(tx: Transaction, version_id: str) -> Any:
    """Return the row of a living version, locked.

    Raises:
        NoSuchArtifactError: There is none.
    """
    row = tx.connection.execute(
        sa.select(at.artifact_versions).where(_v.id == version_id).with_for_update()
    ).one_or_none()
    if row is None or row.deleted_unix_s is not None:
        what = "has been deleted" if row is not None else "is not here"
        raise NoSuchArtifactError("artifact_not_found", f"artifact {version_id} {what}", field="artifact")
    return row


def _membership(tx: Transaction, row: Any, collection_id: str | None) -> int:
    if collection_id is None:
        return int(row.collection_pk)
    collection = locked_collection(tx, collection_id)
    where = (_m.collection_pk == collection.collection_pk, _m.version_pk == row.version_pk)
    if tx.connection.execute(sa.select(_m.index).where(*where)).first() is None:
        raise NoSuchArtifactError(
            "artifact_not_found", f"artifact {row.id} is not in {collection.name}", field="collection"
        )
    return int(collection.collection_pk)


def _edit_tags(tx: Transaction, version_pk: int, tags: Labels) -> None:
    removed = checked_tags(tags.remove)
    gone = _t.tag.not_in(checked_tags(tags.all)) if tags.all is not None else _t.tag.in_(removed)
    if tags.all is not None or removed:
        tx.connection.execute(sa.delete(at.artifact_tags).where(_t.version_pk == version_pk, gone))
    wanted = [*(checked_tags(tags.all) if tags.all is not None else ()), *checked_tags(tags.add)]
    add_tags(tx, version_pk, [tag for tag in wanted if tag not in removed])


def _edit_aliases(
    tx: Transaction, collection_pk: int, version_pk: int, aliases: Labels, speaker: Speaker
) -> None:
    removed = set(map(clean_text, aliases.remove))
    wanted = _no_versions(checked_aliases([*(aliases.all or ()), *aliases.add]))
    if aliases.all is not None:
        c = _a.collection_pk == collection_pk
        has = set(tx.connection.execute(sa.select(_a.alias).where(c, _a.version_pk == version_pk)).scalars())
        removed |= has - set(wanted)
    drop_aliases(tx, collection_pk, version_pk, removed)
    move_aliases(tx, collection_pk, version_pk, [alias for alias in wanted if alias not in removed], speaker)


def _labelled(has: Sequence[str], tags: Labels) -> tuple[str, ...]:
    wanted = checked_tags([*(has if tags.all is None else tags.all), *tags.add])
    return tuple(tag for tag in wanted if tag not in set(tags.remove))


def _no_versions(aliases: Sequence[str]) -> Sequence[str]:
    """Return the aliases.

    Raises:
        ArtifactRefusedError: One looks like a version.
    """
    for alias in aliases:
        if version_index(alias) is not None:
            raise ArtifactRefusedError(
                "bad_name", f"{alias!r} is no alias: it means a version by its number", field="aliases"
            )
    return aliases
