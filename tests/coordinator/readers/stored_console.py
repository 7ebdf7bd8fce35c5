"""Console lines written straight into a store, as ingest would."""

from __future__ import annotations

import struct
from typing import Any

import sqlalchemy as sa

from runfold.protocol.identity import Identity
from runfold.protocol.records import ConsoleRecord, RecordKind
from runfold.protocol.values import pack_value
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class Console:
    """One writer that keeps lines: a console of a process, or with role "process" its own log."""

    def __init__(
        self, store: Store, run_pk: int, rank: int | None, *, role: str = "console", label: str | None = None
    ) -> None:
        self.store, self.run_pk = store, run_pk
        self.process = f"{rank or 0:031x}f"
        self.seq = 1
        who = Identity("e", "p", "r", "shared", rank=rank, label=label or f"rank{rank}", role=role).to_map()
        with store.transaction() as tx:
            self.writer_pk = tx.new_ids()
            tx.insert(
                t.writers,
                [
                    {
                        "writer_pk": self.writer_pk,
                        "writer_id": self.process if role == "process" else f"{self.writer_pk:032x}",
                        "run_pk": run_pk,
                        "partition": 0,
                        "identity": pack_value(who),
                        "role": role,
                        "console_of": None if role == "process" else self.process,
                        "started_unix_ns": START_NS,
                        "last_seq": 1,
                        "head_seq": 1,
                        "row_count": 0,
                        "gap_count": 0,
                        "dead_letter_count": 0,
                        "last_record_unix_ns": 0,
                        "last_seen_unix_s": 0.0,
                        "state": "running",
                        "reason": "",
                        "unreachable": False,
                    }
                ],
            )

    def say(self, *lines: str, at_ms: int, each_ms: int = 0, stream: str = "stdout", **said: Any) -> None:
        """Store one record; its lines are `each_ms` apart."""
        offsets = (
            struct.pack(f"<{len(lines)}I", *(n * each_ms for n in range(len(lines)))) if each_ms else b""
        )
        self.keep(at_ms, ConsoleRecord(stream=stream, lines=lines, offsets_ms=offsets, **said).pack())

    def keep(self, at_ms: int, payload: bytes) -> None:
        self.seq += 1
        row = {
            "writer_pk": self.writer_pk,
            "seq": self.seq,
            "run_pk": self.run_pk,
            "t_ns": START_NS + at_ms * MS,
            "kind": int(RecordKind.CONSOLE),
            "flags": 0,
            "payload": payload,
        }
        with self.store.transaction() as tx:
            tx.insert(t.records, [row])
            tx.connection.execute(
                sa.update(t.writers).where(t.writers.c.writer_pk == self.writer_pk).values(last_seq=self.seq)
            )
