"""LateSpool: stands in while no spool can be made, and gives way to a real one when there is space again.

In: a way to make a spool. Out: the shape of a SpoolWriter. What was lost until then is declared as a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runfold.recorder_spool import Spool

#: Between attempts to make the spool.
RETRY_S = 1.0


class LateSpool:
    """Counts what is lost until `make` succeeds, then passes everything on. The recorder's lock guards it."""

    def __init__(
        self, make: Callable[[int], Spool | None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take `make`, which gets how many records were lost; it returns None while there is no space."""
        self._make = make
        self._clock = clock
        self._tried_s = clock()
        self._lost_count = 0
        self._spool: Spool | None = None

    @property
    def last_seq(self) -> int:
        """The seq of the last record, kept or not."""
        return self._lost_count if self._spool is None else self._spool.last_seq

    @property
    def dropped_count(self) -> int:
        """How many records could not be kept."""
        return self._lost_count if self._spool is None else self._spool.dropped_count

    @property
    def header_words(self) -> memoryview | None:
        """The header page as words, once there is a spool."""
        return getattr(self._spool, "header_words", None)

    def append_row(self, schema: Any, flags: int, step: int, values: Any) -> bool:
        """Append one row; return whether it was kept."""
        spool = self._spool or self._try()
        return self._lose() if spool is None else spool.append_row(schema, flags, step, values)

    def append_record(self, kind: int, payload: bytes, flags: int = 0) -> bool:
        """Append another record; return whether it was kept."""
        spool = self._spool or self._try()
        return self._lose() if spool is None else spool.append_record(kind, payload, flags)

    def close(self, *, final: bool = True) -> None:
        """Close the spool, if there is one."""
        if self._spool is not None:
            self._spool.close(final=final)

    def close_with_status(self, payload: bytes, at_last: Callable[[int], bool]) -> bool:
        """Close the spool, if there is one."""
        return True if self._spool is None else self._spool.close_with_status(payload, at_last)

    def _lose(self) -> bool:
        self._lost_count += 1
        return False

    def _try(self) -> Spool | None:
        now_s = self._clock()
        if now_s - self._tried_s >= RETRY_S:
            self._tried_s = now_s
            self._spool = self._make(self._lost_count)
        return self._spool
