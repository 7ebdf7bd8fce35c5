"""LiveFold: what this process has logged so far, read back from its own spool when somebody asks.

In: the directory of a spool. Out: summary and rows, as the coordinator will have them. log() pays nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runfold.protocol.history.refold import rows_in_step_order, summary_in_step_order
from runfold.protocol.history.rows import CommittedRow
from runfold.protocol.history.summary import SummaryTree, nest, runtime_s, timestamp_unix_s
from runfold.protocol.history.writer_fold import WriterFold
from runfold.spool.reader import RELEASED, Batch, SpoolReader

#: Read at once; bounds the memory that catching up takes.
_BATCH_BYTES = 4 * 1024 * 1024


class LiveFold:
    """Folds one spool, always from where it stopped before. Thread-safe.

    Reads files only. Delivered segments are released when spools take too much room: what was not folded by
    then is missing. `keep_up` folds in time.
    """

    def __init__(self, directory: Path, started_unix_ns: int) -> None:
        self._directory = directory
        self._started_unix_ns = started_unix_ns
        self._fold = WriterFold(started_unix_ns)
        self._next_seq = 1
        self._lock = threading.Lock()
        #: Kept open between calls: it knows where it stopped.
        self._reader: SpoolReader | None = None
        #: False once something was asked for that had been released.
        self.is_whole = True
        #: The summary as it was when the next record was the one of `_shown_at`.
        self._shown: dict[str, Any] | None = None
        self._shown_at = 0

    def close(self) -> None:
        """Let go of the files. Harmless when repeated; the next call opens them again."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def __del__(self) -> None:
        # A finished run is let go of without a word; its descriptors must not pile up.
        reader = self.__dict__.get("_reader")
        if reader is not None:
            reader.close()

    def summary(self) -> dict[str, Any]:
        """Return the summary of everything logged so far, pending rows left out; it is not to be changed.

        Who reads ten thousand keys one by one gets the same dict ten thousand times.
        """
        with self._lock:
            self._catch_up()
            if self._shown is None or self._shown_at != self._next_seq:
                # Late rows made the running summary inexact.
                tree = (self._refold() if self._fold.is_late else None) or self._fold.summary
                self._shown, self._shown_at = tree.as_dict(), self._next_seq
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
            try:
                return self._fold_next(self._open_reader(), max_bytes)
            except OSError:
                return False

    def _catch_up(self) -> None:
        try:
            reader = self._open_reader()
            while self._fold_next(reader, _BATCH_BYTES):
                pass
        except OSError:
            return  # the spool is gone: what was folded before stays

    def _open_reader(self) -> SpoolReader:
        if self._reader is None:
            self._reader = SpoolReader(self._directory)
        return self._reader

    def _fold_next(self, reader: SpoolReader, max_bytes: int) -> bool:
        batch = reader.read(self._next_seq, max_bytes=max_bytes)
        if batch is None:
            return False
        self._feed(self._fold, batch)
        self._next_seq = batch.hi + 1
        return True

    def _feed(self, fold: WriterFold, batch: Batch) -> None:
        fold.feed(batch.blocks, batch.others)
        if any(gap.why == RELEASED for gap in batch.gaps):
            self.is_whole = False

    def _refold(self) -> SummaryTree | None:
        """Return the summary with late rows in their places; None when the spool's beginning was released."""
        fold, is_whole = self._fold_all()
        if not is_whole:
            return None
        assert fold.kept_rows is not None, "_fold_all keeps rows"
        return summary_in_step_order(fold.kept_rows, fold.kept_events, self._started_unix_ns)

    def _fold_all(self) -> tuple[WriterFold, bool]:
        fold = WriterFold(self._started_unix_ns, keep_rows=True)
        try:
            reader = SpoolReader(self._directory)
        except OSError:
            return fold, False
        next_seq = 1
        try:
            is_whole = reader.first_held_seq() <= 1
            while (batch := reader.read(next_seq, max_bytes=_BATCH_BYTES)) is not None:
                self._feed(fold, batch)
                next_seq = batch.hi + 1
        finally:
            reader.close()
        return fold, is_whole


def row_as_dict(row: CommittedRow, started_unix_ns: int) -> dict[str, Any]:
    """Return a committed row as users see it."""
    own = {
        "_step": row.step,
        "_timestamp": timestamp_unix_s(row.t_ns),
        "_runtime": runtime_s(row.t_ns, started_unix_ns),
    }
    return {**own, **nest(row.cells)}
