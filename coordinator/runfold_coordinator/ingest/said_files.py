"""FILE records to rows: a file that a process said it would send is pending until its content is here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.file_names import check_file_name
from runfold.protocol.file_records import FileRecord
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.run_files import MAX_ERROR_CHARS, MAX_FILES_PER_RUN
from runfold_coordinator.store.file_tables import run_files as f
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.writes import Transaction

_POLICIES = frozenset({"now", "end", "live"})
_MAX_WHAT_CHARS = 20


def note_said_files(tx: Transaction, works: Sequence[WriterBatch]) -> None:
    """Write what the batch's processes said of files. A bad name stays a record, and is no file."""
    said: dict[tuple[int, str], dict[str, Any]] = {}
    for work in works:
        for t_ns, record in work.said_files():
            row = _row(work.mark.run.run_pk, work.mark.writer_id, record, t_ns)
            if row is not None:
                key = row["run_pk"], row["name"]
                said[key] = row | {"said_t_ns": max(t_ns, said.get(key, row)["said_t_ns"])}
    if not said:
        return
    for run_pk in {run_pk for run_pk, _ in said}:
        of_run = {name: row for (pk, name), row in said.items() if pk == run_pk}
        known = _known(tx, run_pk, list(of_run))
        for name in known:
            tx.connection.execute(
                sa.update(f).where(f.c.run_pk == run_pk, f.c.name == name).values(_said_again(of_run[name]))
            )
        new = [row for name, row in of_run.items() if name not in known]
        tx.insert_new(f, new[: max(0, MAX_FILES_PER_RUN - _count(tx, run_pk))] if new else [])


def _said_again(said: dict[str, Any]) -> dict[str, Any]:
    """Return what changes in a row; what was given up before that is to come anew."""
    at_unix_s = said["said_t_ns"] / 1e9
    is_newer = f.c.failed_unix_s.is_(None) | (f.c.failed_unix_s < at_unix_s)
    if said["error"] is not None:
        is_newer &= f.c.taken_unix_s.is_(None) | (f.c.taken_unix_s < at_unix_s)
    return {
        "said_t_ns": said["said_t_ns"],
        **{name: sa.case((is_newer, said[name]), else_=f.c[name]) for name in ("error", "failed_unix_s")},
    }


def _row(run_pk: int, writer_id: str, said: FileRecord, t_ns: int) -> dict[str, Any] | None:
    try:
        name = check_file_name(said.name)
    except ProtocolError:
        return None
    return {
        "run_pk": run_pk,
        "name": name,
        "size": said.size if said.size is not None and 0 <= said.size < 2**63 else None,
        "writer_id": writer_id,
        "policy": said.policy if said.policy in _POLICIES else "now",
        "what": clean_text(said.what)[:_MAX_WHAT_CHARS] or "file",
        "said_t_ns": t_ns,
        "error": None if said.error is None else clean_text(said.error)[:MAX_ERROR_CHARS],
        "failed_unix_s": None if said.error is None else t_ns / 1e9,
    }


def _known(tx: Transaction, run_pk: int, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in in_slices(names):
        found |= set(
            tx.connection.execute(
                sa.select(f.c.name).where(f.c.run_pk == run_pk, f.c.name.in_(some))
            ).scalars()
        )
    return found


def _count(tx: Transaction, run_pk: int) -> int:
    statement = sa.select(sa.func.count()).select_from(f).where(f.c.run_pk == run_pk)
    return int(tx.connection.execute(statement).scalar_one())
