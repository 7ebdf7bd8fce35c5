"""Small file systems that can be filled: tmpfs mounts, for root on Linux."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def can_mount() -> bool:
    """Whether tmpfs can be mounted here (root, and a kernel and container that let it)."""
    if os.geteuid() != 0:
        return False
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


class SmallDisk:
    """A tmpfs at `path`; a context manager."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self._ballast = path / "ballast"

    def __enter__(self) -> SmallDisk:
        self.path.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "tmpfs", self.path], check=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=False)

    def fill(self) -> None:
        """Take all space that is left, down to the last page."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)
