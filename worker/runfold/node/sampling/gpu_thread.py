"""NVML in a thread of its own, so that a driver that hangs costs the GPUs' metrics and nothing else.

In: the wish for a sample. Out: the sample, or that none came in time. A call into a hanging driver can't be
ended: the thread is left to it, and asked again when it is back.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .nvml import GpuSample

logger = logging.getLogger(__name__)

#: Longest wait for a sample, seconds.
TIMEOUT_S = 10.0


class GpuProbe(Protocol):
    """What runs in the thread."""

    def sample(self, now_s: float) -> GpuSample | None:
        """Return what all devices say, None where there are none."""

    def close(self) -> None:
        """End the session."""


@dataclass(frozen=True, slots=True)
class GpuAnswer:
    """One sample as it came out of the thread. `cpu_s`: processor time that it took there."""

    sample: GpuSample | None
    is_hung: bool = False
    cpu_s: float = 0.0


class GpuThread:
    """Asks the probe from a daemon thread. To be used from one other thread."""

    def __init__(self, make_probe: Callable[[], GpuProbe], *, timeout_s: float = TIMEOUT_S) -> None:
        self._make_probe = make_probe
        self._timeout_s = timeout_s
        self._wishes: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[GpuAnswer] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_waiting = False
        self._is_over = False

    def sample(self, now_s: float) -> GpuAnswer:
        """Return a sample, waiting for it a bounded time; one that is late is thrown away."""
        if self._is_over:
            return GpuAnswer(None)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runfold-nvml", daemon=True)
            self._thread.start()
        if not self._is_waiting or not self._answers.empty():
            if self._is_waiting:
                self._answers.get()
                logger.warning("the GPU driver answers again", extra={"event": "nvml_back"})
            self._is_waiting = False
            self._wishes.put(now_s)
            try:
                answer = self._answers.get(timeout=self._timeout_s)
            except queue.Empty:
                self._is_waiting = True
                logger.warning(
                    "the GPU driver does not answer: its metrics are missing until it does",
                    extra={"event": "nvml_hangs", "waited_s": self._timeout_s},
                )
            else:
                # Where there is no driver there will be none: no thread is kept for it.
                if answer.sample is None:
                    self.close()
                return answer
        return GpuAnswer(None, is_hung=True)

    def close(self) -> None:
        """Let the thread end when it can; wait for nothing."""
        if self._thread is not None and not self._is_over:
            self._wishes.put(None)
        self._is_over = True

    def _run(self) -> None:
        probe = self._make_probe()
        while (now_s := self._wishes.get()) is not None:
            began_s = time.thread_time()
            try:
                sample = probe.sample(now_s)
            except Exception:
                logger.exception("a fault while sampling GPUs", extra={"event": "nvml_fault"})
                sample = GpuSample()
            self._answers.put(GpuAnswer(sample, cpu_s=time.thread_time() - began_s))
        probe.close()
