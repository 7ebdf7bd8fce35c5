"""Rows of drafts: what was said and what came, from records and commits, whichever comes first."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from runfold_coordinator.artifacts.drafts import About, Draft
from runfold_coordinator.artifacts.errors import ArtifactRefusedError
from runfold_coordinator.artifacts.manifest_stream import ManifestSums
from runfold_coordinator.artifacts.versions import LOGGED_BY, Made, relate, settle_uses, version_id
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.writes import Transaction

#: Longest reason that is kept, in characters.
MAX_ERROR_CHARS = 2000
#: Digest of a draft of which only the failure was heard: its record tells the rest.
UNKNOWN = ""
_d = at.artifact_drafts.c


def opened_draft(tx: Transaction, draft: Draft, now_unix_s: float) -> Any:
    """Return the row of a draft, locked; made of what it says itself where nothing is known of it."""
    mine = sa.select(at.artifact_drafts).where(_d.client_id == draft.client_id).with_for_update()
    row = tx.connection.execute(mine).one_or_none()
    if row is None:
        # Another process may insert it in this moment: then its row is the one that counts.
        tx.insert_new(at.artifact_drafts, [_new_row(draft, now_unix_s)])
        row = tx.connection.execute(mine).one()
    return row


def _new_row(draft: Draft, now_unix_s: float) -> dict[str, Any]:
    return {
        "client_id": draft.client_id,
        "run_pk": draft.run_pk,
        "entity": draft.entity,
        "project": draft.project,
        "name": draft.name,
        "type": draft.type,
        "digest": draft.digest,
        "size": 0,
        "count": 0,
        "distributed_id": draft.distributed_id,
        "finalize": draft.finalize,
        "writer_id": draft.writer_id,
        "seq": None,
        "said_unix_ns": draft.said_unix_ns,
        "heard_unix_s": now_unix_s,
        "arrived_unix_s": None,
        "manifest": None,
        "about": None,
        "generation": None,
        "version_pk": None,
        "error": None,
        "waits_for": None,
    }


def refuse_other_content(row: Any, draft: Draft) -> None:
    """Raise ArtifactRefusedError where the client id was another draft's."""
    if row.digest == UNKNOWN:
        return
    said = (draft.name, draft.type, draft.digest, draft.distributed_id)
    is_other = said != (row.name, row.type, row.digest, row.distributed_id)
    # Of two contents with one MD5 only the manifests tell that they are two.
    if is_other or row.manifest not in (None, draft.manifest):
        raise ArtifactRefusedError(
            "client_id_reused", "this client id was used for another artifact", field="client_id"
        )


def note_arrival(tx: Transaction, draft: Draft, sums: ManifestSums, now_unix_s: float) -> None:
    """Write that the files of a draft are here."""
    update_draft(
        tx,
        draft.client_id,
        arrived_unix_s=now_unix_s,
        manifest=draft.manifest,
        about=draft.about.pack(),
        name=draft.name,
        type=draft.type,
        digest=draft.digest,
        size=sums.size,
        count=sums.count,
        distributed_id=draft.distributed_id,
        finalize=draft.finalize,
        error=None,
        waits_for=None,
    )


def note_version(tx: Transaction, row: Any, made: Made, now_unix_s: float) -> None:
    """Write what the draft of a row has become; its run has logged that version."""
    links = "; ".join(f"not linked to {each['target']}: {each['error']}" for each in made.link_errors)
    error = links[:MAX_ERROR_CHARS] or None
    update_draft(tx, row.client_id, version_pk=made.version_pk, error=error, waits_for=None)
    settle_uses(tx, row.client_id, made.version_pk)
    if row.run_pk is not None:
        relate(
            tx,
            row.run_pk,
            LOGGED_BY,
            version_id(tx, made.version_pk),
            version_pk=made.version_pk,
            at_unix_s=now_unix_s,
        )


def note_failure(tx: Transaction, client_id: str, why: str) -> None:
    """Write why a draft will never be a version, unless it is one or its files are here."""
    tx.connection.execute(
        sa.update(at.artifact_drafts)
        .where(_d.client_id == client_id, _d.version_pk.is_(None), _d.arrived_unix_s.is_(None))
        .values(error=clean_text(why)[:MAX_ERROR_CHARS])
    )


def update_draft(tx: Transaction, client_id: str, **values: Any) -> None:
    """Change columns of a draft's row."""
    tx.connection.execute(sa.update(at.artifact_drafts).where(_d.client_id == client_id).values(values))


def as_draft(row: Any) -> Draft:
    """Return the draft in a row; `manifest` is "" while its files are not here."""
    return Draft(
        client_id=row.client_id,
        run_pk=row.run_pk,
        entity=row.entity,
        project=row.project,
        name=row.name,
        type=row.type,
        manifest=row.manifest or "",
        digest=row.digest,
        writer_id=row.writer_id,
        said_unix_ns=row.said_unix_ns,
        distributed_id=row.distributed_id,
        finalize=row.finalize,
        about=About.unpack(row.about),
    )
