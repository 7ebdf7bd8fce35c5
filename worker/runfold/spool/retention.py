"""How long delivered data stays on a node: a total over all spools of a target, and the end of whole spools.

What no server has acknowledged is never removed here, whatever the total.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runfold.protocol.failpoints import hit
from runfold.spool.directory import remove_tree
from runfold.spool.reader import SpoolReader

_REMOVED_PREFIX = ".old-"
_UNFINISHED_PREFIXES = (".new-", _REMOVED_PREFIX)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that the spools of a target hold, and those that were freed just now."""

    held_bytes: int
    freed_bytes: int


def enforce_total(readers: Iterable[SpoolReader], max_bytes: int) -> Usage:
    """Remove acknowledged segments, longest unchanged first, until all spools hold at most `max_bytes`.

    Returns:
        What is held now; above `max_bytes` when the rest is not acknowledged.
    """
    held_bytes, freed_bytes = 0, 0
    removable: list[tuple[float, int, int, SpoolReader]] = []
    for order, reader in enumerate(readers):
        held_bytes += reader.held_bytes()
        removable += [
            (held.changed_unix_s, order, held.first_seq, reader) for held in reader.removable_segments()
        ]
    for _, _, first_seq, reader in sorted(removable, key=lambda one: one[:3]):
        if held_bytes - freed_bytes <= max_bytes:
            break
        freed_bytes += reader.remove_segment(first_seq)
    return Usage(held_bytes - freed_bytes, freed_bytes)


def remove_spool(
    reader: SpoolReader, *, keep_s: float, writer_is_dead: bool, now_unix_s: float | None = None
) -> bool:
    """Remove a whole spool that ended, was acknowledged to its last record, and is older than `keep_s`.

    Returns:
        Whether it was removed; the reader is closed then.
    """
    now_unix_s = time.time() if now_unix_s is None else now_unix_s
    try:
        if not (writer_is_dead or reader.header.closed) or reader.header.acked_seq < reader.head_seq():
            return False
        if now_unix_s - reader.changed_unix_s() < keep_s:
            return False
        removed = reader.directory.with_name(_REMOVED_PREFIX + reader.directory.name)
        # Renamed first: a spool that is half removed must not look like one with damage.
        reader.directory.rename(removed)
    except OSError:
        return False
    hit("spool.before_rmtree")
    reader.close()
    remove_tree(removed)
    return True


def remove_leftovers(target_dir: Path, *, older_s: float, now_unix_s: float | None = None) -> int:
    """Remove what a process left that died while it made or removed a spool; return how many."""
    now_unix_s = time.time() if now_unix_s is None else now_unix_s
    removed = 0
    try:
        entries = list(os.scandir(target_dir))
    except OSError:
        return 0
    for entry in entries:
        try:
            is_old = now_unix_s - entry.stat(follow_symlinks=False).st_mtime >= older_s
        except OSError:
            continue
        if entry.name.startswith(_UNFINISHED_PREFIXES) and is_old and entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
            removed += 1
    return removed
