"""The thread that makes rows survive a power loss too, when no server has stored them within a second.

In: the spools of a target directory. Out: fdatasync of the segments that need it. Beside the agent's loop,
which may wait for a network, and never in the way of a writer: descriptors of its own, opened and closed.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from runfold.spool import list_writers
from runfold.spool.directory import segment_sizes
from runfold.spool.format import HEADER_NAME, IDENTITY_NAME, open_private, segment_name
from runfold.spool.header import read_progress

from .disk_plan import WriterOnDisk

logger = logging.getLogger(__name__)

WARN_EVERY_S: Final = 60.0
#: A disk that hangs must not keep the agent from ending.
STOP_PATIENCE_S: Final = 1.0
#: The file is gone: acked and removed, by the writer or by the agent.
_IS_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def sync_path(path: Path) -> None:
    """Bring one file or directory to disk. Raises OSError."""
    fd = open_private(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        getattr(os, "fdatasync", os.fsync)(fd)
    finally:
        os.close(fd)


class DiskSync:
    """Looks at all spools of a target twice in `within_s`. Only `start` and `stop` are for other threads."""

    def __init__(
        self,
        target_dir: Path,
        *,
        within_s: float,
        clock: Callable[[], float] = time.monotonic,
        sync: Callable[[Path], None] = sync_path,
    ) -> None:
        """Prepare; nothing happens before `start` or `look`.

        Args:
            within_s: A record is acked or on disk after this many seconds; 0: nothing is ever synced.
        """
        self._target_dir = target_dir
        self._within_s = within_s
        self._clock = clock
        self._sync_path = sync
        #: None: it ended, and nothing in it can be lost any more.
        self._known: dict[Path, WriterOnDisk | None] = {}
        self._are_parents_synced = False
        self._warned_s = -1e9
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it is switched off; where no thread can be started, the kernel's own pace remains."""
        if self._within_s <= 0 or self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="runfold-disk-sync", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._warn(error)
        else:
            self._thread = thread

    def stop(self) -> None:
        """End; a sync that hangs is left alone. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_PATIENCE_S)

    def look(self) -> int:
        """Sync the writers that are due; return how many were."""
        directories = list_writers(self._target_dir)
        known = self._known
        self._known = {directory: known.get(directory, WriterOnDisk()) for directory in directories}
        return sum(
            self._look_at(directory, on_disk)
            for directory, on_disk in self._known.items()
            if on_disk is not None and not self._stopping.is_set()
        )

    def _run(self) -> None:
        while True:
            began_s = self._clock()
            try:
                self.look()
            except Exception:  # the agent goes on whatever happens here
                if self._may_warn():
                    logger.exception("a fault in the disk sync", extra={"event": "disk_sync_fault"})
            took_s = self._clock() - began_s
            # A disk that is slow gets a rest as long as the work.
            if self._stopping.wait(max(self._within_s / 2 - took_s, took_s)):
                return

    def _look_at(self, directory: Path, on_disk: WriterOnDisk) -> bool:
        try:
            progress = read_progress(directory / HEADER_NAME)
            if progress is None:
                return False
            words, acked_seq = progress
            head_seq = max(words.head_seq, words.final_seq)
            is_due = on_disk.is_due(head_seq, acked_seq)
            if is_due:
                self._sync(directory, on_disk, head_seq, acked_seq)
            if words.is_closed and head_seq <= max(acked_seq, on_disk.synced_seq):
                if on_disk.named_seq:
                    self._sync_path(directory / HEADER_NAME)  # it says that this is the end
                self._known[directory] = None
            return is_due
        except OSError as error:
            if error.errno not in _IS_GONE:
                self._warn(error, directory)
            return False

    def _sync(self, directory: Path, on_disk: WriterOnDisk, head_seq: int, acked_seq: int) -> None:
        """Bring to disk what was written up to `head_seq`: its bytes were there before the head said so."""
        is_first = not on_disk.named_seq
        chosen = on_disk.segments(segment_sizes(directory), head_seq, acked_seq)
        for first_seq in chosen:
            with suppress(FileNotFoundError):  # acked meanwhile, and removed
                self._sync_path(directory / segment_name(first_seq))
        if is_first:
            self._sync_path(directory / IDENTITY_NAME)
            self._sync_path(directory / HEADER_NAME)
        if is_first or max(chosen, default=0) > on_disk.named_seq:
            self._sync_path(directory)
        if is_first:
            self._sync_parents()
        on_disk.synced(head_seq, chosen)

    def _sync_parents(self) -> None:
        """The name of a new spool, and once the names of the directories above it."""
        self._sync_path(self._target_dir)
        if not self._are_parents_synced:
            self._sync_path(self._target_dir.parent)
            self._sync_path(self._target_dir.parent.parent)
            self._are_parents_synced = True

    def _warn(self, error: Exception, directory: Path | None = None) -> None:
        if self._may_warn():
            logger.warning(
                "rows that no server has stored could not be brought to disk, a power loss may take them: %s",
                error,
                extra={"event": "spool_not_synced", "path": str(directory or self._target_dir)},
            )

    def _may_warn(self) -> bool:
        now_s = self._clock()
        if now_s - self._warned_s < WARN_EVERY_S:
            return False
        self._warned_s = now_s
        return True
