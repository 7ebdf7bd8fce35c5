"""What manifests name, read once and kept as numbers: eight bytes a digest, in a file of the data directory.

A cache: without it, or where it is damaged, manifests are read again. A record is true for ever, as manifests
never change; those of manifests that are not kept any more are dropped when half of the file is such.

Form: the magic, then records: manifest (32 bytes), count (u64), BLAKE2b-128 over these two and the numbers,
numbers (u64, ascending), all little-endian. A record that does not match its sum ends the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from runfold.protocol.manifest import MAX_ENTRIES
from runfold_coordinator.blobs.collector import Numbers, numbers_of

logger = logging.getLogger(__name__)

_MAGIC = b"RFDIG01\n"
_HEAD = struct.Struct("<32sQ16s")
#: Less than this is not worth to be rewritten.
_LEAST_REWRITTEN = 1024 * 1024
_LITTLE = np.dtype("<u8")


class DigestLog:
    """One pass at a time; of two processes with one file, the second goes without."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, manifests: set[str], named: Callable[[str], Iterable[str]]) -> Iterator[Numbers]:
        """Yield what each of these manifests names, in any order, as numbers in ascending order.

        Args:
            named: Reads a manifest: the digests that it names.

        Raises:
            Exception: Whatever `named` raises. The file itself never fails a pass.
        """
        waiting = set(manifests)
        with contextlib.ExitStack() as stack:
            file = self._open(stack)
            if file is not None:
                kept, end = 0, len(_MAGIC)
                for manifest, numbers, end_of_record in file.records():
                    if manifest in waiting:
                        waiting.discard(manifest)
                        kept += end_of_record - end
                        yield numbers
                    end = end_of_record
                file.cut(end)
                if end - kept > max(end / 2, _LEAST_REWRITTEN):
                    file = self._rewritten(stack, file, manifests)
            for manifest in waiting:
                numbers = numbers_of(named(manifest))
                if file is not None:
                    file.append(manifest, numbers)
                yield numbers

    def _open(self, stack: contextlib.ExitStack) -> _File | None:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _File(fd)
        except OSError as error:
            _tell(self._path, error)
            return None

    def _rewritten(self, stack: contextlib.ExitStack, old: _File, manifests: set[str]) -> _File | None:
        """Put a file with the records of these manifests in the place of the old one."""
        new_path = self._path.with_name(f"{self._path.name}.new")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(new_path, flags, 0o600)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new, left = _File(fd), set(manifests)
            for manifest, numbers, _ in old.records():
                if manifest in left:
                    left.discard(manifest)
                    if not new.append(manifest, numbers):
                        new_path.unlink()
                        return old
            new_path.replace(self._path)
        except OSError as error:
            _tell(new_path, error)
            return old
        return new


class _File:
    """The open file. Without a whole magic it is begun anew."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_writable = True
        if os.pread(fd, len(_MAGIC), 0) != _MAGIC:
            os.ftruncate(fd, 0)
            os.pwrite(fd, _MAGIC, 0)
        self._end = os.fstat(fd).st_size

    def records(self) -> Iterator[tuple[str, Numbers, int]]:
        """Yield (manifest, numbers, end of the record) up to the first that is not whole."""
        at = len(_MAGIC)
        while True:
            try:
                head = os.pread(self._fd, _HEAD.size, at)
                if len(head) < _HEAD.size:
                    return
                manifest, count, found_sum = _HEAD.unpack(head)
                if count > MAX_ENTRIES:
                    return
                data = os.pread(self._fd, count * _LITTLE.itemsize, at + _HEAD.size)
            except OSError:
                return  # what can't be read here is read from its manifest
            if len(data) < count * _LITTLE.itemsize or _sum(manifest, count, data) != found_sum:
                return
            at += _HEAD.size + len(data)
            yield manifest.hex(), np.frombuffer(data, dtype=_LITTLE), at

    def cut(self, end: int) -> None:
        """Take away what follows the last whole record."""
        self._end = end
        try:
            os.ftruncate(self._fd, end)
        except OSError:
            self._is_writable = False

    def append(self, manifest: str, numbers: Numbers) -> bool:
        """Add a record; False where the disk takes none, and then none any more."""
        if not self._is_writable:
            return False
        name, data = bytes.fromhex(manifest), numbers.astype(_LITTLE).tobytes()
        record = _HEAD.pack(name, len(numbers), _sum(name, len(numbers), data)) + data
        try:
            written = os.pwrite(self._fd, record, self._end)
        except OSError:
            written = 0
        if written < len(record):
            self.cut(self._end)
            self._is_writable = False
            return False
        self._end += written
        return True


def _sum(manifest: bytes, count: int, data: bytes) -> bytes:
    found = hashlib.blake2b(manifest + count.to_bytes(8, "little"), digest_size=16)
    found.update(data)
    return found.digest()


def _tell(path: Path, error: OSError) -> None:
    logger.warning(
        "manifests are read without a cache",
        extra={"event": "digest_log", "path": path.name, "why": str(error)},
    )
