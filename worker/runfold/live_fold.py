"""LiveFold: what this process and its family logged so far, read back from their spools when somebody asks.

In: directories of spools. Out: summary and rows, as the coordinator will have them. log() pays nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runfold.family_spools import FamilySpools
from runfold.protocol.history.refold import rows_in_step_order, summary_in_step_order
from runfold.protocol.history.rows import CommittedRow
from runfold.protocol.history.summary import SummaryTree, nest, runtime_s, timestamp_unix_s
from runfold.protocol.history.writer_fold import WriterFold

#: Read at once; bounds the memory that catching up takes.
_BATCH_BYTES = 4 * 1024 * 1024


class LiveFold:
    """Folds one spool, or those of a family as if one process had said it all. Thread-safe.

    It goes on from where it stopped before, and reads files only. Delivered segments are released when spools
    take too much room: what was not folded by then is missing. `keep_up` folds in time.
    """

    def __init__(self, directory: Path, started_unix_ns: int, *, family: Path | None = None) -> None:
        """Take the spool of this process, and where its family is listed: the spool of the run's maker."""
        self._places = (directory, family)
        self._started_unix_ns = started_unix_ns
        self._fold = WriterFold(started_unix_ns)
        self._lock = threading.Lock()
        #: Kept between calls: they know where they stopped.
        self._spools = FamilySpools(*self._places)
        #: False once something was asked for that had been released.
        self.is_whole = True
        #: Counts what was folded; the summary as it was at `_shown_at`.
        self._pieces_count = 0
        self._shown: dict[str, Any] | None = None
        self._shown_at = 0

    def close(self) -> None:
        """Let go of the files. Harmless when repeated; the next call opens them again."""
        with self._lock:
            self._spools.close()

    def __del__(self) -> None:
        # A finished run is let go of without a word; its descriptors must not pile up.
        spools = self.__dict__.get("_spools")
        if spools is not None:
            spools.close()

    def summary(self) -> dict[str, Any]:
        """Return the summary of everything logged so far, pending rows left out; it is not to be changed.

        Who reads ten thousand keys one by one gets the same dict ten thousand times.
        """
        with self._lock:
            self._catch_up()
            if self._shown is None or self._shown_at != self._pieces_count:
                # Late rows made the running summary inexact.
                tree = (self._refold() if self._fold.is_late else None) or self._fold.summary
                self._shown, self._shown_at = tree.as_dict(), self._pieces_count
            return self._shown

    def rows(self) -> list[dict[str, Any]]:
        """Return the committed rows as nested dicts, one a step, with `_step`, `_timestamp`, `_runtime`."""
        with self._lock:
            fold, _ = self._fold_all()
        assert fold.kept_rows is not None, "_fold_all keeps rows"
        return [row_as_dict(row, self._started_unix_ns) for row in rows_in_step_order(fold.kept_rows)]

    def fold_slice(self, max_bytes: int) -> bool:
        """Fold about `max_bytes` of what was logged since the last call; return whether there was any."""
        with self._lock:
            return self._fold_next(max_bytes)

    def _catch_up(self) -> None:
        while self._fold_next(_BATCH_BYTES):
            pass

    def _fold_next(self, max_bytes: int) -> bool:
        pieces = self._spools.read(max_bytes)
        self._fold.feed_pieces(pieces)
        self._pieces_count += len(pieces)
        self.is_whole = self.is_whole and self._spools.is_whole
        return bool(pieces)

    def _refold(self) -> SummaryTree | None:
        """Return the summary with late rows in their places; None when a spool's beginning was released."""
        fold, is_whole = self._fold_all()
        if not is_whole:
            return None
        assert fold.kept_rows is not None, "_fold_all keeps rows"
        return summary_in_step_order(fold.kept_rows, fold.kept_events, self._started_unix_ns)

    def _fold_all(self) -> tuple[WriterFold, bool]:
        fold = WriterFold(self._started_unix_ns, keep_rows=True)
        spools = FamilySpools(*self._places)
        try:
            while pieces := spools.read(_BATCH_BYTES):
                fold.feed_pieces(pieces)
        finally:
            spools.close()
        self.is_whole = self.is_whole and spools.is_whole
        return fold, spools.is_whole


def row_as_dict(row: CommittedRow, started_unix_ns: int) -> dict[str, Any]:
    """Return a committed row as users see it."""
    own = {
        "_step": row.step,
        "_timestamp": timestamp_unix_s(row.t_ns),
        "_runtime": runtime_s(row.t_ns, started_unix_ns),
    }
    return {**own, **nest(row.cells)}
