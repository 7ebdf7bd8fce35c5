"""The thread for work that can wait: merging, summaries, cold history, old evidence, the disk reserve."""

from __future__ import annotations

import logging
import threading

from runfold_coordinator.ballast import Ballast
from runfold_coordinator.clock import Clock
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.evidence_sweep import EvidenceSweep
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

MERGE_EVERY_S = 2.0
COLD_EVERY_S = 60.0
REST_EVERY_S = 60.0
REMOVE_EVERY_S = 3600.0
PURGE_EVERY_S = 60.0
SETTLE_EVERY_S = 10.0
#: A run that stored nothing for so long has its small chunks merged once more, whatever their number.
SETTLE_AFTER_S = 20.0


class Maintenance:
    """Runs until stop(). Each step is a short transaction of its own, so that ingest never waits long."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ballast: Ballast,
        *,
        cold_after_s: float,
        summaries: SummaryReader | None = None,
        failure_lines: FailureLines | None = None,
        deletion: Deletion | None = None,
    ) -> None:
        self._compactor = Compactor(store)
        self._evidence = EvidenceSweep(store)
        self._deletion = deletion or Deletion(store, clock)
        self._failure_lines = failure_lines or FailureLines(store, clock)
        self._clock = clock
        self._ballast = ballast
        self._cold_after_s = cold_after_s
        self._summaries = summaries
        self._next_cold_s = 0.0
        self._next_settle_s = 0.0
        self._next_rest_s = 0.0
        self._next_remove_s = 0.0
        self._next_purge_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runfold-maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End after the step in work; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def turn(self) -> bool:
        """Do one round of bounded work; return whether there is more to do at once."""
        more = self._failure_lines.turn()
        more = self._compactor.merge_some() or more
        if self._summaries is not None:
            more = self._summaries.keep_up(self._clock.mono_s) or more
        now_s = self._clock.mono_s()
        if now_s >= self._next_settle_s:
            more_settle = self._compactor.settle_some(self._clock.unix_s() - SETTLE_AFTER_S)
            self._next_settle_s = now_s if more_settle else now_s + SETTLE_EVERY_S
            more = more or more_settle
        if now_s >= self._next_rest_s:
            self._evidence.rest(self._clock.unix_s())
            self._next_rest_s = now_s + REST_EVERY_S
        if now_s >= self._next_remove_s:
            more_old = self._evidence.remove(self._clock.unix_s())
            self._next_remove_s = now_s if more_old else now_s + REMOVE_EVERY_S
            more = more or more_old
        if now_s >= self._next_purge_s:
            more_deleted = self._deletion.purge_some()
            self._next_purge_s = now_s if more_deleted else now_s + PURGE_EVERY_S
            more = more or more_deleted
        if now_s >= self._next_cold_s:
            self._ballast.take()
            if self._cold_after_s:
                self._compactor.sweep_orphans()
                more = self._compactor.cool_some(self._clock.unix_s() - self._cold_after_s) or more
                more = self._compactor.cool_full() or more
            if not more:
                self._next_cold_s = now_s + COLD_EVERY_S
        return more

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = MERGE_EVERY_S
            try:
                if self.turn():
                    wait_s = 0.05
            except StoreError as error:
                logger.warning("maintenance waits", extra={"event": "maintenance", "why": str(error)})
                wait_s = 10.0
            except Exception:
                logger.exception("maintenance failed", extra={"event": "maintenance_failed"})
                wait_s = 60.0
            self._stopping.wait(wait_s)
