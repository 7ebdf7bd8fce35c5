"""The thread for work that can wait: merging, summaries, cold history, old evidence, the disk reserve."""

from __future__ import annotations

from runfold_coordinator.ballast import Ballast
from runfold_coordinator.clock import Clock
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.evidence_sweep import EvidenceSweep
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.readers.summary_reader import SummaryReader
from runfold_coordinator.store.compaction import Compactor
from runfold_coordinator.store.store import Store
from runfold_coordinator.turn_loop import Due, TurnLoop

MERGE_EVERY_S = 2.0
#: Between turns while there is more to do: ingest comes in between.
MORE_AFTER_S = 0.05
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
        self._cold = Due(COLD_EVERY_S)
        self._settle = Due(SETTLE_EVERY_S)
        self._rest = Due(REST_EVERY_S)
        self._remove = Due(REMOVE_EVERY_S)
        self._purge = Due(PURGE_EVERY_S)
        self._loop = TurnLoop("maintenance", lambda: MORE_AFTER_S if self.turn() else MERGE_EVERY_S)

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """End after the step in work; idempotent."""
        self._loop.stop()

    def turn(self) -> bool:
        """Do one round of bounded work; return whether there is more to do at once."""
        more = self._failure_lines.turn()
        more = self._compactor.merge_some() or more
        if self._summaries is not None:
            more = self._summaries.keep_up(self._clock.mono_s) or more
        now_s = self._clock.mono_s()
        if self._settle.is_due(now_s):
            more_settle = self._compactor.settle_some(self._clock.unix_s() - SETTLE_AFTER_S)
            self._settle.done(now_s, more=more_settle)
            more = more or more_settle
        if self._rest.is_due(now_s):
            self._evidence.rest(self._clock.unix_s())
            self._rest.done(now_s)
        if self._remove.is_due(now_s):
            more_old = self._evidence.remove(self._clock.unix_s())
            self._remove.done(now_s, more=more_old)
            more = more or more_old
        if self._purge.is_due(now_s):
            more_deleted = self._deletion.purge_some()
            self._purge.done(now_s, more=more_deleted)
            more = more or more_deleted
        if self._cold.is_due(now_s):
            self._ballast.take()
            if self._cold_after_s:
                self._compactor.sweep_orphans()
                more = self._compactor.cool_some(self._clock.unix_s() - self._cold_after_s) or more
                more = self._compactor.cool_full() or more
            self._cold.done(now_s, more=more)
        return more
