"""Summaries of runs for whoever asks: folded when the run has changed, else remembered.

A fold may take seconds. Who asks while one of the same run is being made waits for it: readers that gave up
and ask again must not each add one more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from runfold_coordinator.api.backend import SummaryReader
from runfold_coordinator.store.model import RunRow

#: Values remembered over all runs; a value of a summary takes about 200 bytes.
MAX_VALUES = 300_000


@dataclass(slots=True)
class _Queue:
    """Those who wait for the summary of one run."""

    #: The newest row of the run that any of them has.
    newest: RunRow
    count: int = 0
    folding: threading.Lock = field(default_factory=threading.Lock)


class FreshSummaries:
    """Gives `summary(run)` as of the run's version, or a later one. Thread-safe; memory is bounded by
    MAX_VALUES.
    """

    def __init__(self, reader: SummaryReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        #: run_pk -> (version, summary, number of values), least recently used first.
        self._known: OrderedDict[int, tuple[int, dict[str, Any], int]] = OrderedDict()
        self._value_count = 0
        self._queues: dict[int, _Queue] = {}
        self._folding_until = threading.Lock()
        #: What was asked for last as of a step: (run_pk, step), the run's version, and the answer.
        self._until: tuple[tuple[int, int], int, dict[str, Any]] | None = None

    def summary(self, run: RunRow) -> dict[str, Any]:
        """Return the summary, nested as logged; not to be changed by the caller."""
        with self._lock:
            known = self._find_locked(run)
            if known is not None:
                return known
            queue = self._queues.setdefault(run.run_pk, _Queue(run))
            queue.count += 1
            if run.version > queue.newest.version:
                queue.newest = run
        try:
            with queue.folding:
                return self._fold(run, queue)
        finally:
            with self._lock:
                queue.count -= 1
                if queue.count == 0:
                    del self._queues[run.run_pk]

    def summary_until(self, run: RunRow, step: int) -> dict[str, Any]:
        """Return the summary as of a step; all ranks of a job ask for the same one, and it is made once."""
        wanted = (run.run_pk, step)
        with self._folding_until:
            known = self._until
            # Ranks come with rows read at different moments: a later version answers an earlier one too.
            if known is None or known[0] != wanted or known[1] < run.version:
                known = self._until = (wanted, run.version, self._reader.summary_until(run, step))
            return known[2]

    def _fold(self, run: RunRow, queue: _Queue) -> dict[str, Any]:
        with self._lock:
            known = self._find_locked(run)
            newest = queue.newest
        if known is not None:
            return known
        found = self._reader.summary(newest)
        self._remember(newest, found)
        return found

    def _find_locked(self, run: RunRow) -> dict[str, Any] | None:
        known = self._known.get(run.run_pk)
        if known is None or known[0] < run.version:
            return None
        self._known.move_to_end(run.run_pk)
        return known[1]

    def _remember(self, run: RunRow, summary: dict[str, Any]) -> None:
        count = 1 + _count_values(summary)
        with self._lock:
            earlier = self._known.pop(run.run_pk, None)
            if earlier is not None:
                self._value_count -= earlier[2]
            self._known[run.run_pk] = (run.version, summary, count)
            self._value_count += count
            while self._value_count > MAX_VALUES:
                _, (_, _, dropped) = self._known.popitem(last=False)
                self._value_count -= dropped


def _count_values(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_values(each) for each in value.values())
    if isinstance(value, list):
        return len(value) + sum(_count_values(each) for each in value)
    return 1 + len(value) // 200 if isinstance(value, (str, bytes)) else 1
