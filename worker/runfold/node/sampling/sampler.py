"""The duty that samples: when, whom, and into the node's own spool.

In: the writers that the agent finds. Out: rows of the `NodeSpool`, the node's record, and for each writer
which devices it may use. A thread does the reading, so that a slow disk or driver never holds up shipping; it
lives only while there is a writer to sample.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runfold.protocol.evidence import DEVICES
from runfold.protocol.identity import Identity

from .assembly import Watched
from .gpu_thread import GpuProbe
from .node_samples import NodeSamples, Sample, Subject
from .nvml import Nvml
from .pace import Pace

if TYPE_CHECKING:
    from runfold.node.tail import WriterTail
    from runfold.node.witness import Witness

logger = logging.getLogger(__name__)

#: A new writer gets its first sample at once, but not one more than this often, seconds.
HURRY_S = 1.0
#: Writers of a node that are sampled one by one, the first that came; each is some ten columns of every row.
MAX_SUBJECTS = 256


class Sampler:
    """A `Duty`: called by the agent's thread; what it shares with the sampling thread is locked."""

    def __init__(
        self,
        witness: Witness,
        *,
        interval_s: float,
        target_dir: Path,
        make_gpu_probe: Callable[[], GpuProbe] = Nvml,
        proc_root: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            interval_s: For writers that do not say how often, > 0.
            target_dir: Where the spools lie: its file system is watched beside the root's.
        """
        self._witness = witness
        self._interval_s = interval_s
        self._clock = clock
        self._target_dir = target_dir
        self._make_gpu_probe = make_gpu_probe
        self._proc_root = proc_root
        self._tails: dict[bytes, WriterTail] = {}
        self._lock = threading.Lock()
        self._subjects: tuple[Subject, ...] = ()
        self._wake = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def writer_found(self, tail: WriterTail) -> None:
        """Sample it, if its process is here and wants that."""
        if tail.identity.role == "process" and tail.is_alive and self._interval_of(tail.identity) > 0:
            self._tails[tail.writer] = tail

    def writer_ended(self, tail: WriterTail) -> None:
        """Its process is gone."""
        self._tails.pop(tail.writer, None)

    def step(self, now_s: float) -> None:  # noqa: ARG002 - a Duty's
        """Keep the list of those to be sampled, and the thread alive while there are any."""
        for writer, tail in list(self._tails.items()):
            if not tail.is_alive or _has_ended(tail):
                del self._tails[writer]
        subjects = tuple(
            Subject(
                Watched(tail.writer, tail.identity.pid or 0), tail.identity, self._interval_of(tail.identity)
            )
            for tail in itertools.islice(self._tails.values(), MAX_SUBJECTS)
        )
        with self._lock:
            known = {subject.watched.writer for subject in self._subjects}
            is_new = any(subject.watched.writer not in known for subject in subjects)
            self._subjects = subjects
            if is_new or not subjects:
                self._wake.set()
            if subjects and self._thread is None and not self._is_over:
                self._thread = threading.Thread(target=self._run, name="runfold-sampler", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let the thread end when it can."""
        with self._lock:
            self._is_over = True
            self._subjects = ()
            self._wake.set()

    def _interval_of(self, identity: Identity) -> float:
        said = identity.stats_interval_s
        return self._interval_s if said is None else said

    def _run(self) -> None:
        samples = NodeSamples((Path("/"), self._target_dir), self._make_gpu_probe, self._proc_root)
        pace = Pace()
        try:
            while subjects := self._next_subjects():
                began_s = self._clock()
                cost_s = self._sample(samples, subjects)
                wanted_s = min(subject.interval_s for subject in subjects)
                wait_s = pace.next_s(wanted_s, cost_s=cost_s, idle_ratio=samples.idle_ratio)
                self._rest(began_s, wait_s)
        finally:
            samples.close()
            with self._lock:
                if self._thread is threading.current_thread():  # a fault: another one takes over
                    self._thread = None

    def _next_subjects(self) -> tuple[Subject, ...]:
        with self._lock:
            if not self._subjects or self._is_over:
                self._thread = None
            self._wake.clear()
            return () if self._is_over else self._subjects

    def _rest(self, began_s: float, wait_s: float) -> None:
        """Wait for the next sample; a new writer, or that there is none left, ends it early."""
        if self._wake.wait(max(0.0, began_s + wait_s - self._clock())):
            with self._lock:
                is_over = self._is_over or not self._subjects
            if not is_over:
                time.sleep(max(0.0, min(wait_s, HURRY_S) - (self._clock() - began_s)))

    def _sample(self, samples: NodeSamples, subjects: Sequence[Subject]) -> float:
        """Take and keep one sample; return the processor time that it took, seconds."""
        try:
            sample = samples.sample(subjects, self._clock())
            self._keep(sample)
        except Exception:
            logger.exception("a fault while sampling", extra={"event": "sampling_fault"})
            return 0.0
        return sample.cost_s

    def _keep(self, sample: Sample) -> None:
        with self._lock:
            if self._is_over:
                return  # the spool was ended: another one would be made
            left_out = max(0, len(self._tails) - MAX_SUBJECTS)
            values = sample.values | ({"agent.unsampled_writers": float(left_out)} if left_out else {})
            self._witness.spool.describe(sample.node)
            self._witness.spool.add_sample(values)
            for writer, facts in sample.devices:
                self._witness.testify(writer, DEVICES, facts)


def _has_ended(tail: WriterTail) -> bool:
    try:
        return tail.has_ended()
    except (OSError, ValueError):
        return True
