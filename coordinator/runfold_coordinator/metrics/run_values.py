"""Reduced metrics and goodput of runs that go on, kept so that a scrape finds them ready.

In: from each scrape, the runs that it shows. Out: what was found of them last. A scrape waits for a little of
this work; a thread does the rest, and takes a small share of a processor whatever the runs log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.kept_goodput import KeptGoodput
from runfold_coordinator.readers.run_lanes import seat_writers
from runfold_coordinator.readers.settled_values import SettledValues
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: A scrape does so much of it itself, seconds: a small server's values are those of now.
IN_SCRAPE_S = 0.015
#: The thread works for this share of the time.
SHARE = 0.05
#: Longest pause between two runs, seconds.
MAX_PAUSE_S = 2.0
_NEVER = (-1, -1.0)


class RunValues:
    """Follows the metrics of runs. `of` and `keep_up` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        goodput: KeptGoodput,
        clock: Clock,
        *,
        wanted: Callable[[str], bool],
        most: int,
    ) -> None:
        """Prepare.

        Args:
            wanted: Whether the metric of this name is exported.
            most: Metrics of one run.
        """
        self._store = store
        self._goodput = goodput
        self._clock = clock
        self._wanted = wanted
        self._most = most
        self._lock = threading.Lock()
        self._values: dict[int, SettledValues] = {}
        #: By run: the version that was followed last, and when (monotonic).
        self._done: dict[int, tuple[int, float]] = {}
        self._waiting: dict[int, RunRow] = {}
        #: One run is followed by one thread at a time.
        self._work = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, run_pk: int) -> SettledValues | None:
        """Return what was found of a run."""
        with self._lock:
            return self._values.get(run_pk)

    def keep_up(self, runs: Sequence[RunRow]) -> None:
        """Follow these runs from now on, and no others."""
        with self._lock:
            shown = {run.run_pk for run in runs}
            for kept in (self._values, self._done):
                for gone in kept.keys() - shown:
                    del kept[gone]
            changed = [run for run in runs if self._done.get(run.run_pk, _NEVER)[0] != run.version]
            # Whose turn was longest ago comes first, or those at the end would never have one.
            changed.sort(key=lambda run: self._done.get(run.run_pk, _NEVER)[1])
            self._waiting = {run.run_pk: run for run in changed}
        deadline_s = self._clock.mono_s() + IN_SCRAPE_S
        while self._clock.mono_s() < deadline_s and self._next():
            pass
        self._start_thread()

    def close(self) -> None:
        """End the thread; idempotent."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(5.0)

    def _start_thread(self) -> None:
        with self._lock:
            if not self._waiting or self._closing.is_set():
                return
            self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="runfold-metrics", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            began_s = self._clock.mono_s()
            if not self._next():
                self._wake.wait()
                self._wake.clear()
                continue
            took_s = self._clock.mono_s() - began_s
            self._closing.wait(min(MAX_PAUSE_S, took_s * (1 / SHARE - 1)))

    def _next(self) -> bool:
        """Follow one run that waits; return False when none does."""
        with self._work:
            with self._lock:
                if not self._waiting:
                    return False
                run = self._waiting.pop(next(iter(self._waiting)))
                found = self._values.get(run.run_pk) or SettledValues()
            try:
                self._follow(run, found)
            except Exception as error:  # noqa: BLE001 - the values of the last look stand
                logger.warning(
                    "a run's metrics can't be read",
                    extra={"event": "metrics_unread", "run": run.run_id, "why": str(error)},
                )
            with self._lock:
                self._values[run.run_pk] = found
                self._done[run.run_pk] = run.version, self._clock.mono_s()
        return True

    def _follow(self, run: RunRow, found: SettledValues) -> None:
        keys: Mapping[str, str] = self._store.keys_of([run.run_pk])[run.run_pk]
        lanes = seat_writers(run, self._store.writers(run.run_pk), dict(keys))
        found.follow(self._store, lanes, self._wanted, self._most)
        self._goodput.ratio(run)
