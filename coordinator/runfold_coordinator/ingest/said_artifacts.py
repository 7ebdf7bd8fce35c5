"""ARTIFACT and ARTIFACT_USE records to rows: what a process said it logged, and what it used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.artifact_names import MAX_TYPE_CHARS, ArtifactNameError, check_name
from runfold.protocol.content_sum import is_md5_hex
from runfold.protocol.file_records import ArtifactRecord, ArtifactUseRecord
from runfold_coordinator.artifacts.draft_rows import UNKNOWN
from runfold_coordinator.artifacts.drafts import MAX_DISTRIBUTED_ID_CHARS, is_client_id
from runfold_coordinator.artifacts.versions import USED_BY, relate
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.writes import Transaction

_MAX_USE_AS_CHARS = 1024
_d = at.artifact_drafts.c


def note_said_artifacts(tx: Transaction, works: Sequence[WriterBatch], now_unix_s: float) -> None:
    """Write what the batch's processes said of artifacts. What no artifact can be stays a record only."""
    paths: dict[int, Any] = {}
    for work in works:
        for seq, t_ns, record in work.said_artifacts():
            run_pk = work.mark.run.run_pk
            if isinstance(record, ArtifactUseRecord):
                _note_use(tx, run_pk, record, t_ns)
            elif isinstance(record, ArtifactRecord) and _is_possible(record):
                if run_pk not in paths:
                    paths[run_pk] = _path(tx, run_pk)
                said = {"writer_id": work.mark.writer_id, "seq": seq, "said_unix_ns": t_ns}
                _note_draft(tx, run_pk, paths[run_pk], record, said, now_unix_s)


def _note_draft(  # noqa: PLR0917 - who said what, when
    tx: Transaction,
    run_pk: int,
    path: Any,
    record: ArtifactRecord,
    said: dict[str, Any],
    now_unix_s: float,
) -> None:
    row = {
        "name": record.name,
        "type": clean_text(record.type),
        "digest": record.digest,
        "size": min(max(0, record.size), 2**63 - 1),
        "count": min(max(0, record.count), 2**63 - 1),
        "distributed_id": None if record.distributed_id is None else clean_text(record.distributed_id),
        "finalize": record.finalize,
    }
    own = (_d.client_id == record.client_id, _d.run_pk == run_pk, _d.seq.is_(None))
    known = tx.connection.execute(
        sa.select(_d.digest).where(_d.client_id == record.client_id).with_for_update()
    ).one_or_none()
    if known is None:
        whose = {"run_pk": run_pk, "entity": path.entity, "project": path.project}
        new = {"client_id": record.client_id, "heard_unix_s": now_unix_s}
        tx.insert_new(at.artifact_drafts, [row | said | whose | new])
        return
    # The commit came first, over HTTP: it lacks only where in the process's words it stood. Of a failure that
    # came first nothing else is known.
    values = said if known.digest != UNKNOWN else row | said
    tx.connection.execute(sa.update(at.artifact_drafts).where(*own).values(values))


def _note_use(tx: Transaction, run_pk: int, record: ArtifactUseRecord, t_ns: int) -> None:
    if not is_client_id(record.artifact):
        return
    known = _known_version(tx, record.artifact)
    relate(
        tx,
        run_pk,
        USED_BY,
        record.artifact if known is None else known.id,
        version_pk=None if known is None else known.version_pk,
        at_unix_s=t_ns / 1e9,
        use_as=clean_text(record.use_as or "")[:_MAX_USE_AS_CHARS],
    )


def _known_version(tx: Transaction, artifact: str) -> Any:
    """Return the version with this id, or the one that the draft with this client id has become; or None."""
    v = at.artifact_versions.c
    become = sa.select(_d.version_pk).where(_d.client_id == artifact)
    return tx.connection.execute(
        sa.select(v.version_pk, v.id).where(sa.or_(v.id == artifact, v.version_pk.in_(become)))
    ).first()


def _is_possible(record: ArtifactRecord) -> bool:
    try:
        check_name(record.name)
    except ArtifactNameError:
        return False
    return (
        is_client_id(record.client_id)
        and is_md5_hex(record.digest)
        and len(record.type) <= MAX_TYPE_CHARS
        and len(record.distributed_id or "") <= MAX_DISTRIBUTED_ID_CHARS
    )


def _path(tx: Transaction, run_pk: int) -> Any:
    r = t.runs.c
    return tx.connection.execute(sa.select(r.entity, r.project).where(r.run_pk == run_pk)).one()
