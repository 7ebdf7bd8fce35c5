"""Frames to the store: one transaction a batch of entries, with watermark, owner epoch and cursor in it.

In: entries as read. Out: Applied, with the acks that are durable now. Whatever raises here without being the
database's fault is narrowed down to one entry, which becomes a dead letter.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold.protocol.errors import ProtocolError
from runfold.protocol.frames import Envelope, Frame, decode_frame, encode_frame, peek_frame
from runfold_coordinator.clock import Clock
from runfold_coordinator.ingest.branches import follow_branches
from runfold_coordinator.ingest.dead_letters import DeadLetter, peek_in_child
from runfold_coordinator.ingest.run_catalogs import RunCatalogs
from runfold_coordinator.ingest.said_artifacts import note_said_artifacts
from runfold_coordinator.ingest.said_files import note_said_files
from runfold_coordinator.ingest.watermarks import Watermarks, WriterMark
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.state_board import StateBoard
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.errors import FencedError, StoreError
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a data stream."""

    entry_id: str
    frame: bytes
    crc: bytes


@dataclass(slots=True)
class Counts:
    """What happened to entries, frames and records since start."""

    entries: int = 0
    bad_crc: int = 0
    duplicate_frames: int = 0
    sliced_frames: int = 0
    nacked_frames: int = 0
    rows: int = 0
    records: int = 0
    unknown_records: int = 0
    dead_letters: int = 0
    bisections: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """A committed batch: durable ack by writer id (also for duplicates and for what was refused)."""

    cursor: str
    acks: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class _Decoded:
    frame: Frame | None = None
    #: For a frame that does not decode: whose it is, if that much can be read.
    envelope: Envelope | None = None
    reason: str = ""
    raw: bytes = b""


@dataclass(slots=True)
class _Batch:
    """Work of one transaction."""

    marks: dict[bytes, WriterMark]
    writers: dict[bytes, WriterBatch] = field(default_factory=dict)
    acks: dict[bytes, int] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)


