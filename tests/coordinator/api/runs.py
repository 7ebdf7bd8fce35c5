"""Run rows for tests, without a store."""

from typing import Any

from runfold_coordinator.store.model import RunRow


def run_row(**changes: Any) -> RunRow:
    """Return a finished run with the given fields changed."""
    values: dict[str, Any] = {
        "run_pk": 1, "entity": "local", "project": "p", "run_id": "r1", "mode": "shared", "group": None,
        "job_type": None, "fold": None, "name": "calm-sea-1", "notes": None, "tags": (), "config": {},
        "config_conflicts": {}, "definitions": (), "primary_writer_pk": 1, "state": "finished", "reason": "exit 0",
        "first_failure": None, "unreachable": False, "started_unix_ns": 1_700_000_000_000_000_000,
        "ended_unix_ns": 1_700_000_060_000_000_000, "updated_unix_s": 1_700_000_061.0,
        "last_record_unix_ns": 1_700_000_060_000_000_000, "last_step": 9, "row_count": 10, "version": 1,
        "program": None, "host": "node-a", "summary": {},
    }  # fmt: skip
    return RunRow(**(values | changes))
