"""Edits as rows: read, and written; and a run's projection as the columns that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from runfold.protocol.values import pack_value
from runfold_coordinator.edits.said import Edit, Heard
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import PROJECTION_BYTES, PROJECTION_ELEMENTS, unpack_stored
from runfold_coordinator.store.edit_tables import run_edits
from runfold_coordinator.store.json_values import to_json
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices

if TYPE_CHECKING:
    from runfold_coordinator.store.writes import Transaction

#: States of a process whose end somebody has seen.
SEEN_ENDS = TERMINAL - {"crashed"}


def edits_of(connection: sa.Connection, run_pks: Collection[int]) -> dict[int, list[Edit]]:
    """Return the edits of these runs, oldest first; runs that nobody edited are left out."""
    pks, c = sorted(run_pks), run_edits.c
    found: dict[int, list[Edit]] = {}
    for some in in_slices(pks):
        statement = sa.select(run_edits).where(c.run_pk.in_(some)).order_by(c.t_ns, c.edit_pk)
        for row in connection.execute(statement):
            found.setdefault(row.run_pk, []).append(edit_of(row))
    return found


def edit_of(row: Any) -> Edit:
    """Return the edit of a row of run_edits."""
    return Edit.from_map(unpack_stored(row.said), t_ns=row.t_ns, by=row.by, pk=row.edit_pk)


def pack_edit(edit: Edit) -> bytes:
    """Return the blob of its row."""
    return pack_projection(edit.to_map())


def write_edits(tx: Transaction, changed: Sequence[Edit], gone: Sequence[int]) -> None:
    """Write edits of which something is left, and delete those of which nothing is."""
    tx.update_by_pk(run_edits, [{"edit_pk": edit.pk, "said": pack_edit(edit)} for edit in changed])
    for some in in_slices(gone):
        tx.connection.execute(sa.delete(run_edits).where(run_edits.c.edit_pk.in_(some)))


def pack_projection(value: Any) -> bytes:
    """Pack what many records said together: it may be larger than one record."""
    return pack_value(value, max_bytes=PROJECTION_BYTES, max_elements=PROJECTION_ELEMENTS, max_depth=64)


def filter_columns(projection: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of `runs` by which a projection's fields are filtered."""
    return {
        "group_name": clean_or_none(projection["group"]),
        "job_type": clean_or_none(projection["job_type"]),
        "name": clean_or_none(projection["name"]),
        "notes": clean_or_none(projection["notes"]),
        "tags_json": to_json(projection["tags"]),
        "config_json": to_json(projection["config"]),
    }


def clean_or_none(value: str | None) -> str | None:
    """Return a text that a database can hold."""
    return None if value is None else clean_text(value)


def heard_of(tx: Transaction, run_pk: int) -> list[Heard]:
    """Return how far the run's writers are.

    Nothing more can come of one that has said goodbye, or whose end was seen and all of whose records are
    here. A crash may have been inferred from silence.
    """
    c = t.writers.c
    columns = (c.writer_pk, c.last_seq, c.head_seq, c.last_record_unix_ns, c.host, c.boot_id, c.state)
    rows = tx.connection.execute(
        sa.select(*columns, c.exit.is_not(None).label("has_left")).where(
            c.run_pk == run_pk, c.role == "process"
        )
    )
    return [
        Heard(
            row.writer_pk,
            row.last_seq,
            row.last_record_unix_ns,
            (row.host or "", row.boot_id or ""),
            row.has_left or (row.state in SEEN_ENDS and row.head_seq <= row.last_seq),
        )
        for row in rows
    ]
