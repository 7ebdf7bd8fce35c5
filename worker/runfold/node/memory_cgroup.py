"""Counters of processes that the kernel killed for want of memory, by memory cgroup; version 1 and version 2.

In: /proc/PID/cgroup and /proc/self/mountinfo. Out: files with counters, the process's own first. Where no
cgroups are shown, as in some containers, there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class KillCounter:
    """`oom_kill` of one memory cgroup. Version 2 counts what happened below it too, version 1 does not."""

    #: As /proc/PID/cgroup names it.
    cgroup: str
    version: int
    file: Path

    def read(self) -> int | None:
        """Return the count; None when the cgroup is gone, or does not count."""
        try:
            text = self.file.read_text()
        except OSError:
            return None
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
        return None


def counters_of(cgroups: str, mounts: str) -> list[KillCounter]:
    """Return the counters to look at, the process's own cgroup first, then those above it.

    Args:
        cgroups: Text of /proc/PID/cgroup.
        mounts: Text of /proc/self/mountinfo.
    """
    by_controller = dict(_lines(cgroups))
    for version in (1, 2):
        path = by_controller.get("memory" if version == 1 else "")
        for root, mount_point in _mounts(mounts, version):
            found = [] if path is None else _counters(path, root, mount_point, version)
            if found:
                return found
    return []


def read_counters_of(pid: int) -> list[KillCounter]:
    """Return the counters of a living process; none when they can't be seen."""
    try:
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except (OSError, UnicodeDecodeError):
        return []
    return counters_of(cgroups, mounts)


def _lines(cgroups: str) -> Iterator[tuple[str, str]]:
    """Yield (controller, path); version 2 has no controller's name."""
    for line in cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, path


def _mounts(mounts: str, version: int) -> Iterator[tuple[str, Path]]:
    """Yield (cgroup that is mounted, where) of each mount of memory cgroups, see proc_pid_mountinfo(5)."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, system = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(system) < 3:
            continue
        is_meant = system[0] == "cgroup2" if version == 2 else "memory" in system[2].split(",")
        if is_meant and system[0].startswith("cgroup"):
            yield _unescape(fields[3]), Path(_unescape(fields[4]))


def _counters(path: str, root: str, mount_point: Path, version: int) -> list[KillCounter]:
    inside = PurePosixPath(path)
    if ".." in inside.parts or not inside.is_relative_to(root):
        return []  # a cgroup that is not below what is mounted here
    own = inside.relative_to(root)
    name = "memory.oom_control" if version == 1 else "memory.events"
    # Version 1 does not count for those above.
    places = [own] if version == 1 else [own, *own.parents]
    found = [
        KillCounter(str(PurePosixPath(root) / place), version, mount_point / place / name) for place in places
    ]
    return [counter for counter in found if counter.read() is not None]


def _unescape(text: str) -> str:
    """mountinfo writes blanks and the like as octal numbers."""
    for plain, octal in ((" ", "\\040"), ("\t", "\\011"), ("\n", "\\012"), ("\\", "\\134")):
        text = text.replace(octal, plain)
    return text