class Ingest:
    """Applies batches of one partition. Not thread-safe; one owner at a time, checked in each transaction."""

    def __init__(self, store: Store, partition: int, board: StateBoard, clock: Clock, *, owner: str) -> None:
        self._store = store
        self._partition = partition
        self._board = board
        self._clock = clock
        self._owner = owner
        self._epoch = 0
        self.counts = Counts()
        #: Told what was committed; may not raise: it would be taken for a fault of the batch.
        self.on_stored: Callable[[Sequence[WriterBatch]], None] = lambda _works: None
        self._watermarks = Watermarks(partition)
        self._catalogs = RunCatalogs()
        store.writing.on_rollback(self._watermarks.forget)
        store.writing.on_rollback(self._catalogs.forget)

    def claim(self) -> str:
        """Become the owner of the partition; return the cursor that the last one committed."""
        self._watermarks.forget()
        self._catalogs.forget()
        self._epoch, cursor = self._store.writing.claim_partition(self._partition, self._owner)
        self._board.check_owner = self.check_owner
        return cursor

    def check_owner(self, tx: Transaction) -> None:
        """Hold the partition until the end of the transaction; FencedError when it is another's by now."""
        tx.check_owner(self._partition, self._epoch)

    def ask_owner(self) -> None:
        """Raise FencedError when the partition is another's by now; for times when nothing is committed."""
        c = t.partitions.c
        found = self._store.fetch(sa.select(c.owner_epoch).where(c.partition == self._partition))
        epoch = found[0].owner_epoch if found else None
        if epoch != self._epoch:
            raise FencedError(self._partition, self._epoch, epoch)

    def committed_cursor(self) -> str:
        """Return the cursor that the database holds: after a commit of which the outcome is not known."""
        return self._store.cursor(self._partition)

    def apply(self, entries: list[Entry], cursor: str) -> Applied:
        """Store the entries and move the cursor, in one commit. Empties the list: a batch is tens of MB.

        Raises:
            StoreUnavailableError: Nothing of this batch is known to be stored; read the cursor and try again.
            FencedError: Somebody else owns the partition; nothing was stored.
        """
        self.counts.entries += len(entries)
        entries.reverse()
        decoded = []
        while entries:
            decoded.append(self._decode(entries.pop()))
        failpoints.hit("ingest.after_decode")
        return self._apply_or_bisect([found for found in decoded if found is not None], cursor)

    def bury(self, entry: Entry, cursor: str, reason: str) -> Applied:
        """Make an entry whose decoding kills the process a dead letter."""
        envelope = peek_in_child(entry.frame)
        return self._commit([_Decoded(envelope=envelope, reason=reason, raw=entry.frame)], cursor)

    def _decode(self, entry: Entry) -> _Decoded | None:
        if zlib.crc32(entry.frame).to_bytes(4, "little") != entry.crc:
            # Damaged on its way: the sender still has it and sends again when no ack comes.
            self.counts.bad_crc += 1
            return None
        try:
            return _Decoded(frame=decode_frame(entry.frame))
        except ProtocolError as error:
            envelope = peek_frame(entry.frame)
            return _Decoded(envelope=envelope, reason=f"frame: {error}", raw=entry.frame)

    def _apply_or_bisect(self, decoded: Sequence[_Decoded], cursor: str) -> Applied:
        try:
            return self._commit(decoded, cursor)
        except StoreError:
            raise
        except Exception as error:
            logger.exception("a batch could not be processed", extra={"event": "ingest_bisect"})
            self.counts.bisections += 1
            if len(decoded) == 1:
                return self._bury(decoded[0], error, cursor)
        # The cursor moves with the second half only: after a stop the first half comes again, as duplicates.
        middle = len(decoded) // 2
        first = self._apply_or_bisect(decoded[:middle], "")
        second = self._apply_or_bisect(decoded[middle:], cursor)
        return Applied(cursor, first.acks | second.acks)

    def _bury(self, found: _Decoded, error: Exception, cursor: str) -> Applied:
        letter = _as_letter(found, error)
        try:
            return self._commit([letter], cursor)
        except StoreError:
            raise
        except Exception:
            # Not even its writer's row can be written: keep the bytes, let the others go on.
            logger.exception("an entry could not be buried", extra={"event": "ingest_bury"})
            return self._commit([_Decoded(reason=letter.reason, raw=letter.raw)], cursor)

    def _commit(self, decoded: Sequence[_Decoded], cursor: str) -> Applied:
        now_unix_s = self._clock.unix_s()
        with self._store.writing.transaction() as tx:
            failpoints.hit("ingest.after_begin")
            self.check_owner(tx)
            whose = [found.frame or found.envelope for found in decoded]
            marks = self._watermarks.load(tx, [who for who in whose if who is not None], now_unix_s)
            batch = _Batch(marks)
            for found in decoded:
                self._take(batch, found)
            self._write(tx, batch, now_unix_s)
            failpoints.hit("ingest.after_insert")
            if cursor:
                tx.set_cursor(self._partition, cursor)
        failpoints.hit("ingest.after_commit")
        self.on_stored(list(batch.writers.values()))
        return Applied(cursor, batch.acks)

    def _take(self, batch: _Batch, found: _Decoded) -> None:
        """Check a frame against the watermark and put it to its writer's work."""
        whose = found.frame or found.envelope
        if whose is None:
            self.counts.dead_letters += 1
            batch.letters.append(DeadLetter(None, None, None, None, found.reason, found.raw))
            return
        mark = batch.marks[whose.writer]
        if whose.hi <= mark.last_seq:
            self.counts.duplicate_frames += 1
        elif whose.lo > mark.last_seq + 1:
            self.counts.nacked_frames += 1  # the ack of what we have tells the agent to go back
        else:
            self.counts.sliced_frames += whose.lo <= mark.last_seq
            work = batch.writers.get(whose.writer)
            if work is None:
                work = batch.writers[whose.writer] = WriterBatch(mark)
            if found.frame is None:
                lo = max(whose.lo, mark.last_seq + 1)
                work.add_letter(lo, whose.hi, found.reason, found.raw)
            else:
                frame = found.frame.after(mark.last_seq)
                assert frame is not None, "hi is above the watermark"
                work.add_frame(frame)
            mark.last_seq = whose.hi
        batch.acks[whose.writer] = mark.last_seq

    def _write(self, tx: Transaction, batch: _Batch, now_unix_s: float) -> None:
        works = list(batch.writers.values())
        for work in works:
            work.make_chunks(tx, self._store)
        tx.insert_chunks([chunk for work in works for chunk in work.chunks])
        speaking = [work for work in works if work.speaks]
        for work in speaking:
            self._catalogs.open_run(tx, work.mark.run.run_pk)
        for work in speaking:
            work.tell(self._catalogs)
        tx.insert(t.records, [row for work in works for row in work.record_rows()])
        tx.insert(t.gaps, [row for work in works for row in work.gap_rows()])
        note_said_files(tx, works)
        note_said_artifacts(tx, works, now_unix_s)
        letters = [*batch.letters, *(letter for work in works for letter in work.letters)]
        if letters:
            first = tx.new_ids(len(letters))
            rows = [letter.to_row(first + i, now_unix_s) for i, letter in enumerate(letters)]
            tx.insert(t.dead_letters, rows)
        if works:
            self._watermarks.save(tx, [work.mark for work in works], now_unix_s)
            self._catalogs.save(tx)
            follow_branches(tx, self._store, works)
            self._board.add_evidence(tx, [found for work in works for found in work.evidence()])
            testifying = [work.mark for work in works if work.testifies]
            self._board.note_data(tx, [work.mark for work in works], testifying)
        for work in works:
            if work.raises_alerts:
                tx.touch(work.mark.run.run_pk, with_alerts=True)
            work.count(self.counts)


def _as_letter(found: _Decoded, error: Exception) -> _Decoded:
    whose: Any = found.frame or found.envelope
    envelope = None if whose is None else Envelope(whose.writer, whose.run_path, whose.lo, whose.hi)
    raw = found.raw
    if found.frame is not None:
        raw = encode_frame(found.frame)
    return _Decoded(envelope=envelope, reason=f"{type(error).__name__}: {error}", raw=raw)
