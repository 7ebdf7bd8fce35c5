"""What one batch holds of one writer: rows to chunks, other records to rows, bad ones to letters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack
import sqlalchemy as sa

from runfold.protocol import evidence as e
from runfold.protocol.blocks import Gap, RowBlock
from runfold.protocol.errors import ProtocolError
from runfold.protocol.evidence import Evidence
from runfold.protocol.file_records import ArtifactRecord, ArtifactUseRecord, FileRecord
from runfold.protocol.frames import Frame
from runfold.protocol.history.rows import RowFold
from runfold.protocol.identity import Identity
from runfold.protocol.keypath import encode_path
from runfold.protocol.limits import MAX_KEYS_PER_RUN
from runfold.protocol.records import (
    AlertRecord,
    EvidenceRecord,
    ExitRecord,
    MetricRecord,
    PreemptingRecord,
    Record,
    RecordKind,
    RowMap,
    SignalRecord,
)
from runfold.protocol.values import pack_value
from runfold_coordinator.edits.said import Place
from runfold_coordinator.ingest.dead_letters import DeadLetter, decode_record
from runfold_coordinator.ingest.row_chunks import ChunkBuilder, InsertedCells, MapRow, Schema, schema_keys
from runfold_coordinator.ingest.run_catalogs import RunCatalogs
from runfold_coordinator.ingest.step_sync import Calls, insert_steps, prime
from runfold_coordinator.ingest.watermarks import MAX_INT, WriterMark
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import NewChunk, Transaction

_ROW_KINDS = frozenset({RecordKind.ROW, RecordKind.SCHEMA})
#: What a process says of its own end, as evidence.
_OWN_WORDS = {ExitRecord: e.EXIT, SignalRecord: e.SIGNAL, PreemptingRecord: e.PREEMPTING}


class WriterBatch:
    """Collects a writer's frames in seq order, then writes them out. Used once."""

    def __init__(self, mark: WriterMark) -> None:
        self.mark = mark
        self.chunks: list[NewChunk] = []
        self.letters: list[DeadLetter] = []
        self._blocks: dict[Schema, list[RowBlock]] = {}
        self._maps: list[MapRow] = []
        self._records: list[Record] = []
        self._payloads: list[tuple[int, Any]] = []
        self._gaps: list[Gap] = []
        self._row_count = 0
        self._unknown_count = 0

    @property
    def speaks(self) -> bool:
        """Whether there are records beside rows."""
        return bool(self._payloads) or self.mark.started_unix_ns == 0

    @property
    def testifies(self) -> bool:
        """Whether there is evidence about the writer's end."""
        return any(type(payload) in _OWN_WORDS for _, payload in self._payloads)

    def evidence(self) -> Iterator[Evidence]:
        """Return what the records say of this writer's end, and of other writers'."""
        writer = bytes.fromhex(self.mark.writer_id)
        times = {record.seq: min(record.t_ns, MAX_INT) for record in self._records}
        for seq, payload in self._payloads:
            source = _OWN_WORDS.get(type(payload))
            if source is not None:
                yield Evidence(writer, source, times[seq], payload.to_map(), f"seq:{seq}")
            elif isinstance(payload, EvidenceRecord):
                try:
                    found = Evidence.from_record(payload, times[seq])
                except ProtocolError:
                    continue  # about nobody; the record is kept as it came
                if found.source not in e.NOT_WITNESSED:
                    yield found

    def said_files(self) -> Iterator[tuple[int, FileRecord]]:
        """Yield (t_ns, record) of the files that the process said it would send."""
        said = {seq: payload for seq, payload in self._payloads if isinstance(payload, FileRecord)}
        if said:
            for record in self._records:
                if record.seq in said:
                    yield min(record.t_ns, MAX_INT), said[record.seq]

    def said_artifacts(self) -> Iterator[tuple[int, int, ArtifactRecord | ArtifactUseRecord]]:
        """Yield (seq, t_ns, record) of the artifacts that the process said it logged or used."""
        kinds = (ArtifactRecord, ArtifactUseRecord)
        said = {seq: payload for seq, payload in self._payloads if isinstance(payload, kinds)}
        if said:
            for record in self._records:
                if record.seq in said:
                    yield record.seq, min(record.t_ns, MAX_INT), said[record.seq]

    @property
    def raises_alerts(self) -> bool:
        """Whether the process has told people something."""
        return any(isinstance(payload, AlertRecord) for _, payload in self._payloads)

    @property
    def blocks(self) -> list[RowBlock]:
        """The rows in columns, by key set and seq."""
        return [block for blocks in self._blocks.values() for block in blocks]

    @property
    def maps(self) -> list[MapRow]:
        """The other rows, in seq order."""
        return self._maps

    @property
    def payloads(self) -> list[tuple[int, Any]]:
        """(seq, payload) of the records beside rows, but for those of unknown kind."""
        return self._payloads

    def add_frame(self, frame: Frame) -> None:
        """Take a frame that begins right after what was taken before."""
        for block in frame.blocks:
            self._blocks.setdefault((block.paths, block.kinds), []).append(block)
        for record in frame.others:
            self._add_record(record)
        for gap in frame.gaps:
            self._gaps.append(gap)
            self.mark.gap_count += gap.hi - gap.lo + 1

    def add_letter(self, lo: int, hi: int, reason: str, raw: bytes) -> None:
        """Take records that can't be stored as they should be."""
        mark = self.mark
        mark.dead_letter_count += hi - lo + 1
        self.letters.append(DeadLetter(mark.run.run_pk, mark.writer_pk, lo, hi, reason, raw))

    def _add_record(self, record: Record) -> None:
        self.mark.note_time(record.t_ns)
        try:
            if record.kind == RecordKind.ROW_MAP:
                self._maps.append(
                    MapRow(record.seq, record.t_ns, record.flags, RowMap.unpack(record.payload))
                )
                return
            payload = decode_record(record)
        except ProtocolError as error:
            self.add_letter(record.seq, record.seq, f"record of kind {record.kind}: {error}", record.payload)
            return
        if record.kind in _ROW_KINDS:
            self.add_letter(record.seq, record.seq, "a schema-coded row outside of a block", record.payload)
            return
        self._records.append(record)
        if payload is None:
            self._unknown_count += 1
        else:
            self._payloads.append((record.seq, payload))

    def make_chunks(self, tx: Transaction, store: Store) -> None:
        """Encode the rows; step metrics are inserted when the writer has defined any."""
        mark = self.mark
        inserted = self._insert_steps(tx, store)
        if not self._blocks and not self._maps and not inserted:
            return
        paths = {path for found in self._maps for path, _ in found.row.values}
        paths.update(found.path for found in inserted)
        pks = tx.names.key_pks(tx.connection, [encode_path(path) for path in paths])
        self._refuse_too_many_keys(tx, pks.values())
        builder = ChunkBuilder(tx, mark.run.run_pk, mark.writer_pk)
        for schema, blocks in self._blocks.items():
            rows = builder.add_blocks(schema, blocks)
            mark.count_rows(rows)
            self._row_count += len(rows)
        if self._maps:
            rows = builder.add_maps(self._maps, pks)
            mark.count_rows(rows)
            self._row_count += len(rows)
        builder.add_inserted(inserted, pks)
        self.chunks = builder.chunks

    def _insert_steps(self, tx: Transaction, store: Store) -> list[InsertedCells]:
        mark = self.mark
        calls = Calls()
        for seq, payload in self._payloads:
            if isinstance(payload, MetricRecord):
                calls.definitions.append((seq, payload.to_map()))
            elif isinstance(payload, ExitRecord):
                calls.end_seq = seq
        if mark.row_fold is None:
            if not calls.needs_fold:
                return []
            mark.row_fold = self._new_fold(tx, store)
        calls.blocks = self.blocks
        calls.maps = self._maps
        return insert_steps(mark.row_fold, calls)

    def _new_fold(self, tx: Transaction, store: Store) -> RowFold:
        mark, fold = self.mark, RowFold()
        step = mark.step_max
        if step is not None:
            c = t.records.c
            packed = tx.connection.execute(
                sa.select(c.payload)
                .where(c.writer_pk == mark.writer_pk, c.kind == RecordKind.METRIC)
                .order_by(c.seq)
            ).scalars()
            said = [MetricRecord.unpack(bytes(payload)).to_map() for payload in packed]
            last = store.read_blocks(mark.run.run_pk, mark.writer_pk, step_min=step, step_max=step)
            prime(fold, said, list(last), step)
        return fold

    def _refuse_too_many_keys(self, tx: Transaction, map_pks: Iterable[int]) -> None:
        run_pk, new = self.mark.run.run_pk, set(map_pks)
        for schema in self._blocks:
            key_pks, keyset_pk = tx.names.key_list(tx.connection, schema_keys(schema))
            if not tx.names.knows_keyset(run_pk, keyset_pk, schema[1]):
                new.update(key_pks)
        if not new or tx.names.run_key_count(tx.connection, run_pk, new) <= MAX_KEYS_PER_RUN:
            return
        reason = f"more than {MAX_KEYS_PER_RUN} keys in this run"
        for blocks in self._blocks.values():
            for block in blocks:
                raw = msgpack.packb(block.to_map())
                for lo, hi in _seq_ranges(block.seq_list()):
                    self.add_letter(lo, hi, reason, raw)
        for found in self._maps:
            self.add_letter(found.seq, found.seq, reason, found.row.pack())
        self._blocks, self._maps = {}, []

    def tell(self, catalogs: RunCatalogs) -> None:
        """Give the words about the run to its catalogue, those about the process to the writer's row."""
        mark = self.mark
        if mark.started_unix_ns == 0:
            mark.started_unix_ns = mark.last_record_unix_ns or 1
            mark.changes["started_unix_ns"] = mark.started_unix_ns
        times = {record.seq: min(record.t_ns, MAX_INT) for record in self._records}
        run_pk, changes = mark.run.run_pk, mark.changes
        catalogs.hear(run_pk, mark.writer_pk, mark.writer_id, None, mark.started_unix_ns)
        for seq, payload in self._payloads:
            place = Place(seq, times[seq])
            catalogs.hear(run_pk, mark.writer_pk, mark.writer_id, payload, mark.started_unix_ns, place)
            if isinstance(payload, Identity):
                identity = payload.to_map()
                del identity["config"]
                changes["identity"] = pack_value(identity)
                mark.role = changes["role"] = payload.role
                changes["console_of"] = _writer_id(payload.console_of)
                changes["host"] = None if payload.host is None else clean_text(payload.host)
                changes["boot_id"] = None if payload.boot_id is None else clean_text(payload.boot_id)
                mark.started_unix_ns = min(payload.started_unix_ns, MAX_INT) or mark.started_unix_ns
                changes["started_unix_ns"] = mark.started_unix_ns
            elif isinstance(payload, ExitRecord):
                changes["exit"] = pack_value(payload.to_map() | {"seq": seq, "t_ns": times[seq]})

    def record_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the records table: every non-row record as it came, of known kind or not."""
        for record in self._records:
            yield {
                "writer_pk": self.mark.writer_pk,
                "seq": record.seq,
                "run_pk": self.mark.run.run_pk,
                "t_ns": min(record.t_ns, MAX_INT),
                "kind": record.kind,
                "flags": record.flags,
                "payload": record.payload,
            }

    def gap_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the gaps table."""
        for gap in self._gaps:
            yield {
                "writer_pk": self.mark.writer_pk,
                "lo": gap.lo,
                "hi": gap.hi,
                "run_pk": self.mark.run.run_pk,
                "why": clean_text(gap.why)[:500],
            }

    def count(self, counts: Any) -> None:
        """Add to the counts since start."""
        counts.rows += self._row_count
        counts.records += len(self._records)
        counts.unknown_records += self._unknown_count
        counts.dead_letters += len(self.letters)


def _seq_ranges(seqs: list[int]) -> Iterator[tuple[int, int]]:
    lo = before = seqs[0]
    for seq in seqs[1:]:
        if seq != before + 1:
            yield lo, before
            lo = seq
        before = seq
    yield lo, before


def _writer_id(text: str | None) -> str | None:
    """Return a text that names a writer; anything else, which a column has no place for, names nobody."""
    return text if text is not None and re.fullmatch(r"[0-9a-f]{32}", text) else None
