"""The header page from both ends: what the writer stores in it, and what the agent reads and stores."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

from runfold.spool.format import (
    ACK_BYTES,
    AT_ACK,
    AT_HEAD_SEQ,
    AT_REBUILT,
    CLOSED_WORD,
    HEADER_BYTES,
    Ack,
    FixedHeader,
    open_private,
)
from runfold.spool.phase import Phase, unpack_phase

_WORD = struct.Struct("<Q")
_WORDS = struct.Struct("<QQQQQQ")
#: No process lives to say more than this; a higher seq in the page is damage, and would become an absurd gap.
_HIGHEST_SEQ = 2**48


class WriterWords(NamedTuple):
    """What the writer stores, in the order of the page. dropped_lo..hi: lost, not declared yet; else 0."""

    head_seq: int
    closed_word: int
    final_seq: int
    dropped_lo: int
    dropped_hi: int
    dropped_count: int

    @property
    def is_closed(self) -> bool:
        """True when the writer ended by itself."""
        return self.closed_word == CLOSED_WORD


class WriterHeader:
    """The writer's end. Mapped like its segments, or by pread and pwrite where they are."""

    def __init__(self, path: Path, fixed: FixedHeader, *, mapped: bool) -> None:
        """Create the page; raises OSError when there is no space for it."""
        self.fd = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        #: Where the page lies; changes with the name of its directory.
        self.path = path
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        #: The page as words, or None when not mapped.
        self.words: memoryview | None = None
        self._ack = Ack()
        try:
            os.pwrite(self.fd, fixed.pack().ljust(HEADER_BYTES, b"\0"), 0)
            if mapped:
                os.posix_fallocate(self.fd, 0, HEADER_BYTES)
                self._map = mmap.mmap(self.fd, HEADER_BYTES)
                self._view = memoryview(self._map)
                self.words = self._view.cast("Q")
        except BaseException:
            self.close()
            raise

    def store(self, at: int, word: int) -> None:
        """Store one word; an error of the file system only makes the page lag."""
        if self.words is not None:
            self.words[at >> 3] = word
            return
        try:
            os.pwrite(self.fd, _WORD.pack(word), at)
        except OSError as error:
            if error.errno is None:
                # Not from the system but from a signal handler of the program.
                raise

    @property
    def ack(self) -> Ack:
        """What the agent stored last; while it is being stored, what it stored before."""
        try:
            # A closed writer still waits for its last ack.
            fd = self.fd if self.fd >= 0 else open_private(self.path, os.O_RDONLY)
            try:
                self._ack = Ack.unpack(os.pread(fd, ACK_BYTES, AT_ACK)) or self._ack
            finally:
                if fd != self.fd:
                    os.close(fd)
        except OSError as error:
            if error.errno is None:
                # Not from the system but from a signal handler of the program.
                raise
        return self._ack

    def close(self) -> None:
        """Unmap and close; idempotent. The ack stays readable."""
        if self.fd < 0:
            return
        if self.words is not None and self._view is not None and self._map is not None:
            self.words.release()
            self._view.release()
            self._map.close()
            self.words = self._view = self._map = None
        os.close(self.fd)
        self.fd = -1


_NO_WORDS = WriterWords(0, 0, 0, 0, 0, 0)


def _unpack_words(data: bytes) -> WriterWords:
    words = WriterWords(*_WORDS.unpack(data.ljust(_WORDS.size, b"\0")))
    if max(words.head_seq, words.final_seq, words.dropped_hi) > _HIGHEST_SEQ:
        return _NO_WORDS
    return words


def read_progress(path: Path) -> tuple[WriterWords, int] | None:
    """Return what the writer stored and the acked seq, changing nothing; None when the page is damaged.

    Raises:
        OSError: There is no such file, or it can't be read.
    """
    fd = open_private(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        page = os.pread(fd, HEADER_BYTES, 0)
    finally:
        os.close(fd)
    if len(page) < HEADER_BYTES or FixedHeader.unpack(page) is None:
        return None
    ack = Ack.unpack(page[AT_ACK : AT_ACK + ACK_BYTES]) or Ack()
    return _unpack_words(page[AT_HEAD_SEQ : AT_HEAD_SEQ + _WORDS.size]), ack.seq


class HeaderView:
    """The agent's end. By pread and pwrite: a page that was cut short cannot kill the agent by SIGBUS.

    `is_whole` is False when the fixed part had to be rebuilt, ever: the writer's words are then only a hint.
    """

    def __init__(self, path: Path, rebuilt: FixedHeader) -> None:
        """Open the page; mend it from `rebuilt` when it is missing or damaged."""
        self._fd = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            page = os.pread(self._fd, HEADER_BYTES, 0)
            fixed = FixedHeader.unpack(page) if len(page) == HEADER_BYTES else None
            if fixed is None or fixed.writer != rebuilt.writer:
                fixed = rebuilt
                os.ftruncate(self._fd, HEADER_BYTES)
                os.pwrite(self._fd, fixed.pack(), 0)
                os.pwrite(self._fd, _WORD.pack(1), AT_REBUILT)
                page = os.pread(self._fd, HEADER_BYTES, 0)
            self.fixed = fixed
            self.is_whole = _WORD.unpack_from(page, AT_REBUILT)[0] == 0
        except BaseException:
            os.close(self._fd)
            raise

    def words(self) -> WriterWords:
        """Return everything that the writer stored, by one read; zeros where the page is cut short."""
        return _unpack_words(os.pread(self._fd, _WORDS.size, AT_HEAD_SEQ))

    def phase(self, now_ns: int) -> Phase | None:
        """Return what the writer's process is doing, at `now_ns` of CLOCK_MONOTONIC; None: it did not say."""
        return unpack_phase(os.pread(self._fd, HEADER_BYTES, 0), now_ns)

    @property
    def head_seq(self) -> int:
        """The last seq that the writer committed."""
        return self.words().head_seq

    @property
    def closed(self) -> bool:
        """True when the writer ended by itself."""
        return self.words().is_closed

    @property
    def final_seq(self) -> int | None:
        """The last seq that the writer gave out, lost ones included; None while it is open."""
        words = self.words()
        return words.final_seq if words.is_closed else None

    @property
    def dropped_count(self) -> int:
        """How many records could not be kept, ever."""
        return self.words().dropped_count

    @property
    def ack(self) -> Ack:
        """The ack as stored; nothing acknowledged when it is damaged, so that all is sent again."""
        return Ack.unpack(os.pread(self._fd, ACK_BYTES, AT_ACK)) or Ack()

    def store_ack(self, seq: int, server_id: bytes, delivered_bytes: int = 0) -> None:
        """Store a durable ack; it may go down when another server answers."""
        os.pwrite(self._fd, Ack(seq, server_id, delivered_bytes).pack(), AT_ACK)

    @property
    def acked_seq(self) -> int:
        """The highest seq that a server has stored durably."""
        return self.ack.seq

    @acked_seq.setter
    def acked_seq(self, seq: int) -> None:
        ack = self.ack
        self.store_ack(seq, ack.server_id, ack.delivered_bytes)

    @property
    def server_id(self) -> bytes:
        """The server that the ack came from; zeros before the first."""
        return self.ack.server_id

    def changed_unix_s(self) -> float:
        """Return when the page was last written to."""
        return os.fstat(self._fd).st_mtime

    def sync(self) -> None:
        """Bring the page to disk: before anything is deleted that it says was delivered."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the page; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
