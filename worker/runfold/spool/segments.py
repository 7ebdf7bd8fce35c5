"""The chain of a writer's segments: which is open, when the next is made, how large, whether it may be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from runfold.spool.ahead import FileAhead, close_beside
from runfold.spool.directory import segment_sizes
from runfold.spool.filesystem import free_bytes, total_bytes
from runfold.spool.format import (
    AHEAD_NAME,
    SEGMENT_HEADER_BYTES,
    FixedHeader,
    pack_segment_header,
    segment_name,
)
from runfold.spool.limits import SpoolLimits
from runfold.spool.segment import Segment, create_file, publish

#: The end of a segment that is kept for urgent records: enough for a traceback of full length.
_RESERVE_BYTES = 96 * 1024
_PAGE_BYTES = 4096


class SegmentChain:
    """Opens one segment after another. Methods raise OSError; the writer turns it into counted loss."""

    def __init__(
        self,
        directory: Path,
        fixed: FixedHeader,
        limits: SpoolLimits,
        *,
        mapped: bool,
        acked_seq: Callable[[], int],
    ) -> None:
        self._acked_seq = acked_seq
        self.directory = directory
        self.mapped = mapped
        self.current: Segment | None = None
        self._fixed = fixed
        self._limits = limits
        self._next_bytes = limits.first_segment_bytes
        #: All segments so far together; those that were removed are counted until the quota presses.
        self._held_bytes = 0
        self._ahead: FileAhead | None = None

    @property
    def capacity(self) -> int:
        """Size of the current segment; 0 before the first."""
        return self.current.capacity if self.current else 0

    @property
    def limit(self) -> int:
        """Where ordinary records end in the current segment; urgent ones may go on to `capacity`."""
        return self.capacity - _reserve(self.capacity)

    def open_next(self, first_seq: int, need_bytes: int) -> Segment:
        """Make a segment that begins with `first_seq` the current one, with room for `need_bytes`.

        Raises:
            OSError: No space on the disk or in the quota; the current one stays open.
        """
        fitting = need_bytes + SEGMENT_HEADER_BYTES
        least = _whole_pages(fitting + _reserve(fitting * 2))
        capacity = max(_whole_pages(self._next_bytes), least)
        fd = self._ahead.take(capacity) if self._ahead else None
        path = self.directory / AHEAD_NAME
        if fd is None:
            fd, capacity = self._create(path, capacity, least)
        try:
            header = pack_segment_header(self._fixed.writer, first_seq, self._fixed.boot_id)
            segment = Segment(fd, capacity, mapped=self.mapped)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        left = self.current
        try:
            publish(path, fd, header, first_seq)
            self.current = segment
        except BaseException:
            # A signal handler may raise after the rename: an empty segment must not hide what follows.
            path.with_name(segment_name(first_seq)).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            segment.close()
            raise
        self._held_bytes += capacity
        if left is not None:
            close_beside(left)
        self._next_bytes = min(self._next_bytes * 2, self._limits.max_segment_bytes)
        return segment

    def _create(self, path: Path, capacity: int, least: int) -> tuple[int, int]:
        """Create a file of `capacity`, or of less where the disk is nearly full; return it and its size.

        What a server has stored durably is only kept for another server: it goes before anything is lost.
        """
        least = max(least, min(capacity, _whole_pages(self._limits.first_segment_bytes)))
        while True:
            try:
                self._check_quota(capacity)
                return create_file(path, capacity, allocate=self.mapped), capacity
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if self._release_acked():
                    continue
                if capacity <= least:
                    raise
                capacity = max(_whole_pages(capacity // 4), least)

    def _release_acked(self) -> bool:
        """Delete the segments before the current one that were acknowledged whole; return whether any was.

        The ack is not brought to disk first, as the agent does: that could block. After a power loss the
        missing rows are declared as a gap below the server's watermark, which changes nothing there.
        """
        acked_seq = self._acked_seq()
        firsts = list(segment_sizes(self.directory))
        released = False
        for first_seq, next_first_seq in pairwise(firsts):
            if next_first_seq - 1 > acked_seq:
                break
            (self.directory / segment_name(first_seq)).unlink(missing_ok=True)
            released = True
        return released

    def prepare_next(self) -> None:
        """Allocate the next segment in the background, where that is wanted and possible."""
        if not (self.mapped and self._limits.prepare_ahead):
            return
        self._ahead = self._ahead or FileAhead(self.directory / AHEAD_NAME)
        capacity = _whole_pages(self._next_bytes)
        try:
            self._check_quota(capacity)
        except OSError as error:
            if error.errno is None:
                # Not from the system but from a signal handler of the program.
                raise
            return
        if self._ahead.is_idle:
            self._ahead.prepare(capacity)

    def close(self, *, truncate_at: int | None) -> None:
        """Close everything; give back what the last segment allocated beyond `truncate_at`, when given."""
        segment, self.current = self.current, None
        if segment is not None:
            try:
                segment.close(truncate_at=truncate_at)
            except OSError:
                pass
        if self._ahead is not None and truncate_at is not None:
            self._ahead.discard()

    def _check_quota(self, capacity: int) -> None:
        """Raise OSError when a segment of this size would take more than is allowed."""
        if self._held_bytes + capacity > self._limits.max_bytes:
            # The agent has removed some: counted anew, but not with each segment, as there may be thousands.
            self._held_bytes = sum(size for size, _ in segment_sizes(self.directory).values())
        if self._held_bytes + capacity > self._limits.max_bytes:
            raise OSError(
                errno.EDQUOT,
                f"the spool holds {self._held_bytes} bytes; its quota is {self._limits.max_bytes}",
            )
        # Looked up even without a limit: statvfs also tells that the directory is gone.
        free = free_bytes(self.directory)
        limits = self._limits
        left_free = min(limits.min_free_bytes, int(limits.min_free_ratio * total_bytes(self.directory)))
        if left_free and free < left_free + capacity:
            raise OSError(errno.ENOSPC, f"{free} bytes are free; {left_free} have to stay free")


def _reserve(capacity: int) -> int:
    return min(_RESERVE_BYTES, capacity // 4) & ~7


def _whole_pages(size: int) -> int:
    return (size + _PAGE_BYTES - 1) // _PAGE_BYTES * _PAGE_BYTES
