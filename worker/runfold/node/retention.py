"""Which spools may go: those that are durably acknowledged whole, after a while or when they take too much.

They are kept a while because a server that is restored from a backup needs them again.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol.failpoints import hit

logger = logging.getLogger(__name__)

#: Twice what `SpoolLimits` leaves free: copies of what is stored go before a writer runs into its limit.
NEARLY_FULL_BYTES = 128 * 1024**2
NEARLY_FULL_RATIO = 0.10


@dataclass(frozen=True, slots=True)
class HeldSpool:
    """A spool in which nothing is left to deliver."""

    writer: bytes
    directory: Path
    #: wall clock of its last change: a record or an ack.
    changed_unix_s: float
    bytes_count: int


def choose(held: list[HeldSpool], *, now_unix_s: float, keep_s: float, keep_bytes: int) -> list[HeldSpool]:
    """Return the spools to remove, oldest first: all older than `keep_s`, more until `keep_bytes` fit."""
    total = sum(one.bytes_count for one in held)
    chosen = []
    for one in sorted(held, key=lambda each: each.changed_unix_s):
        if now_unix_s - one.changed_unix_s >= keep_s or total > keep_bytes:
            chosen.append(one)
            total -= one.bytes_count
    return chosen


def is_nearly_full(directory: Path) -> bool:
    """Return whether the file system of `directory` has less free than spools leave to others, twice over."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    total_bytes, free_bytes = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    return free_bytes < min(NEARLY_FULL_BYTES, NEARLY_FULL_RATIO * total_bytes)


def measure(writer: bytes, directory: Path) -> HeldSpool:
    """Return size and age of a spool. Raises OSError when it is gone."""
    with os.scandir(directory) as entries:
        stats = [directory.stat(), *(entry.stat(follow_symlinks=False) for entry in entries)]
    return HeldSpool(
        writer,
        directory,
        changed_unix_s=max(stat.st_mtime for stat in stats),
        bytes_count=sum(stat.st_blocks * 512 for stat in stats),
    )


def remove(directory: Path) -> bool:
    """Remove a spool; return False if it could not be.

    It is renamed first: a directory that is half removed must never look like a spool with a hole.
    """
    doomed = directory.with_name(f".{directory.name}.removed")
    hit("agent.before_remove")
    try:
        directory.rename(doomed)
        hit("agent.after_rename")
        shutil.rmtree(doomed)
    except OSError:
        logger.warning(
            "a spool that is no longer needed can't be removed",
            extra={"event": "spool_not_removed", "path": str(directory)},
            exc_info=True,
        )
        return False
    return True


def remove_leftovers(target_dir: Path) -> None:
    """Finish removals that a killed agent began."""
    for doomed in target_dir.glob(".*.removed"):
        shutil.rmtree(doomed, ignore_errors=True)
