"""Runs written straight into a store, as ingest would: what writers say, delivered in any pieces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from runfold.protocol.history.rows import RowFold
from runfold.protocol.history.steps import StepCounter
from runfold.protocol.identity import Identity, Launcher
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import ExitRecord, MetricRecord, Record, RecordKind, RowMap, SummaryRecord
from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN
from runfold.protocol.values import pack_value
from runfold_coordinator.ingest.catalog import project
from runfold_coordinator.ingest.row_chunks import ChunkBuilder, MapRow
from runfold_coordinator.ingest.step_sync import Calls, insert_steps
from runfold_coordinator.ingest.writer_words import WriterWords
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import ChunkColumn, encode_chunk
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import NewChunk

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000


def leaves(data: dict[str, Any], above: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    found: list[tuple[KeyPath, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            found += leaves(value, (*above, key))
        else:
            found.append(((*above, key), value))
    return found


class Said:
    """What one writer says, in order; `records` as its spool would hold them."""

    def __init__(
        self, rank: int | None = None, *, mode: str = "shared", started_s: float = 0, **identity: Any
    ) -> None:
        self.started_ns = START_NS + int(started_s * SECOND_NS)
        hint = identity.pop("restart_hint", None)
        self.identity = Identity(
            entity="e",
            project="p",
            run_id=identity.pop("run_id", "r"),
            mode=mode,
            rank=rank,
            launcher=Launcher(source="slurm", job_id="j", restart_hint=hint),
            host="h",
            started_unix_ns=self.started_ns,
            **identity,
        )
        self.writer_id = f"{rank if rank is not None else 99:04x}{self.started_ns:028x}"
        self.steps = StepCounter(self.identity.start_step)
        self.records: list[Record] = []
        self._add(RecordKind.WRITER, self.identity.pack())

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        flags = STEP_GIVEN if step is not None else 0
        flags |= 0 if commit is None else COMMIT_TRUE if commit else COMMIT_FALSE
        row = RowMap(self.steps.take(step, commit), tuple(leaves(data)))
        self._add(RecordKind.ROW_MAP, row.pack(), flags)

    def define(self, name: str, **said: Any) -> None:
        self._add(RecordKind.METRIC, MetricRecord(name=name, **said).pack())

    def set(self, name: str, value: Any) -> None:
        self._add(RecordKind.SUMMARY, SummaryRecord((("set", (name,), value),)).pack())

    def delete(self, name: str) -> None:
        self._add(RecordKind.SUMMARY, SummaryRecord((("del", (name,)),)).pack())

    def exit(self, code: int = 0, runtime_s: float = 60.0) -> None:
        self._add(RecordKind.EXIT, ExitRecord(code=code, runtime_s=runtime_s).pack())

    def _add(self, kind: RecordKind, payload: bytes, flags: int = 0) -> None:
        seq = len(self.records) + 1
        self.records.append(Record(seq, self.started_ns + seq * SECOND_NS, kind, flags, payload))


class StoredRun:
    """One run in a store. `deliver` moves a writer's watermark; `rows_of` reads it back."""

    def __init__(self, store: Store, run_id: str = "r", *, group: str | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self.group = group
        self._writers: dict[str, tuple[int, Said, int]] = {}
        self._folds: dict[str, RowFold] = {}
        self._words: dict[str, WriterWords] = {}
        with store.transaction() as tx:
            self.run_pk = tx.new_ids()
            tx.insert(
                t.runs,
                [
                    {
                        "run_pk": self.run_pk,
                        "entity": "e",
                        "project": "p",
                        "run_id": run_id,
                        "mode": "grouped",
                        "group_name": group,
                        "tags_json": [],
                        "config_json": {},
                        "summary_json": {},
                        "state": "running",
                        "reason": "",
                        "unreachable": False,
                        "started_unix_ns": 0,
                        "updated_unix_s": 0.0,
                        "last_record_unix_ns": 0,
                        "last_step": -1,
                        "row_count": 0,
                        "version": 0,
                        "projection": pack_value({}),
                    }
                ],
            )

    @property
    def row(self) -> RunRow:
        row = self.store.get_run(self.run_pk)
        assert row is not None
        return row

    def deliver(self, said: Said, upto: int | None = None, *, per_chunk: int | None = None) -> None:
        """Store the writer's records after its watermark, up to seq `upto`, in chunks of so many rows."""
        upto = len(said.records) if upto is None else upto
        with self.store.transaction() as tx:
            if said.writer_id not in self._writers:
                writer_pk = tx.new_ids()
                self._writers[said.writer_id] = (writer_pk, said, 0)
                self._folds[said.writer_id] = RowFold()
                self._words[said.writer_id] = WriterWords(writer_pk, said.writer_id)
                tx.insert(
                    t.writers,
                    [
                        {
                            "writer_pk": writer_pk,
                            "writer_id": said.writer_id,
                            "run_pk": self.run_pk,
                            "partition": 0,
                            "identity": pack_value(said.identity.to_map()),
                            "started_unix_ns": said.started_ns,
                            "last_seq": 0,
                            "head_seq": 0,
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
            writer_pk, _, last = self._writers[said.writer_id]
            new = said.records[last:upto]
            if not new:
                return
            rows = [
                MapRow(r.seq, r.t_ns, r.flags, RowMap.unpack(r.payload))
                for r in new
                if r.kind == RecordKind.ROW_MAP
            ]
            self._insert_rows(tx, said, writer_pk, rows, new, per_chunk)
            others = [r for r in new if r.kind != RecordKind.ROW_MAP]
            tx.insert(
                t.records,
                [
                    {
                        "writer_pk": writer_pk,
                        "seq": r.seq,
                        "run_pk": self.run_pk,
                        "t_ns": r.t_ns,
                        "kind": int(r.kind),
                        "flags": r.flags,
                        "payload": r.payload,
                    }
                    for r in others
                ],
            )
            self._writers[said.writer_id] = (writer_pk, said, new[-1].seq)
            self._update(tx, said, writer_pk, others, new[-1].seq)

    def _insert_rows(
        self,
        tx: Any,
        said: Said,
        writer_pk: int,
        rows: Sequence[MapRow],
        new: Sequence[Record],
        per_chunk: int | None,
    ) -> None:
        exits = [r.seq for r in new if r.kind == RecordKind.EXIT]
        defined = [
            (r.seq, MetricRecord.unpack(r.payload).to_map()) for r in new if r.kind == RecordKind.METRIC
        ]
        inserted = insert_steps(
            self._folds[said.writer_id],
            Calls(maps=list(rows), definitions=defined, end_seq=exits[0] if exits else None),
        )
        paths = {path for row in rows for path, _ in row.row.values} | {cells.path for cells in inserted}
        from runfold.protocol.keypath import encode_path

        key_pks = tx.names.key_pks(tx.connection, [encode_path(path) for path in paths])
        builder = ChunkBuilder(tx, self.run_pk, writer_pk)
        size = per_chunk or max(len(rows), 1)
        for batch in itertools.batched(rows, size) if hasattr(itertools, "batched") else _batched(rows, size):
            builder.add_maps(batch, key_pks)
        builder.add_inserted(inserted, key_pks)
        tx.insert_chunks(builder.chunks)

    def _update(self, tx: Any, said: Said, writer_pk: int, others: Sequence[Record], last_seq: int) -> None:
        words = self._words[said.writer_id]
        words.hear(said.identity)
        changes: dict[str, Any] = {}
        for record in others:
            if record.kind == RecordKind.METRIC:
                words.hear(MetricRecord.unpack(record.payload))
            if record.kind == RecordKind.EXIT:
                code = ExitRecord.unpack(record.payload).code
                changes |= {
                    "exit": record.payload,
                    "state": "finished" if code == 0 else "failed",
                    "ended_unix_ns": record.t_ns,
                }
        stored = [r for r in said.records[:last_seq] if r.kind == RecordKind.ROW_MAP]
        given = [RowMap.unpack(r.payload).step for r in stored if r.flags & STEP_GIVEN]
        auto = [RowMap.unpack(r.payload).step for r in stored if not r.flags & STEP_GIVEN]
        changes |= {
            "last_seq": last_seq,
            "row_count": len(stored),
            "given_step_min": min(given, default=None),
            "given_step_max": max(given, default=None),
            "auto_step_min": min(auto, default=None),
            "auto_step_max": max(auto, default=None),
            "last_record_unix_ns": said.records[last_seq - 1].t_ns,
        }
        tx.connection.execute(
            sa.update(t.writers).where(t.writers.c.writer_pk == writer_pk).values(**changes)
        )
        self.save_projection(tx)

    def save_projection(self, tx: Any) -> None:
        made = project(self._words.values())
        states = set(
            tx.connection.execute(
                sa.select(t.writers.c.state).where(t.writers.c.run_pk == self.run_pk)
            ).scalars()
        )
        top = tx.connection.execute(
            sa.select(sa.func.max(t.chunks.c.step_max)).where(t.chunks.c.run_pk == self.run_pk)
        ).scalar()
        state = "running" if "running" in states else "failed" if "failed" in states else "finished"
        tx.connection.execute(
            sa.update(t.runs)
            .where(t.runs.c.run_pk == self.run_pk)
            .values(
                mode=made.mode,
                projection=made.pack(),
                primary_writer_pk=made.primary_writer_pk,
                state=state,
                reason="" if state == "running" else "exit",
                started_unix_ns=made.started_unix_ns,
                last_step=-1 if top is None else top,
                version=t.runs.c.version + 1,
            )
        )

    def end_writer(self, said: Said, state: str = "crashed") -> None:
        """What liveness does when a process is gone without a word."""
        with self.store.transaction() as tx:
            tx.connection.execute(
                sa.update(t.writers)
                .where(t.writers.c.writer_id == said.writer_id)
                .values(state=state, reason="gone")
            )
            self.save_projection(tx)

    def insert_bulk(
        self,
        said: Said,
        steps: np.ndarray,
        columns: dict[str, np.ndarray],
        *,
        chunk_rows: int = 65536,
        first_seq: int = 2,
    ) -> None:
        """Store long numeric columns as full chunks, all keys in each, for measurements."""
        with self.store.transaction() as tx:
            writer_pk = self._writers[said.writer_id][0]
            key_pks = tx.names.key_pks(tx.connection, list(columns))
            order = list(columns)
            keyset = tx.names.keyset_pk(tx.connection, [key_pks[k] for k in order])
            tx.names.note_run_keys(tx.connection, self.run_pk, [(key_pks[k], "d") for k in order])
            seq = np.arange(first_seq, first_seq + len(steps), dtype=np.uint64)
            t_ns = (START_NS + seq * 1000).astype(np.uint64)
            chunks = []
            for lo in range(0, len(steps), chunk_rows):
                part = slice(lo, lo + chunk_rows)
                flags = np.full(len(steps[part]), STEP_GIVEN | COMMIT_TRUE, np.uint8)
                cells = [ChunkColumn(key_pks[k], "d", columns[k][part]) for k in order]
                chunks.append(
                    NewChunk(
                        self.run_pk,
                        writer_pk,
                        keyset,
                        encode_chunk(seq[part], steps[part], t_ns[part], flags, cells),
                    )
                )
            tx.insert_chunks(chunks)
            tx.connection.execute(
                sa.update(t.writers)
                .where(t.writers.c.writer_pk == writer_pk)
                .values(
                    last_seq=int(seq[-1]),
                    row_count=len(steps),
                    given_step_min=int(steps.min()),
                    given_step_max=int(steps.max()),
                )
            )
            self.save_projection(tx)


def _batched(rows: Sequence[Any], size: int) -> Any:
    return (rows[at : at + size] for at in range(0, len(rows), size))
