"""The machine: processors, memory, swap, disks, network. In: psutil. Out: numbers by W&B's names.

Counters (disk, network) are the kernel's, since boot: readers take the difference over a run, so that an
agent that is replaced meanwhile changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
GIB = 1024**3
#: Names of block devices that hold nothing by themselves.
_PSEUDO_DEVICES = ("loop", "ram", "zram")
#: Block devices that are listed at most.
MAX_DEVICES = 32


class Host:
    """Samples the machine. Not thread-safe; keeps the processor times of the sample before."""

    def __init__(self, disk_paths: Sequence[Path] = (Path("/"),)) -> None:
        import psutil

        self._psutil = psutil
        #: Physical memory; 0: it can't be told.
        self.memory_bytes = _memory_bytes()
        #: Logical processors.
        self.logical_cpu_count = int(psutil.cpu_count() or 1)
        #: Cores; logical processors where those can't be told.
        self.cpu_count = int(psutil.cpu_count(logical=False) or self.logical_cpu_count)
        self._disk_paths = file_systems(disk_paths)
        self._devices: list[str] | None = None
        self._cpus: list[Any] = []
        #: Idle share of all processors since the sample before; None before the second.
        self.idle_ratio: float | None = None

    def sample(self) -> dict[str, float]:
        """Return all that can be read; what fails is missing."""
        values: dict[str, float] = {}
        for probe in (
            self._cpu,
            self._load,
            self._memory,
            self._swap,
            self._disk_usage,
            self._disk_io,
            self._network,
        ):
            _gather(values, probe)
        return values

    def _cpu(self) -> dict[str, float]:
        times = self._psutil.cpu_times(percpu=True)
        before, self._cpus = self._cpus, times
        if len(before) != len(times):
            return {}
        spent = [_spent(old, new) for old, new in zip(before, times, strict=True)]
        total_s = sum(each[0] for each in spent)
        if total_s <= 0:
            return {}
        idle_s, waited_s = sum(each[1] for each in spent), sum(each[2] for each in spent)
        # Waiting for a disk is time in which a processor could do something else.
        self.idle_ratio = (idle_s + waited_s) / total_s
        busiest = max(
            (1 - (idle + waited) / whole for whole, idle, waited in spent if whole > 0), default=0.0
        )
        return {
            "host.cpu_percent": 100 * (1 - self.idle_ratio),
            "host.cpu_iowait_percent": 100 * waited_s / total_s,
            "host.cpu_max_core_percent": 100 * max(0.0, busiest),
        }

    def _load(self) -> dict[str, float]:
        return {"host.load_1min": os.getloadavg()[0]}

    def _memory(self) -> dict[str, float]:
        memory = self._psutil.virtual_memory()
        return {
            "memory_percent": 100 * (memory.total - memory.available) / memory.total,
            "proc.memory.availableMB": memory.available / MIB,
        }

    def _swap(self) -> dict[str, float]:
        swap = self._psutil.swap_memory()
        return {"swap.used_percent": 100 * swap.used / swap.total} if swap.total else {}

    def _disk_usage(self) -> dict[str, float]:
        values = {}
        for path in self._disk_paths:
            usage = self._psutil.disk_usage(str(path))
            values[f"disk.{path}.usagePercent"] = float(usage.percent)
            values[f"disk.{path}.usageGB"] = usage.used / GIB
        return values

    def _disk_io(self) -> dict[str, float]:
        counters = self._psutil.disk_io_counters(perdisk=True)
        if self._devices is None:
            self._devices = devices_behind(
                self._disk_paths, self._psutil.disk_partitions(all=False), list(counters)
            )
        values = {}
        for device in self._devices:
            if device in counters:
                values[f"disk.{device}.in"] = counters[device].read_bytes / MIB
                values[f"disk.{device}.out"] = counters[device].write_bytes / MIB
        return values

    def _network(self) -> dict[str, float]:
        counters = self._psutil.net_io_counters(pernic=True)
        kept = [one for name, one in counters.items() if name != "lo" and not name.startswith("lo0")]
        return {
            "network.sent": float(sum(one.bytes_sent for one in kept)),
            "network.recv": float(sum(one.bytes_recv for one in kept)),
        }


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def file_systems(paths: Iterable[Path]) -> list[Path]:
    """Return the paths, those of one file system once."""
    seen: set[int] = set()
    kept = []
    for path in paths:
        try:
            device = path.stat().st_dev
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            kept.append(path)
    return kept


def devices_behind(paths: Iterable[Path], partitions: Iterable[Any], known: Sequence[str]) -> list[str]:
    """Return the block devices that hold these paths; all real ones where that can't be told (overlays)."""
    mounted = {part.mountpoint: part.device for part in partitions}
    found: dict[str, None] = {}
    for path in paths:
        above = [str(parent) for parent in (path, *path.parents) if str(parent) in mounted]
        if above:
            device = os.path.realpath(mounted[above[0]]).removeprefix("/dev/")
            if device in known:
                found[device] = None
    if not found:
        found = dict.fromkeys(name for name in known if not name.startswith(_PSEUDO_DEVICES))
    return list(found)[:MAX_DEVICES]


def _spent(old: Any, new: Any) -> tuple[float, float, float]:
    """Return (all, idle, waiting for a disk) seconds between two readings of one processor."""
    # A guest's time is part of user time already.
    counted = [name for name in new._fields if name not in ("guest", "guest_nice")]
    spent = {name: max(0.0, getattr(new, name) - getattr(old, name)) for name in counted}
    return sum(spent.values()), spent.get("idle", 0.0), spent.get("iowait", 0.0)


def _gather(values: dict[str, float], probe: Callable[[], dict[str, float]]) -> None:
    """Add what a probe finds; one that fails (a file that this container does not show) adds nothing."""
    try:
        values.update(probe())
    except Exception:  # noqa: BLE001 - psutil raises whatever a strange /proc makes it
        return
