"""Puts run rows into a real store, as ingest's projection would leave them."""

from __future__ import annotations

from typing import Any

from runfold.protocol.values import pack_value
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store


def insert_runs(store: Store, rows: list[RunRow]) -> None:
    """Store the rows; their run_pk counts."""
    with store.transaction() as tx:
        tx.insert(t.runs, [_columns(row) for row in rows])


def _columns(row: RunRow) -> dict[str, Any]:
    plain = ("run_pk", "entity", "project", "run_id", "mode", "job_type", "name", "notes", "primary_writer_pk",
             "state", "reason", "unreachable", "started_unix_ns", "ended_unix_ns", "updated_unix_s",
             "last_record_unix_ns", "last_step", "row_count", "version", "program", "host")  # fmt: skip
    projection = {
        "config": row.config, "conflicts": {}, "definitions": [], "fold": row.fold, "tags": list(row.tags),
        "name": row.name, "notes": row.notes, "group": row.group, "job_type": row.job_type,
    }  # fmt: skip
    return {name: getattr(row, name) for name in plain} | {
        "group_name": row.group,
        "tags_json": list(row.tags),
        "config_json": {},
        "summary_json": {},
        "projection": pack_value(projection),
        "summary": pack_value(row.summary),
    }
