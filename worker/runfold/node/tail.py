"""One writer's spool as the agent sees it: whose it is, the next frame to send, how far it was acked.

In: a spool directory, the seq to read from. Out: encoded frames. The spool's reader is opened when needed and
closed while there is nothing to do, so that a thousand finished runs cost no descriptors.
"""

from __future__ import annotations

import logging
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit
from runfold.protocol.frames import Frame, Gap, encode_frame
from runfold.protocol.identity import Identity
from runfold.spool import Batch, SpoolReader
from runfold.spool.format import NO_SERVER
from runfold.spool.phase import Phase
from runfold.spool.reader import RELEASED
from runfold.spool.scan import DAMAGED

logger = logging.getLogger(__name__)

#: Spool bytes of a batch that is read again because its frame was too large.
_SMALL_BATCH_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame ready to send."""

    lo: int
    hi: int
    data: bytes
    crc32: int


class WriterTail:
    """Follows one writer's spool. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Open the spool.

        Raises:
            OSError, ValueError: Not (yet) a spool that can be read.
        """
        self.directory = directory
        self._reader: SpoolReader | None = SpoolReader(directory)
        self.identity: Identity = self._reader.identity
        self.writer: bytes = self._reader.writer_id
        #: None: a process of another machine, nobody here can tell.
        self.is_alive: bool | None = None
        #: It lives and does not run (SIGSTOP, a debugger).
        self.is_stopped = False
        #: The Redis stream that its run belongs to.
        self.partition = 0
        self._head_seq = 0
        self._has_ended = False
        #: another server acknowledged up to here; the spool may have let it go.
        self._released_seq = 0

    @property
    def reader(self) -> SpoolReader:
        """The spool's reader, opened again if it rested. Raises OSError when the spool is gone."""
        if self._reader is None:
            self._reader = SpoolReader(self.directory)
        return self._reader

    def rest(self) -> None:
        """Close the reader until somebody needs it."""
        if self._reader is not None:
            self._head_seq = self._reader.head_seq()
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Close for good; what was not sent stays in the spool."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def head_seq(self) -> int:
        """Return the newest seq in the spool."""
        if self._reader is not None:
            self._head_seq = self._reader.head_seq()
        return self._head_seq

    def phase(self) -> Phase | None:
        """Return what the process is doing, by its own timers; None: it has none, or does not run here."""
        if self._reader is None or not self.is_alive:
            return None
        try:
            return self._reader.header.phase(time.monotonic_ns())
        except OSError:
            return None

    def has_ended(self) -> bool:
        """Return True when nothing more will be written: closed, or the process is gone. It stays so."""
        if not self._has_ended:
            self._has_ended = self.is_alive is False or self.reader.header.closed
        return self._has_ended

    def next_frame(self, from_seq: int, max_bytes: int) -> EncodedFrame | None:
        """Return the next records as one frame, or None when there is nothing new."""
        if self._reader is None and self._has_ended and from_seq > self._head_seq:
            return None  # at rest
        batch = self._read(from_seq, max_bytes)
        if batch is None:
            return None
        hit("agent.after_read")
        try:
            return self._encode(from_seq, batch)
        except ProtocolError as error:
            return self._smaller_frame(from_seq, error)

    def store_ack(self, acked: int, server_id: bytes) -> None:
        """Write the ack into the spool's header, where the writer sees it."""
        hit("agent.before_ack_write")
        header = self.reader.header
        if acked < header.acked_seq:
            self._released_seq = max(self._released_seq, header.acked_seq)
        header.store_ack(acked, server_id or NO_SERVER, header.ack.delivered_bytes)
        hit("agent.after_ack_write")

    def _read(self, from_seq: int, max_bytes: int) -> Batch | None:
        return self.reader.read(from_seq, max_bytes=max_bytes, writer_is_dead=self.is_alive is False)

    def _encode(self, from_seq: int, batch: Batch) -> EncodedFrame:
        assert batch.lo == from_seq, "a batch begins where it was asked to"
        frame = Frame(
            writer=self.writer,
            run_path=self.identity.run_path,
            lo=from_seq,
            hi=batch.hi,
            blocks=tuple(batch.blocks),
            others=tuple(batch.others),
            gaps=tuple(map(self._explained, batch.gaps)),
        )
        data = encode_frame(frame)
        hit("agent.after_encode")
        return EncodedFrame(from_seq, batch.hi, data, zlib.crc32(data))

    def _smaller_frame(self, from_seq: int, error: ProtocolError) -> EncodedFrame | None:
        """Read less; and where even one record makes no frame, declare it lost rather than stop for ever."""
        hi = from_seq
        for max_bytes in (_SMALL_BATCH_BYTES, 1):
            batch = self._read(from_seq, max_bytes)
            if batch is None:
                return None
            try:
                return self._encode(from_seq, batch)
            except ProtocolError as again:
                error, hi = again, batch.hi
        logger.warning(
            "a record can't be sent and is declared lost",
            extra={"event": "record_unsendable", "writer": self.writer.hex(), "seq": from_seq},
        )
        lost = Gap(from_seq, hi, f"could not be sent: {error}"[:500])
        data = encode_frame(Frame(self.writer, self.identity.run_path, from_seq, hi, gaps=(lost,)))
        return EncodedFrame(from_seq, hi, data, zlib.crc32(data))

    def _explained(self, gap: Gap) -> Gap:
        """What another server acknowledged and the spool released is not damage."""
        is_released = gap.why == DAMAGED and gap.hi <= self._released_seq
        return replace(gap, why=RELEASED) if is_released else gap
