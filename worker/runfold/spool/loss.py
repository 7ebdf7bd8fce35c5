"""What a writer could not keep: counted, shown in the header, and declared as soon as there is space."""

from __future__ import annotations

import errno
from typing import Final

from runfold.protocol.records import GapRecord
from runfold.spool.format import AT_DROPPED_COUNT, AT_DROPPED_HI, AT_DROPPED_LO
from runfold.spool.header import WriterHeader

#: Why records were lost, as people read it.
_REASONS: Final = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "quota",
    errno.EFBIG: "file size limit",
    errno.EROFS: "read-only file system",
    errno.ENOENT: "spool directory removed",
}


class Loss:
    """The gap that is open, if any, and the count of everything lost."""

    __slots__ = ("_header", "_hi", "_lo", "_retry_ns", "_tried_at_ns", "_why", "count")

    def __init__(self, header: WriterHeader, retry_s: float) -> None:
        self.count = 0
        self._header = header
        self._retry_ns = int(retry_s * 1e9)
        self._lo = self._hi = 0
        self._tried_at_ns = 0
        self._why = ""

    @property
    def is_open(self) -> bool:
        """True while records are missing that no GAP record declares."""
        return self._lo > 0

    def blame(self, error: OSError) -> None:
        """Remember the newest reason.

        Raises:
            OSError: The error itself, when no system call failed: a signal handler of the program raised it
                (often a TimeoutError), and the program has to get it.
        """
        if error.errno is None:
            raise error
        self._why = _REASONS.get(error.errno, f"I/O error: {error.strerror}")

    def add(self, seq: int, now_ns: int, count: int = 1) -> None:
        """Count the `count` records up to `seq`, which follow the last one lost or begin a gap."""
        if not self._lo:
            self._lo = seq - count + 1
            self._tried_at_ns = now_ns
        self._hi = seq
        self.count += count
        self._header.store(AT_DROPPED_COUNT, self.count)
        self._header.store(AT_DROPPED_LO, self._lo)
        self._header.store(AT_DROPPED_HI, seq)

    def is_time_to_try(self, now_ns: int) -> bool:
        """Return whether it is worth asking for space again, at most once per `retry_s`."""
        # abs: a clock that was set back must not keep us waiting for hours.
        if abs(now_ns - self._tried_at_ns) < self._retry_ns:
            return False
        self._tried_at_ns = now_ns
        return True

    def payload(self) -> bytes:
        """Return the payload of the GAP record that declares the open gap."""
        return GapRecord(self._lo, self._hi, self._why).pack()

    def settle(self) -> None:
        """The GAP record is in the spool."""
        self._lo = self._hi = 0
        self._header.store(AT_DROPPED_LO, 0)
        self._header.store(AT_DROPPED_HI, 0)
