"""What a trainer really did, kept outside of the system under test in an mmap that kill -9 can't lose.

Per writer: `attempted` is set before a call of `log()`, `acked` after it returned. Rows up to `acked` must be
stored (or declared lost); the one between may be there or not; nothing above `attempted` may.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_LAYOUT = struct.Struct("<QQQ")


class Oracle:
    """One file of three counters; one process writes, any process reads."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            self.path.write_bytes(bytes(_LAYOUT.size))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)
        self._words = memoryview(self._map).cast("Q")

    def attempt(self, number: int) -> None:
        """Say that the call for row `number` begins."""
        self._words[0] = number

    def ack(self, number: int) -> None:
        """Say that the call for row `number` returned."""
        self._words[1] = number

    def finish(self) -> None:
        """Say that the trainer came to its end by itself."""
        self._words[2] = 1

    @property
    def attempted(self) -> int:
        """The highest row that was begun."""
        return self._words[0]

    @property
    def acked(self) -> int:
        """The highest row whose call returned."""
        return self._words[1]

    @property
    def finished(self) -> bool:
        """Whether the trainer came to its end."""
        return bool(self._words[2])
