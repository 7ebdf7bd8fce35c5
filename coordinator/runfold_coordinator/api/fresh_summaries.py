"""Summaries of many runs for filters, orders and lists: folded when the run has changed, else remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from runfold_coordinator.api.backend import SummaryReader
from runfold_coordinator.store.model import RunRow

#: Values remembered over all runs; a value of a summary takes about 200 bytes.
MAX_VALUES = 300_000


class FreshSummaries:
    """Gives `summary(run)` as of the run's version. Thread-safe; memory is bounded by MAX_VALUES."""

    def __init__(self, reader: SummaryReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        #: run_pk -> (version, summary, number of values), least recently used first.
        self._known: OrderedDict[int, tuple[int, dict[str, Any], int]] = OrderedDict()
        self._value_count = 0

    def summary(self, run: RunRow) -> dict[str, Any]:
        """Return the summary, nested as logged; not to be changed by the caller."""
        with self._lock:
            known = self._known.get(run.run_pk)
            if known is not None and known[0] == run.version:
                self._known.move_to_end(run.run_pk)
                return known[1]
        # Outside the lock: a fold may take seconds. Two that fold one run at once get equal results.
        found = self._reader.summary(run)
        self._remember(run, found)
        return found

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
