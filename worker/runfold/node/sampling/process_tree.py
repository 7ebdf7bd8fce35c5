"""What the processes of each writer use: itself and its children, but not children that are writers too.

In: pids of writers, /proc (psutil elsewhere). Out: numbers by W&B's names for each pid. One look at all
processes serves all writers: a walk down from each would read every thread's list of children.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_HAS_PROC = sys.platform == "linux"
#: read_bytes, then write_bytes, of /proc/<pid>/io.
_IO = re.compile(rb"^(?:read|write)_bytes: (\d+)$", re.MULTILINE)
#: Generations that are walked up from a process to its writer.
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process as it was seen. `cpu_s`: processor time so far; `start`: tells it from a later one."""

    parent: int
    cpu_s: float
    threads: int
    rss_bytes: int
    start: float


@dataclass(frozen=True, slots=True)
class TreeReading:
    """What one writer's processes use together. None: can't be seen, or not yet.

    `read_bytes` and `written_bytes` (from and to disks) count since the process was first seen.
    """

    pids: tuple[int, ...]
    rss_bytes: int
    threads: int
    cpu_percent: float | None
    read_bytes: int | None
    written_bytes: int | None
    open_files: int | None


@dataclass(slots=True)
class _Seen:
    """Counters of one process at the sample before."""

    start: float
    cpu_s: float
    io: tuple[int, int] | None


@dataclass(slots=True)
class _Totals:
    io: list[int] = field(default_factory=lambda: [0, 0])
    has_io: bool = False


class ProcessTrees:
    """Samples trees of processes. Not thread-safe; keeps the counters of the sample before."""

    def __init__(self, proc_root: Path = Path("/proc")) -> None:
        self._proc_root = proc_root
        self._seen: dict[int, _Seen] = {}
        self._seen_s: float | None = None
        self._totals: dict[int, _Totals] = {}

    def sample(self, roots: Collection[int], now_s: float) -> dict[int, TreeReading]:
        """Return what the trees under these pids use; a pid that is gone is left out."""
        stats = self._scan()
        trees = trees_of({pid: stat.parent for pid, stat in stats.items()}, roots)
        elapsed_s = None if self._seen_s is None else now_s - self._seen_s
        seen: dict[int, _Seen] = {}
        readings = {
            root: self._read(root, pids, stats, elapsed_s, seen)
            for root, pids in trees.items()
            if root in stats
        }
        self._seen, self._seen_s = seen, now_s
        self._totals = {root: self._totals[root] for root in readings}
        return readings

    def _read(
        self,
        root: int,
        pids: Iterable[int],
        stats: Mapping[int, ProcessStat],
        elapsed_s: float | None,
        seen: dict[int, _Seen],
    ) -> TreeReading:
        totals = self._totals.setdefault(root, _Totals())
        rss_bytes = threads = open_files = 0
        used_s = 0.0
        sees_files = was_there = False
        for pid in pids:
            stat = stats[pid]
            before = self._seen.get(pid)
            if before is not None and before.start != stat.start:
                before = None
            was_there |= pid == root and before is not None
            rss_bytes += stat.rss_bytes
            threads += stat.threads
            used_s += max(0.0, stat.cpu_s - (before.cpu_s if before is not None else 0.0))
            io = self._io(pid)
            if io is not None:
                base = before.io if before is not None and before.io is not None else (0, 0)
                totals.has_io = True
                totals.io[0] += max(0, io[0] - base[0])
                totals.io[1] += max(0, io[1] - base[1])
            count = self._open_files(pid)
            if count is not None:
                sees_files = True
                open_files += count
            seen[pid] = _Seen(stat.start, stat.cpu_s, io)
        # The first look at a process has nothing to compare with: its time so far is not of this interval.
        cpu_percent = 100 * used_s / elapsed_s if elapsed_s and was_there else None
        return TreeReading(
            pids=tuple(pids),
            rss_bytes=rss_bytes,
            threads=threads,
            cpu_percent=cpu_percent,
            read_bytes=totals.io[0] if totals.has_io else None,
            written_bytes=totals.io[1] if totals.has_io else None,
            open_files=open_files if sees_files else None,
        )

    def _scan(self) -> dict[int, ProcessStat]:
        return scan_proc(self._proc_root) if _HAS_PROC else _scan_with_psutil()

    def _io(self, pid: int) -> tuple[int, int] | None:
        try:
            with open(f"{self._proc_root}/{pid}/io", "rb") as file:
                found = _IO.findall(file.read())
        except OSError:
            return None
        return (int(found[0]), int(found[1])) if len(found) == 2 else None

    def _open_files(self, pid: int) -> int | None:
        try:
            return len(os.listdir(f"{self._proc_root}/{pid}/fd"))  # noqa: PTH208 - counted only, often
        except OSError:
            return None


def scan_proc(proc_root: Path = Path("/proc")) -> dict[int, ProcessStat]:
    """Return every process by pid, zombies left out."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {}
    root = str(proc_root)
    for name in os.listdir(root):  # noqa: PTH208 - names only, of thousands of entries
        if not name.isdigit():
            continue
        try:
            with open(f"{root}/{name}/stat", "rb") as file:
                text = file.read()
            fields = text[text.rindex(b")") + 2 :].split()
            if fields[0] in (b"Z", b"X"):
                continue
            found[int(name)] = ProcessStat(
                parent=int(fields[1]),
                cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
                threads=int(fields[17]),
                rss_bytes=int(fields[21]) * page,
                start=int(fields[19]),
            )
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile
    return found


def trees_of(parents: Mapping[int, int], roots: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Return by root the pids below it, itself first; each pid belongs to the nearest root above it."""
    wanted = set(roots)
    owner: dict[int, int | None] = {}
    trees: dict[int, list[int]] = {root: [root] for root in wanted if root in parents}
    for pid in parents:
        root = _owner(pid, parents, wanted, owner)
        if root is not None and pid != root:
            trees[root].append(pid)
    return {root: (pids[0], *sorted(pids[1:])) for root, pids in trees.items()}


def _owner(
    pid: int, parents: Mapping[int, int], roots: Collection[int], owner: dict[int, int | None]
) -> int | None:
    path = []
    at = pid
    found: int | None = None
    for _ in range(_MAX_DEPTH):
        if at in owner:
            found = owner[at]
            break
        if at in roots and at in parents:
            found = at
            break
        path.append(at)
        if at not in parents or parents[at] == at:
            break
        at = parents[at]
    for each in path:
        owner[each] = found
    return found


def _scan_with_psutil() -> dict[int, ProcessStat]:
    import psutil

    found = {}
    for process in psutil.process_iter(["ppid", "cpu_times", "num_threads", "memory_info", "create_time"]):
        info = process.info
        if info["cpu_times"] is None or info["memory_info"] is None:
            continue
        found[process.pid] = ProcessStat(
            parent=info["ppid"] or 0,
            cpu_s=info["cpu_times"].user + info["cpu_times"].system,
            threads=info["num_threads"] or 0,
            rss_bytes=info["memory_info"].rss,
            start=info["create_time"] or 0.0,
        )
    return found
