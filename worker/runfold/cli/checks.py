"""Checks of this machine: versions, folders, disks, permissions, GPUs. Each gives a `Check`, and no more."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from runfold.cli.output import bytes_text
from runfold.version import VERSION

Status = Literal["ok", "warn", "fail", "skip"]

#: Less free space than this is a warning, in bytes; a tenth of it is broken.
LOW_SPACE_BYTES = 5_000_000_000
#: The WAL-reset race of SQLite 3.7.0-3.51.2 is fixed from here on.
SAFE_SQLITE = (3, 51, 3)
OLDEST_SQLITE = (3, 35, 0)
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs", "fuse.sshfs"}
)
_VOLATILE = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `fix` says what to do where status is warn or fail."""

    name: str
    status: Status
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as JSON has it."""
        return asdict(self)


def local_checks(runfold_dir: Path, data_dir: Path) -> list[Callable[[], Check]]:
    """Return the checks that need nothing but this machine."""
    return [
        python,
        packages,
        partial(folder, "RUNFOLD_DIR", runfold_dir, for_database=False),
        partial(permissions, runfold_dir),
        partial(folder, "data directory", data_dir, for_database=True),
        sqlite,
        redis_server,
        gpus,
    ]


def python() -> Check:
    """Tell which Python and runfold these are."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"runfold {VERSION}, Python {version} at {sys.executable}")


def packages() -> Check:
    """Tell which parts are installed."""
    missing = [
        name
        for name in ("fastapi", "sqlalchemy", "pyarrow", "uvicorn")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        detail = f"the worker only ({', '.join(missing)} missing)"
        return Check("packages", "ok", detail, "to run a server here: pip install 'runfold[coordinator]'")
    return Check("packages", "ok", "worker and coordinator")


def folder(name: str, path: Path, *, for_database: bool) -> Check:
    """Look at the disk below a folder, which need not exist yet: space, file system, whether we may write."""
    there = next(each for each in (path, *path.parents) if each.exists())
    free = shutil.disk_usage(there).free
    kind = file_system(there)
    detail = f"{path} on {kind or 'an unknown file system'}, {bytes_text(free)} free"
    if not there.is_dir():
        return Check(
            name, "fail", f"{there} is no directory", "remove it, or choose another with " + _setting(name)
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(
            name, "fail", f"{detail}, not writable by this user", f"chown it, or set {_setting(name)}"
        )
    if kind in _NETWORK:
        way = f"set {_setting(name)} to a folder on a local disk"
        if for_database:
            return Check(
                name,
                "fail",
                f"{detail}: SQLite's locks are no promise there",
                way + ", or use --db postgresql://",
            )
        return Check(name, "warn", f"{detail}: log() waits for the network there", way)
    if free < LOW_SPACE_BYTES / 10:
        return Check(name, "fail", detail, "free space, or set " + _setting(name))
    if free < LOW_SPACE_BYTES:
        return Check(name, "warn", detail, "it will be full soon: free space, or set " + _setting(name))
    if kind in _VOLATILE:
        return Check(
            name, "warn", f"{detail}: a reboot empties it", f"set {_setting(name)} to a folder on a disk"
        )
    return Check(name, "ok", detail)


def _setting(name: str) -> str:
    return "RUNFOLD_DIR" if name == "RUNFOLD_DIR" else "`runfold up --data`"


def file_system(path: Path) -> str | None:
    """Return the type of the file system that holds `path`; None where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    real = str(path.resolve())
    best, found = -1, None
    for line in lines:
        _, place, kind, *_ = line.split(" ")
        place = place.encode().decode("unicode_escape")  # blanks are written \040
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= best:  # of mounts on one place the last one is what is seen
            best, found = len(place), kind
    return found


def permissions(runfold_dir: Path) -> Check:
    """Look who may read the spools: they hold what training logged."""
    if not runfold_dir.exists():
        return Check("permissions", "ok", f"{runfold_dir} does not exist yet; it is made for its owner only")
    private = {runfold_dir / "server.json", *runfold_dir.glob("spool/*/")}
    for place in (runfold_dir, runfold_dir / "spool", *sorted(private)):
        if not place.exists():
            continue
        facts = place.stat()
        if facts.st_uid != os.geteuid():
            return Check(
                "permissions",
                "fail",
                f"{place} belongs to user {facts.st_uid}",
                "chown it, or set RUNFOLD_DIR for this user",
            )
        if stat.S_IMODE(facts.st_mode) & 0o022:
            return Check("permissions", "fail", f"others may write to {place}", f"chmod go-w {place}")
        if place in private and stat.S_IMODE(facts.st_mode) & 0o055:
            return Check("permissions", "warn", f"others may look into {place}", f"chmod go= {place}")
    return Check("permissions", "ok", f"{runfold_dir} is its owner's alone")


def sqlite() -> Check:
    """Look at the SQLite that Python links."""
    version = sqlite3.sqlite_version_info
    shown = f"SQLite {sqlite3.sqlite_version}"
    if version < OLDEST_SQLITE:
        return Check(
            "sqlite", "fail", shown, "3.35 or newer is needed: a newer Python, or --db postgresql://"
        )
    if version < SAFE_SQLITE:
        detail = (
            f"{shown} has the WAL race that 3.51.3 fixes; one server process, as `runfold up` is, is safe"
        )
        return Check("sqlite", "ok", detail, "open its database with nothing else while it runs")
    return Check("sqlite", "ok", shown)


def redis_server() -> Check:
    """Look for a redis-server that `runfold up` could start."""
    if importlib.util.find_spec("fastapi") is None:
        return Check("embedded redis", "skip", "only needed where a server runs")
    from runfold_coordinator.redis_binary import find_redis_binary
    from runfold_coordinator.redis_checks import RedisConfigurationError

    try:
        binary = find_redis_binary()
    except RedisConfigurationError as error:
        return Check("embedded redis", "warn", "no redis-server to start", str(error))
    return Check("embedded redis", "ok", f"{binary.path} {'.'.join(map(str, binary.version))}")


def gpus() -> Check:
    """Ask NVML for GPUs."""
    try:
        import pynvml
    except ImportError:
        return Check("gpus", "warn", "pynvml is not installed", "pip install nvidia-ml-py")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Check(
            "gpus", "skip", f"NVML does not answer ({error}): no NVIDIA GPU, or its driver is not loaded"
        )
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(place))
            for place in range(pynvml.nvmlDeviceGetCount())
        ]
    finally:
        pynvml.nvmlShutdown()
    return Check(
        "gpus", "ok", f"{len(names)} by driver {driver}: {', '.join(sorted(set(map(str, names)))) or 'none'}"
    )
