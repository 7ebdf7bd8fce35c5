"""What was asked of a run's processes, and what came of it: from the evidence.

In: a run. Out: its stop requests, oldest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.evidence import STOP, STOP_REFUSED, STOP_SIGNAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store


class StopsReader:
    """Reads stop requests. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def requests(self, run: RunRow) -> list[dict[str, Any]]:
        """Return the run's stop requests, oldest first.

        Each: request, by, grace_s, whole, asked_unix_s; writers: a dict each of writer, rank, label, host,
        state; signals: [{"signum", "to" ("process" or "launcher"), "unix_s"}], as the node's agent said;
        refused: why it did not carry it out, or None.
        """
        writers = {writer.writer_id: writer for writer in self._store.writers(run.run_pk)}
        rows = self._evidence(list(writers))
        found: dict[str, dict[str, Any]] = {}
        parts: dict[tuple[str, str], dict[str, Any]] = {}
        for row, facts in rows:
            if row.source == STOP:
                entry = found.setdefault(str(facts.get("request")), _request(facts, row.t_ns))
                part = parts[entry["request"], row.writer_id] = _part(writers[row.writer_id])
                entry["writers"].append(part)
        for row, facts in rows:
            told = parts.get((str(facts.get("request")), row.writer_id))
            if told is not None and row.source == STOP_SIGNAL:
                signal = {"signum": facts.get("signum"), "to": facts.get("to"), "unix_s": row.t_ns / 1e9}
                told["signals"].append(signal)
            elif told is not None and row.source == STOP_REFUSED:
                told["refused"] = str(facts.get("why"))
        return list(found.values())

    def _evidence(self, writer_ids: Sequence[str]) -> list[tuple[Any, dict[str, Any]]]:
        e = t.evidence.c
        rows: list[Any] = []
        for some in in_slices(writer_ids):
            rows += self._store.fetch(
                sa.select(e.writer_id, e.source, e.t_ns, e.facts).where(
                    e.writer_id.in_(some),
                    e.source.in_([STOP, STOP_SIGNAL, STOP_REFUSED]),
                )
            )
        rows.sort(key=lambda row: (row.t_ns, row.writer_id))
        return [(row, unpack_stored(row.facts)) for row in rows]


def _request(facts: dict[str, Any], t_ns: int) -> dict[str, Any]:
    return {
        "request": str(facts.get("request")),
        "by": facts.get("by"),
        "grace_s": facts.get("grace_s"),
        "whole": facts.get("whole") is True,
        "asked_unix_s": t_ns / 1e9,
        "writers": [],
    }


def _part(writer: WriterRow) -> dict[str, Any]:
    return {
        "writer": writer.writer_id,
        "rank": writer.rank,
        "label": writer.label,
        "host": writer.host,
        "state": writer.state,
        "signals": [],
        "refused": None,
    }
