"""What a process's control group allows and uses, of version 1 and 2.

In: a pid, and where /proc is. Out: `CgroupReading`. Limits are the tightest over the group and those above
it, as the kernel applies them; usage is that of the group which has this limit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Version 1 says "no limit" with a number near 2**63, rounded to pages.
_UNLIMITED_BYTES = 1 << 60
_MAX_FILE_BYTES = 1 << 20
#: Groups that are remembered.
MAX_KNOWN = 1000


@dataclass(frozen=True, slots=True)
class CgroupReading:
    """None: there is no such limit, or it can't be read. Times and counts since the group was made."""

    #: Processors' worth of time that it may use; 1.5 is one and a half.
    cpu_limit: float | None = None
    #: Enforcement periods so far, those in which it was throttled, and for how long.
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    memory_limit_bytes: int | None = None
    memory_bytes: int | None = None
    #: Memory that can't be had back at once: usage less inactive file pages, as the kubelet counts it.
    working_set_bytes: int | None = None
    oom_kills: int | None = None


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The directories of one group, itself first, then those above it; empty where a controller is off."""

    cpu_version: int = 2
    cpu_dirs: tuple[Path, ...] = ()
    memory_version: int = 2
    memory_dirs: tuple[Path, ...] = ()

    def read(self) -> CgroupReading:
        """Return limits and usage as they are now."""
        cpu_limit, cpu_dir = _tightest(
            self.cpu_dirs, _cpu_limit_v1 if self.cpu_version == 1 else _cpu_limit_v2
        )
        memory_limit, memory_dir = _tightest(
            self.memory_dirs, _memory_limit_v1 if self.memory_version == 1 else _memory_limit_v2
        )
        periods, throttled, throttled_s = _throttling(cpu_dir, self.cpu_version)
        used, working_set = _memory(memory_dir, self.memory_version)
        leaf = self.memory_dirs[0] if self.memory_dirs else None
        return CgroupReading(
            cpu_limit=cpu_limit,
            periods=periods,
            throttled_periods=throttled,
            throttled_s=throttled_s,
            memory_limit_bytes=None if memory_limit is None else int(memory_limit),
            memory_bytes=used,
            working_set_bytes=working_set,
            oom_kills=_oom_kills(leaf, self.memory_version),
        )


class Cgroups:
    """Finds the groups of processes; processes of one group share the object. Not thread-safe."""

    def __init__(self, proc_root: Path = Path("/proc")) -> None:
        self._proc_root = proc_root
        #: by the text in which the kernel names a process's groups
        self._found: dict[str, Cgroup | None] = {}

    def of(self, pid: int) -> Cgroup | None:
        """Return the group of a process as it is mounted here; None where there is none to be seen."""
        told = _text(self._proc_root / str(pid) / "cgroup")
        if not told:
            return None
        if told not in self._found:
            if len(self._found) >= MAX_KNOWN:
                self._found.clear()
            self._found[told] = _find(told, _text(self._proc_root / "self" / "mountinfo") or "")
        return self._found[told]


def _find(told: str, mountinfo: str) -> Cgroup | None:
    mounts = _mounts(mountinfo)
    places: dict[str, tuple[int, tuple[Path, ...]]] = {}
    for line in told.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        names = [name for name in parts[1].split(",") if name]
        for controller in names or ["cpu", "memory"]:
            version = 1 if names else 2
            found = _directories(mounts, controller if names else "", parts[2])
            # In a hybrid tree version 1 has the controller; the unified group beside it has no files.
            if found and places.get(controller, (2, ()))[0] != 1:
                places[controller] = (version, found)
    if not places:
        return None
    cpu, memory = places.get("cpu", (2, ())), places.get("memory", (2, ()))
    return Cgroup(cpu[0], cpu[1], memory[0], memory[1])


def _mounts(mountinfo: str) -> list[tuple[str, str, str]]:
    """Return (controllers, root inside the hierarchy, mount point) of every cgroup mount; "" is version 2."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        controllers = "" if kind[0] == "cgroup2" else kind[2]
        found.append((controllers, _unescape(fields[3]), _unescape(fields[4])))
    return found


def _directories(mounts: list[tuple[str, str, str]], controller: str, path: str) -> tuple[Path, ...]:
    for controllers, root, mount_point in mounts:
        if controller not in controllers.split(","):
            continue
        inside = path
        if root != "/":
            # The container's own group is mounted as the root of what it sees.
            inside = path[len(root) :] if (path + "/").startswith(root + "/") else path
        top = os.path.normpath(mount_point)
        leaf = os.path.normpath(top + "/" + inside.lstrip("/"))
        if leaf != top and not leaf.startswith(top + "/"):
            continue  # of another cgroup namespace: "/../.."
        if not Path(leaf).is_dir():
            leaf = top
        parts = [Path(leaf), *Path(leaf).parents]
        return tuple(parts[: len(Path(leaf).parts) - len(Path(top).parts) + 1])
    return ()


def _tightest(dirs: tuple[Path, ...], limit_of: object) -> tuple[float | None, Path | None]:
    """Return the lowest limit and the directory that has it; (None, the leaf) where nothing limits."""
    assert callable(limit_of), "a function that reads a limit"
    best: tuple[float | None, Path | None] = (None, dirs[0] if dirs else None)
    for directory in dirs:
        limit = limit_of(directory)
        if limit is not None and (best[0] is None or limit < best[0]):
            best = (limit, directory)
    return best


def _cpu_limit_v1(directory: Path) -> float | None:
    quota = _number(directory / "cpu.cfs_quota_us")
    period = _number(directory / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _cpu_limit_v2(directory: Path) -> float | None:
    parts = (_text(directory / "cpu.max") or "").split()
    if len(parts) != 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    quota, period = int(parts[0]), int(parts[1])
    return quota / period if quota > 0 and period > 0 else None


def _memory_limit_v1(directory: Path) -> int | None:
    limit = _number(directory / "memory.limit_in_bytes")
    return limit if limit is not None and 0 < limit < _UNLIMITED_BYTES else None


def _memory_limit_v2(directory: Path) -> int | None:
    limit = _number(directory / "memory.max")
    return limit if limit is not None and 0 < limit < _UNLIMITED_BYTES else None


def _throttling(directory: Path | None, version: int) -> tuple[int | None, int | None, float | None]:
    if directory is None:
        return None, None, None
    stat = _pairs(directory / "cpu.stat")
    name, unit = ("throttled_time", 1e-9) if version == 1 else ("throttled_usec", 1e-6)
    time = stat.get(name)
    return stat.get("nr_periods"), stat.get("nr_throttled"), None if time is None else time * unit


def _memory(directory: Path | None, version: int) -> tuple[int | None, int | None]:
    if directory is None:
        return None, None
    used = _number(directory / ("memory.usage_in_bytes" if version == 1 else "memory.current"))
    inactive = _pairs(directory / "memory.stat").get(
        "total_inactive_file" if version == 1 else "inactive_file"
    )
    if used is None or inactive is None:
        return used, None
    return used, max(0, used - inactive)


def _oom_kills(directory: Path | None, version: int) -> int | None:
    if directory is None:
        return None
    return _pairs(directory / ("memory.oom_control" if version == 1 else "memory.events")).get("oom_kill")


def _text(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    try:
        return int(text)
    except ValueError:
        return None


def _pairs(path: Path) -> dict[str, int]:
    found = {}
    for line in (_text(path) or "").splitlines():
        name, _, text = line.partition(" ")
        if text.strip().isdigit():
            found[name] = int(text)
    return found


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
