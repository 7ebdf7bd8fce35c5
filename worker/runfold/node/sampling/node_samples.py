"""Takes a sample of the node: asks the probes, and puts together what they say.

In: the writers that are to be sampled. Out: a row, the node's record, and which devices each writer uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runfold.protocol.identity import Identity
from runfold.protocol.records import NodeRecord

from .assembly import Findings, Watched, assemble, used_uuids
from .cgroup import Cgroup, CgroupReading, Cgroups
from .gpu_thread import GpuProbe, GpuThread
from .host import Host
from .inventory import describe_node
from .nvml import GpuSample
from .process_tree import ProcessTrees
from .visible_devices import visible_uuids

#: What a process does with devices is told again when it changed, so many times.
MAX_DEVICE_CHANGES = 16
#: A container that was throttled in so many of its periods has no processor time to spare, percent.
THROTTLED_PERCENT = 50.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A live writer that wants to be sampled every `interval_s`."""

    watched: Watched
    identity: Identity
    interval_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample. `devices`: facts of DEVICES evidence that are news, by writer. `cost_s`: processor time."""

    values: dict[str, float]
    node: NodeRecord
    devices: tuple[tuple[bytes, dict[str, Any]], ...]
    cost_s: float


class NodeSamples:
    """Takes one sample after the other. Not thread-safe: all calls come from the sampling thread."""

    def __init__(
        self,
        disk_paths: Sequence[Path],
        make_gpu_probe: Callable[[], GpuProbe],
        proc_root: Path = Path("/proc"),
    ) -> None:
        self._disk_paths = disk_paths
        self._make_gpu_probe = make_gpu_probe
        self._cgroups = Cgroups(proc_root)
        self._host: Host | None = None
        self._gpus: GpuThread | None = None
        self._trees = ProcessTrees(proc_root)
        #: by directory, (periods, throttled ones) at the sample before
        self._periods: dict[Cgroup, tuple[int, int]] = {}
        self._is_throttled = False
        self._told: dict[bytes, list[list[str]]] = {}
        self._gpus_seen: GpuSample | None = None

    @property
    def idle_ratio(self) -> float | None:
        """Idle share of the machine's processors lately; 0 where a container's quota was used up."""
        if self._is_throttled:
            return 0.0
        return None if self._host is None else self._host.idle_ratio

    def sample(self, subjects: Sequence[Subject], now_s: float) -> Sample:
        """Take one sample; waits for disks and drivers, a bounded time."""
        began_s = time.thread_time()
        if self._host is None:
            self._host = Host(self._disk_paths)
        if self._gpus is None:
            self._gpus = GpuThread(self._make_gpu_probe)
        answer = self._gpus.sample(now_s)
        if answer.sample is not None:
            self._gpus_seen = answer.sample
        watched = [subject.watched for subject in subjects]
        found = self._find(self._host, watched, now_s)
        found.gpus, found.gpus_hang = answer.sample, answer.is_hung
        values = assemble(found, watched)
        limits = next(iter(found.limits.values()), None) if found.is_one_cgroup else None
        node = describe_node(self._host, limits or CgroupReading(), self._gpus_seen)
        devices = tuple(self._news_of_devices(subjects, found))
        cost_s = time.thread_time() - began_s + answer.cpu_s
        values["agent.sample_cpu_ms"] = 1000 * cost_s
        return Sample(values, node, devices, cost_s)

    def close(self) -> None:
        """Let go of the driver; the next sample begins anew."""
        if self._gpus is not None:
            self._gpus.close()
            self._gpus = None

    def _find(self, host: Host, watched: Sequence[Watched], now_s: float) -> Findings:
        pids = {one.pid for one in watched}
        groups = {pid: group for pid in pids if (group := self._cgroups.of(pid)) is not None}
        readings = {group: group.read() for group in set(groups.values())}
        throttled = {group: self._throttled(group, reading) for group, reading in readings.items()}
        self._is_throttled = any((share or 0.0) >= THROTTLED_PERCENT for share in throttled.values())
        self._periods = {
            group: (reading.periods, reading.throttled_periods)
            for group, reading in readings.items()
            if reading.periods is not None and reading.throttled_periods is not None
        }
        shares = {pid: throttled[group] for pid, group in groups.items()}
        return Findings(
            host=host.sample(),
            trees=self._trees.sample(pids, now_s),
            limits={pid: readings[group] for pid, group in groups.items()},
            throttled_percent={pid: share for pid, share in shares.items() if share is not None},
            is_one_cgroup=len(readings) <= 1,
            cpu_count=host.cpu_count,
            memory_bytes=host.memory_bytes,
        )

    def _throttled(self, group: Cgroup, reading: CgroupReading) -> float | None:
        """Return which share of the periods since the sample before was throttled, percent."""
        before = self._periods.get(group)
        if before is None or reading.periods is None or reading.throttled_periods is None:
            return None
        periods = reading.periods - before[0]
        return 100 * (reading.throttled_periods - before[1]) / periods if periods > 0 else None

    def _news_of_devices(
        self, subjects: Sequence[Subject], found: Findings
    ) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield which devices each writer may use, and later which it does use, whenever that is news."""
        self._told = {one.watched.writer: self._told.get(one.watched.writer, []) for one in subjects}
        if found.gpus is None or not found.gpus.devices:
            return
        for one in subjects:
            tree = found.trees.get(one.watched.pid)
            used = used_uuids(found.gpus, tree.pids) if tree is not None else []
            said = one.identity.visible_devices
            gpus = used or visible_uuids(said, found.gpus.devices)
            by = "process" if used else "default" if said is None else "environment"
            told = self._told[one.watched.writer]
            fact = [by, *sorted(gpus)]
            # What it used once and let go of says nothing new.
            if (not used and told) or fact in told or len(told) >= MAX_DEVICE_CHANGES:
                continue
            told.append(fact)
            yield one.watched.writer, {"gpus": gpus, "by": by}
