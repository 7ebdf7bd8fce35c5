"""Collections: made by the first version that is logged or linked into them, of one type for ever."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.artifacts.errors import ArtifactRefusedError, NoSuchArtifactError
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.writes import Transaction

LOGGED = "logged"
LINKED = "linked"

_c = at.artifact_collections.c


def open_collection(
    tx: Transaction, place: tuple[str, str, str], *, kind: str, type_name: str, now_unix_s: float
) -> Any:
    """Return the row of a collection (entity, project, name), locked; make it if there is none.

    Raises:
        ArtifactRefusedError: It has another type, or is of the other kind.
    """
    entity, project, name = place
    where = (_c.entity == entity, _c.project == project, _c.live_name == name)
    found = _locked(tx, *where)
    if found is None:
        row = {
            "collection_pk": tx.new_ids(),
            "id": secrets.token_hex(16),
            "entity": entity,
            "project": project,
            "name": name,
            "live_name": name,
            "kind": kind,
            "type": type_name,
            "description": None,
            "tags_json": [],
            "ttl_s": None,
            "next_index": 0,
            "created_unix_s": now_unix_s,
            "updated_unix_s": now_unix_s,
        }
        # Another process may have made it meanwhile: then its row is the one that counts.
        tx.insert_new(at.artifact_collections, [row])
        found = _locked(tx, *where)
    path = "/".join(place)
    if found.kind != kind:
        is_linked = found.kind == LINKED
        raise ArtifactRefusedError(
            "collection_is_linked" if is_linked else "collection_is_logged",
            f"versions are {'linked' if is_linked else 'logged'} into {path}, not {kind}: use another name",
            field="name" if kind == LOGGED else "target",
        )
    if found.type != type_name:
        raise ArtifactRefusedError(
            "type_mismatch",
            f"artifact {path} already exists with type {found.type!r}; cannot create another with type "
            f"{type_name!r}",
            field="type",
            hint="use another name, or the type that it has",
        )
    return found


def locked_collection(tx: Transaction, collection_id: str) -> Any:
    """Return the row of a living collection, locked.

    Raises:
        NoSuchArtifactError: There is none.
    """
    found = _locked(tx, _c.id == collection_id, _c.live_name.is_not(None))
    if found is None:
        raise no_such_collection(collection_id)
    return found


def no_such_collection(name: str) -> NoSuchArtifactError:
    """Return the error for a collection that is not there."""
    return NoSuchArtifactError("collection_not_found", f"no artifact collection {name}", field="collection")


def take_index(tx: Transaction, collection_pk: int, now_unix_s: float) -> int:
    """Return the number of a new version of the collection."""
    following = tx.connection.execute(
        sa.update(at.artifact_collections)
        .where(_c.collection_pk == collection_pk)
        .values(next_index=_c.next_index + 1, updated_unix_s=now_unix_s)
        .returning(_c.next_index)
    ).scalar_one()
    return int(following) - 1


def _locked(tx: Transaction, *where: sa.ColumnElement[bool]) -> Any:
    return tx.connection.execute(
        sa.select(at.artifact_collections).where(*where).with_for_update()
    ).one_or_none()
