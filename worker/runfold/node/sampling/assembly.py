"""One sample of a node out of what the probes found: names, units, whose is what. Pure.

Keys as they lie in the node's spool: "<name>" is the machine's, "g/<gpu uuid>/<name>" a device's,
"w/<writer id in hex>/<name>" a writer's, "w/<writer>/g/<gpu uuid>/<name>" what a writer does on a device.
Readers turn them into W&B's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .cgroup import CgroupReading
from .nvml import GpuSample
from .plausible import plausible
from .process_tree import TreeReading

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Watched:
    """A writer whose process is sampled."""

    writer: bytes
    pid: int


@dataclass(slots=True)
class Findings:
    """What the probes found at one moment. By pid: trees, limits, shares of throttled periods."""

    host: Mapping[str, float] = field(default_factory=dict)
    trees: Mapping[int, TreeReading] = field(default_factory=dict)
    limits: Mapping[int, CgroupReading] = field(default_factory=dict)
    throttled_percent: Mapping[int, float] = field(default_factory=dict)
    #: Whether all watched processes are in one control group: then its numbers are the node's.
    is_one_cgroup: bool = True
    gpus: GpuSample | None = None
    gpus_hang: bool = False
    cpu_count: int = 1
    memory_bytes: int = 0


def assemble(found: Findings, watched: Sequence[Watched]) -> dict[str, float]:
    """Return the sample; values that can't be are left out."""
    values = dict(found.host)
    if found.gpus is not None:
        values |= found.gpus.values
    if found.gpus is not None or found.gpus_hang:
        values["nvml.hung"] = float(found.gpus_hang)
    for one in watched:
        prefix = f"w/{one.writer.hex()}/"
        of_group = cgroup_values(found.limits.get(one.pid), found.throttled_percent.get(one.pid))
        if found.is_one_cgroup:
            values |= of_group
        else:
            values |= {prefix + name: value for name, value in of_group.items()}
        tree = found.trees.get(one.pid)
        if tree is not None:
            own = tree_values(tree, found, one.pid) | gpu_use(found.gpus, tree.pids)
            values |= {prefix + name: value for name, value in own.items()}
    return plausible(values)


def tree_values(tree: TreeReading, found: Findings, pid: int) -> dict[str, float]:
    """Return what a writer's processes use, relative to what they may."""
    limits = found.limits.get(pid, CgroupReading())
    memory_bytes = limits.memory_limit_bytes or found.memory_bytes
    capacity = limits.cpu_limit or found.cpu_count
    values = {
        "proc.memory.rssMB": tree.rss_bytes / MIB,
        "proc.cpu.threads": float(tree.threads),
        "proc.count": float(len(tree.pids)),
    }
    if memory_bytes:
        values["proc.memory.percent"] = 100 * tree.rss_bytes / memory_bytes
    if tree.cpu_percent is not None:
        values["cpu"] = tree.cpu_percent / max(capacity, 0.01)
    if tree.read_bytes is not None and tree.written_bytes is not None:
        values["proc.io.readMB"] = tree.read_bytes / MIB
        values["proc.io.writtenMB"] = tree.written_bytes / MIB
    if tree.open_files is not None:
        values["proc.openFiles"] = float(tree.open_files)
    return values


def cgroup_values(limits: CgroupReading | None, throttled_percent: float | None) -> dict[str, float]:
    """Return what a container may use and uses; {} where nothing limits it."""
    if limits is None:
        return {}
    values: dict[str, float] = {}
    if limits.memory_limit_bytes and limits.memory_bytes is not None:
        # As W&B: of a limited group the limit is what there is.
        values["memory_percent"] = 100 * min(1.0, limits.memory_bytes / limits.memory_limit_bytes)
        left_bytes = max(0, limits.memory_limit_bytes - limits.memory_bytes)
        values["proc.memory.availableMB"] = left_bytes / MIB
        values["cgroup.memory_limitMB"] = limits.memory_limit_bytes / MIB
        if limits.working_set_bytes is not None:
            values["cgroup.memory_working_setMB"] = limits.working_set_bytes / MIB
    if limits.oom_kills is not None:
        values["proc.memory.oomKills"] = float(limits.oom_kills)
    if limits.cpu_limit is not None:
        values["cgroup.cpu_limit"] = limits.cpu_limit
        if limits.throttled_s is not None:
            values["cgroup.cpu_throttled_s"] = limits.throttled_s
        if throttled_percent is not None:
            values["proc.cpu.throttledPercent"] = throttled_percent
    return values


def gpu_use(gpus: GpuSample | None, pids: Sequence[int]) -> dict[str, float]:
    """Return which devices these processes use, and how much memory they hold there together."""
    values: dict[str, float] = {}
    if gpus is None:
        return values
    mine = set(pids)
    for uuid, processes in gpus.processes.items():
        held = [used for pid, used in processes.items() if pid in mine]
        if not held:
            continue
        values[f"g/{uuid}/inUse"] = 1.0
        known = [used for used in held if used is not None]
        if known:
            values[f"g/{uuid}/usedMemoryBytes"] = float(sum(known))
    return values


def used_uuids(gpus: GpuSample | None, pids: Sequence[int]) -> list[str]:
    """Return the devices on which one of these processes holds memory; of MIG devices not their GPU."""
    if gpus is None:
        return []
    mine = set(pids)
    used = [uuid for uuid, processes in gpus.processes.items() if mine & processes.keys()]
    parents = {device.parent for device in gpus.devices if device.uuid in used}
    return [uuid for uuid in used if uuid not in parents]
