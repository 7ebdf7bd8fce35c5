"""Waiting until a run holds what was sent, and sampling memory meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil

import runfold
from runfold_coordinator.testing import LocalServer


def wait_stored(server: LocalServer, run_ids: list[str], records: int, *, limit_s: float = 300.0) -> float:
    """Wait until these runs hold `records` records together; return the monotonic time at which they did.

    Raises:
        TimeoutError: They did not in `limit_s`.
    """
    api = runfold.Api(url=server.url, timeout=30)
    deadline = time.monotonic() + limit_s
    stored = 0
    while time.monotonic() < deadline:
        try:
            stored = sum(api.run(f"bench/{run_id}").accounting()["stored"] for run_id in run_ids)
        except Exception:  # the run is not known yet
            stored = 0
        now = time.monotonic()
        if stored >= records:
            return now
        time.sleep(0.02)
    raise TimeoutError(f"{stored} of {records} records after {limit_s:.0f} s")


class PeakMemory:
    """Highest resident size of some processes while the context is open."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.peak_bytes = 0
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            for pid in self._pids():
                try:
                    self.peak_bytes = max(self.peak_bytes, psutil.Process(pid).memory_info().rss)
                except psutil.Error:
                    continue
