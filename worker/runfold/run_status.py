"""RunStatus: how far the records of a run are."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from runfold.recorder import Recorder
from runfold.run_spool import RunSpool

if TYPE_CHECKING:
    from runfold.uploads.awaiting import UploadCounts


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far the run's records are. Counts are of this process."""

    #: Records said so far, lost ones included.
    sync_items_total: int
    #: Of these, not acknowledged yet.
    sync_items_pending: int
    #: When the server acknowledged last, None before the first time.
    sync_time: datetime.datetime | None
    #: Calls of log().
    rows: int
    #: Records that the server has stored durably.
    acknowledged: int
    #: Records that could not be kept on disk.
    dropped: int
    #: Values that were too large, and are missing in their rows.
    left_out: int = 0
    #: Files and artifacts left to be uploaded so far.
    uploads: int = 0
    #: Of these, not done: waiting, under way, or watched until the process ends.
    uploads_pending: int = 0
    #: Of these, given up or not even noted; finish() tells why.
    uploads_failed: int = 0

    @classmethod
    def of(cls, recorder: Recorder, run_spool: RunSpool, uploads: UploadCounts) -> Self:
        """Return how it stands now."""
        spool = recorder.spool
        total = spool.last_seq if spool is not None else 0
        dropped = spool.dropped_count if spool is not None else 0
        acked = min(run_spool.acked_seq(), total)
        return cls(
            sync_items_total=total,
            sync_items_pending=max(total - acked, 0),
            sync_time=run_spool.acked_at() if acked else None,
            rows=recorder.rows_count,
            acknowledged=acked,
            dropped=dropped,
            left_out=recorder.left_out_count,
            uploads=uploads.total,
            uploads_pending=uploads.pending,
            uploads_failed=uploads.failed,
        )
