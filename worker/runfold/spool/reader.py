"""SpoolReader: the agent's end of a spool. Batches of records come out, damage becomes declared gaps.

Reads by pread only: nobody who cuts a file short can kill the agent. One reader per spool stores acks and
removes segments (the agent holds a lock on the target); any number may read.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runfold.protocol.blocks import Gap
from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit
from runfold.protocol.identity import Identity
from runfold.protocol.limits import MAX_RECORD_BYTES, TARGET_FRAME_BYTES, WRITER_ID_BYTES
from runfold.protocol.records import Record, RecordKind
from runfold.protocol.rows import RECORD_HEADER_BYTES, RowSchema
from runfold.spool.directory import list_writers
from runfold.spool.errors import SpoolDamagedError
from runfold.spool.format import (
    HEADER_NAME,
    IDENTITY_NAME,
    SEGMENT_HEADER_BYTES,
    FixedHeader,
    boot_id_bytes,
    crc_seed,
)
from runfold.spool.header import HeaderView, WriterWords
from runfold.spool.last_record import complete
from runfold.spool.scan import DAMAGED, Batch, Scan, find_record
from runfold.spool.segment_files import SegmentFiles

__all__ = ["Batch", "SpoolReader", "list_writers"]

#: What one record is taken to need before the first was read.
_GUESSED_RECORD_BYTES = 128
_LEAST_READ_BYTES = 4096
#: Rows of one batch; with the keys that they need they stay below the largest frame.
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_WHOLE = 1 << 31
_MAX_MARKS = 4096


class HeldSegment(NamedTuple):
    """A segment of a spool, for those who decide what may go."""

    first_seq: int
    size_bytes: int
    changed_unix_s: float


#: Why records are missing that were acknowledged and then removed.
RELEASED = "released after an acknowledgement"
#: Why records are missing that a writer lost, when it found no space to say so itself.
UNKEPT = "could not be kept when the writer ended"


class SpoolReader:
    """Reads one spool of a process that is alive, ended, or was killed in the middle of a write.

    Not thread-safe.
    """

    def __init__(self, directory: Path) -> None:
        """Open a spool, rebuilding its header from the identity and the segments where it is damaged.

        Raises:
            SpoolDamagedError: Neither writer.msgpack nor the first record says who wrote it.
            OSError: No such directory, no permission.
        """
        self.directory = directory
        self.writer_id = _writer_id(directory)
        complete(directory, self.writer_id)
        self._seed = crc_seed(self.writer_id)
        self._files = SegmentFiles(directory, self.writer_id, self._seed)
        self.identity = self._read_identity()
        self.header = HeaderView(directory / HEADER_NAME, self._fixed_header())
        self._schemas: dict[int, RowSchema] = {}
        #: Where to go on: segment and offset, by the seq that comes next there.
        self._marks: dict[int, tuple[int, int]] = {}
        self._record_bytes = _GUESSED_RECORD_BYTES
        #: Segment, offset and head when nothing more was found there, so that a poll does not search again.
        self._nothing_after = (0, 0, 0)
        #: Head as found by reading, where the header cannot tell.
        self._scanned_seq = 0

    def __del__(self) -> None:
        """Give descriptors back that nobody closed."""
        with suppress(AttributeError):
            self._files.close()
            self.header.close()

    def read(
        self, from_seq: int, *, max_bytes: int = TARGET_FRAME_BYTES, writer_is_dead: bool = False
    ) -> Batch | None:
        """Return the records from `from_seq` on, about `max_bytes` of them; None when there is nothing new.

        Args:
            from_seq: The next seq that is wanted, >= 1.
            max_bytes: Size in the spool; exceeded only by a single record that is larger.
            writer_is_dead: What was not written by now never will be: the torn tail is the end of the log.

        Returns:
            A batch with lo == from_seq. What is damaged is in its gaps, so that nothing is lost silently.

        Raises:
            OSError: Files cannot be opened or read for now. Nothing is declared lost for that; try again.
        """
        max_bytes = min(max_bytes, _MAX_BATCH_BYTES)
        if writer_is_dead and not self.header.closed:
            complete(self.directory, self.writer_id)
        words = self.header.words()
        is_over = writer_is_dead or words.is_closed
        if not is_over and self.header.is_whole and words.head_seq < from_seq:
            return None
        first_seq, offset = self._marks.get(from_seq) or self._locate(from_seq)
        scan = Scan(from_seq, self._seed, self._schemas)
        was_read_again = False
        while True:
            taken = self._feed(scan, first_seq, offset, words, max_bytes)
            offset += taken
            if not scan.is_empty:
                self._mark(scan.expected, first_seq, offset)
                return self._finish(scan)
            if taken:
                # Records before from_seq, or definitions.
                continue
            # The end of the segment, damage, or a record that is being written at this moment.
            later = [found for found in self._files.listing() if found > first_seq]
            if not was_read_again:
                # The writer may have gone on here before it made the next segment: look once more.
                was_read_again, words = True, self.header.words()
                continue
            place = self._go_on(scan, first_seq, offset, later, words, is_over=is_over)
            if place is None:
                break
            was_read_again = False
            first_seq, offset = place
        if is_over:
            self._declare_tail(scan, words)
        return None if scan.is_empty else self._finish(scan)

    def head_seq(self) -> int:
        """Return the last seq that the writer gave out, lost ones included."""
        words = self.header.words()
        if self.header.is_whole:
            return max(words.head_seq, words.dropped_hi, words.final_seq)
        while batch := self.read(self._scanned_seq + 1):
            self._scanned_seq = batch.hi
        return self._scanned_seq

    def first_held_seq(self) -> int:
        """Return the first seq that is still in the spool; one above the head when nothing is."""
        return next(iter(self._files.listing()), self.head_seq() + 1)

    def remove_acked(self, keep_s: float, keep_bytes: int, *, now_unix_s: float | None = None) -> int:
        """Delete segments whose every record was acknowledged; return the bytes freed.

        The segment that is being written stays. Kept as well: what was changed less than `keep_s` ago, while
        it is within the newest `keep_bytes` of what could be deleted (another server may still want it).
        """
        now_unix_s = time.time() if now_unix_s is None else now_unix_s
        kept_bytes = freed_bytes = 0
        for held in reversed(self.removable_segments()):
            kept_bytes += held.size_bytes
            if now_unix_s - held.changed_unix_s >= keep_s or kept_bytes > keep_bytes:
                freed_bytes += self.remove_segment(held.first_seq)
        return freed_bytes

    def removable_segments(self) -> list[HeldSegment]:
        """Return the segments whose every record was acknowledged; the last one only when it is closed."""
        acked_seq, final_seq = self.header.acked_seq, self.header.final_seq
        listing = list(self._files.listing().items())
        firsts = [first_seq for first_seq, _ in listing]
        ends = [first_seq - 1 for first_seq in firsts[1:]] + [final_seq]
        return [
            HeldSegment(first_seq, size, changed_unix_s)
            for (first_seq, (size, changed_unix_s)), end_seq in zip(listing, ends, strict=False)
            if end_seq is not None and end_seq <= acked_seq
        ]

    def remove_segment(self, first_seq: int) -> int:
        """Delete one of `removable_segments`; return the bytes freed."""
        # The ack that allows this has to outlive a power loss before the rows go.
        self.header.sync()
        hit("spool.before_unlink")
        size_bytes, _ = self._files.listing().get(first_seq, (0, 0.0))
        self._files.remove(first_seq)
        return size_bytes

    def held_bytes(self) -> int:
        """Return the size of all segments together."""
        return sum(size for size, _ in self._files.listing().values())

    def changed_unix_s(self) -> float:
        """Return when the writer or an ack last changed something here."""
        times = [changed_unix_s for _, changed_unix_s in self._files.listing().values()]
        return max([self.header.changed_unix_s(), *times])

    def close(self) -> None:
        """Close all files; idempotent."""
        self._files.close()
        self.header.close()

    def _feed(self, scan: Scan, first_seq: int, offset: int, words: WriterWords, max_bytes: int) -> int:
        """Give `scan` what is wanted from one place; return how many bytes it took."""
        wanted = max_bytes
        if self.header.is_whole and words.head_seq >= scan.expected >= first_seq:
            # Near the head: the rest of the segment is zeros that nobody needs to copy.
            wanted = min(max_bytes, (words.head_seq - scan.expected + 1) * self._record_bytes * 2)
        view = self._files.read(first_seq, offset, max(wanted, _LEAST_READ_BYTES))
        before = scan.expected
        taken = scan.feed(view)
        if scan.is_empty and len(view) - taken >= RECORD_HEADER_BYTES:
            total = int.from_bytes(view[taken : taken + 4], "little")
            if len(view) - taken < total <= MAX_RECORD_BYTES + 64 and total & 7 == 0:
                # One record larger than what was read; a damaged length reads no further than the segment.
                view = self._files.read(first_seq, offset, taken + total)
                taken = scan.feed(view)
        if scan.expected > before:
            self._record_bytes = max(RECORD_HEADER_BYTES, taken // (scan.expected - before))
        return taken

    def _go_on(
        self, scan: Scan, first_seq: int, offset: int, later: list[int], words: WriterWords, *, is_over: bool
    ) -> tuple[int, int] | None:
        """Return where reading goes on after a place that gives nothing; None when there is nothing more."""
        if later and later[0] <= scan.expected:
            return later[0], SEGMENT_HEADER_BYTES
        if later or is_over or words.head_seq >= scan.expected:
            here = (first_seq, offset, words.head_seq)
            if not later and self._nothing_after == here:
                return None
            whole = self._files.read(first_seq, 0, _WHOLE)
            hi = scan.expected + len(whole) // RECORD_HEADER_BYTES
            if later:
                hi = later[0] - 1
            elif self.header.is_whole:
                # Seqs jump where a full disk cost many records.
                hi = max(hi, words.head_seq)
            # From here on, not behind it: what was being written a moment ago may be whole by now.
            found = find_record(whole, offset, self._seed, scan.expected, hi)
            if found is not None:
                return first_seq, found
            self._nothing_after = here
        return (later[0], SEGMENT_HEADER_BYTES) if later else None

    def _declare_tail(self, scan: Scan, words: WriterWords) -> None:
        """Declare what the writer gave a seq to and is not there, now that it ended."""
        if not words.is_closed and not self.header.is_whole:
            return
        if 0 < words.dropped_lo <= words.dropped_hi:
            scan.declare(words.dropped_lo - 1, DAMAGED)
            scan.declare(words.dropped_hi, UNKEPT)
        scan.declare(words.final_seq if words.is_closed else words.head_seq, DAMAGED)

    def _finish(self, scan: Scan) -> Batch:
        batch = scan.batch()
        if not batch.gaps:
            return batch
        acked_seq = self.header.acked_seq
        gaps = []
        for gap in batch.gaps:
            lo, why = gap.lo, gap.why
            if lo == 1:
                # Who the writer is stands in a file of its own: seq 1 is never lost.
                record = Record(1, self.header.fixed.created_ns, RecordKind.WRITER, 0, self.identity.pack())
                batch.others.insert(0, record)
                lo = 2
            if why == DAMAGED and gap.hi <= acked_seq:
                why = RELEASED
            if lo <= gap.hi:
                gaps.append(Gap(lo, gap.hi, why))
        return Batch(batch.lo, batch.hi, batch.blocks, batch.others, gaps)

    def _locate(self, from_seq: int) -> tuple[int, int]:
        """Return the segment that should hold `from_seq`, else the first later one, and its first offset."""
        held = list(self._files.listing())
        before = [first_seq for first_seq in held if first_seq <= from_seq]
        return (before[-1] if before else held[0] if held else 0), SEGMENT_HEADER_BYTES

    def _mark(self, seq: int, first_seq: int, offset: int) -> None:
        self._marks[seq] = (first_seq, offset)
        while len(self._marks) > _MAX_MARKS:
            del self._marks[next(iter(self._marks))]

    def _read_identity(self) -> Identity:
        try:
            return Identity.unpack((self.directory / IDENTITY_NAME).read_bytes())
        except (OSError, ProtocolError) as error:
            reason = error
        for first_seq, (size, _) in self._files.listing().items():
            scan = Scan(1, self._seed, {})
            scan.feed(self._files.read(first_seq, SEGMENT_HEADER_BYTES, size))
            for record in scan.others[:1]:
                if record.kind == RecordKind.WRITER:
                    return Identity.unpack(record.payload)
            break
        raise SpoolDamagedError(f"{self.directory} does not say who wrote it: {reason}")

    def _fixed_header(self) -> FixedHeader:
        return FixedHeader(
            writer=self.writer_id,
            pid=self.identity.pid or 0,
            pid_start=self.identity.pid_start or 0,
            boot_id=boot_id_bytes(self.identity.boot_id),
            created_ns=self.identity.started_unix_ns,
        )


def _writer_id(directory: Path) -> bytes:
    try:
        writer = bytes.fromhex(directory.name)
    except ValueError:
        writer = b""
    if len(writer) != WRITER_ID_BYTES:
        raise SpoolDamagedError(f"{directory.name} is not a writer's id")
    return writer
