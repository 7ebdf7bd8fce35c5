"""What the file system under a spool promises: whether allocated space can be written without failing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Here a write into space from `posix_fallocate` cannot run out of space. Elsewhere (NFS, and whatever copies
#: on write: btrfs, zfs, overlay on them) it can, and through mmap that is a SIGBUS in the training process.
_KEEPS_ALLOCATED_SPACE = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "f2fs", "ramfs"})


def can_append_by_mmap(directory: Path, mounts: str | None = None) -> bool:
    """Return whether files in `directory` may be appended to through mmap; False when in doubt.

    Args:
        mounts: Text in the format of /proc/self/mountinfo; read from there by default.
    """
    # The length word of a record is one aligned native store, read as little-endian.
    if not hasattr(os, "posix_fallocate") or sys.byteorder != "little":
        return False
    try:
        if mounts is None:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        place = os.path.realpath(directory)
    except OSError:
        return False
    return _type_of(place, mounts) in _KEEPS_ALLOCATED_SPACE


def _type_of(place: str, mounts: str) -> str:
    """Return the type of the file system mounted at or above `place`; the last of several wins."""
    found, found_at = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        at = (
            fields[4].encode("latin-1", "replace").decode("unicode_escape")
            if "\\" in fields[4]
            else fields[4]
        )
        inside = place == at or place.startswith(at.rstrip("/") + "/")
        if inside and len(at) >= len(found_at):
            found, found_at = kind[0], at
    return found


def free_bytes(directory: Path) -> int:
    """Return the bytes that this user may still take on the file system of `directory`."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def total_bytes(directory: Path) -> int:
    """Return the size of the file system of `directory`."""
    found = os.statvfs(directory)
    return found.f_blocks * found.f_frsize
