"""The segments of a spool as a reader sees them: which belong to the writer, and their bytes by pread."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from runfold.spool.directory import segment_sizes
from runfold.spool.format import (
    SEGMENT_HEADER_BYTES,
    open_private,
    segment_name,
    unpack_segment_header,
)
from runfold.spool.scan import find_record

#: Errors that say: there is no such segment. Anything else (no descriptors left, a disk that does not answer)
#: may pass, and must not be declared as loss.
_IS_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
#: No segment of ours is larger; what a stranger put under a segment's name is not read beyond.
_MAX_FILE_BYTES = 128 * 1024 * 1024


class SegmentFiles:
    """Reads segments; keeps the last one open. Files that are not this writer's are left alone."""

    def __init__(self, directory: Path, writer: bytes, seed: int) -> None:
        self.directory = directory
        self._writer = writer
        self._seed = seed
        self._is_ours: dict[int, bool] = {}
        self._fd = -1
        self._first_seq = 0

    def listing(self) -> dict[int, tuple[int, float]]:
        """Return size in bytes and last change (unix s) of the writer's segments, by first seq."""
        try:
            found = segment_sizes(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        self._is_ours = {first_seq: ours for first_seq, ours in self._is_ours.items() if first_seq in found}
        for first_seq, (size, _) in found.items():
            if first_seq not in self._is_ours:
                self._is_ours[first_seq] = self._check(first_seq, size)
        return {first_seq: about for first_seq, about in found.items() if self._is_ours[first_seq]}

    def read(self, first_seq: int, offset: int, size: int) -> memoryview:
        """Return up to `size` bytes from `offset`; none at the end, or when the segment is gone."""
        try:
            if self._fd < 0 or self._first_seq != first_seq:
                self.close()
                self._fd = self._open(first_seq)
                self._first_seq = first_seq
            # pread allocates what it is asked for before it knows how much there is.
            there = min(os.fstat(self._fd).st_size, _MAX_FILE_BYTES) - offset
            return memoryview(os.pread(self._fd, min(size, there), offset) if there > 0 else b"")
        except OSError as error:
            if error.errno in _IS_GONE:
                return memoryview(b"")
            raise

    def remove(self, first_seq: int) -> None:
        """Delete a segment; nothing happens when it is gone."""
        if self._first_seq == first_seq:
            self.close()
        (self.directory / segment_name(first_seq)).unlink(missing_ok=True)

    def close(self) -> None:
        """Close what is open; idempotent, and reading may go on."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._first_seq = 0

    def _open(self, first_seq: int) -> int:
        fd = open_private(self.directory / segment_name(first_seq), os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "not a file", segment_name(first_seq))
        return fd

    def _check(self, first_seq: int, size: int) -> bool:
        """Tell whether a segment is this writer's: by its header, or where that is damaged, by any record."""
        said = unpack_segment_header(bytes(self.read(first_seq, 0, SEGMENT_HEADER_BYTES)))
        if said is not None:
            return said == (self._writer, first_seq)
        whole = self.read(first_seq, 0, size)
        # Every record holds at least its header, so no seq in the file can be further on than this.
        last_seq = first_seq + len(whole) // 32
        return find_record(whole, SEGMENT_HEADER_BYTES, self._seed, first_seq, last_seq) is not None
