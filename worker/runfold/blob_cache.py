"""BlobCache: contents that were downloaded once, by their digest, shared by all processes of a user.

    <directory>/blobs/ab/ab12...    whole contents, renamed into place after they were verified
    <directory>/partial/ab12...     one that is being downloaded, or was cut off: gone on with

Nothing in it is believed: what is read is hashed again. A file that is removed while it is read stays whole
for its reader. Old contents go when there are too many.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from runfold.file_copies import write_whole
from runfold.target_folder import locked_part

DEFAULT_MAX_BYTES = 50_000_000_000
#: What is looked through only so often: a scan of a large cache takes a second.
_TRIM_EVERY_S = 600.0
#: Downloads that nobody went on with are given up after this.
_KEEP_PARTIAL_S = 7 * 86_400.0
#: Part of the disk that the cache leaves free.
_LEAVE_FREE = 0.05


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Return RUNFOLD_CACHE_DIR, else W&B's WANDB_CACHE_DIR, else the user's cache folder."""
    if said := environ.get("RUNFOLD_CACHE_DIR") or environ.get("WANDB_CACHE_DIR"):
        return Path(said).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "runfold"


def max_bytes(environ: Mapping[str, str]) -> int:
    """Return RUNFOLD_CACHE_BYTES, the default where it is no number."""
    try:
        return max(0, int(float(environ["RUNFOLD_CACHE_BYTES"])))
    except (KeyError, ValueError, OverflowError):
        return DEFAULT_MAX_BYTES


class BlobCache:
    """Contents by digest. Thread-safe; any number of processes share a directory."""

    def __init__(self, directory: Path, limit_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> BlobCache:
        """Return the cache that the environment names."""
        return cls(cache_directory(environ), max_bytes(environ))

    def open(self, sha256: str, size: int) -> int | None:
        """Return a descriptor of a content to read, None if it is not there. Its digest is not checked."""
        path = self._path(sha256)
        try:
            # NONBLOCK: what lies there may be a pipe, that nobody writes to.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size != size:
            os.close(fd)
            self.forget(sha256)
            return None
        with contextlib.suppress(OSError):
            os.utime(fd)  # the times of last use decide what goes first
        return fd

    def fill(self, sha256: str, size: int, fetch: Callable[[int], None]) -> int:
        """Have `fetch` write a content, unless another process just did. Return a descriptor to read.

        Args:
            fetch: Gets a descriptor of a file with what an earlier attempt left, opened to read and write,
                offset 0; raises when it can't be had.

        Raises:
            OSError: It can't be kept here.
        """
        path, partial = self._path(sha256), self._directory / "partial" / sha256
        for folder in (path.parent, partial.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_part(partial) as fd:
            # Whoever was waited for has most likely brought it.
            if (there := self.open(sha256, size)) is not None:
                partial.unlink(missing_ok=True)
                return there
            fetch(fd)
            partial.rename(path)
            return os.dup(fd)

    def has(self, sha256: str, size: int) -> bool:
        """Say whether a content is there."""
        fd = self.open(sha256, size)
        if fd is None:
            return False
        os.close(fd)
        return True

    def put(self, sha256: str, content: bytes) -> None:
        """Keep a small content, which was verified; where it can't be kept, do nothing."""
        with contextlib.suppress(OSError):
            os.close(self.fill(sha256, len(content), lambda fd: write_whole(fd, content)))

    def forget(self, sha256: str) -> None:
        """Remove a content that turned out to be damaged."""
        with contextlib.suppress(OSError):
            self._path(sha256).unlink()

    def give_up(self, sha256: str) -> None:
        """Remove what there is of an unfinished content: there was no space for it."""
        with contextlib.suppress(OSError):
            (self._directory / "partial" / sha256).unlink()

    def trim(self, now_unix_s: float | None = None, *, at_once: bool = False) -> int:
        """Remove what was not used for longest until the limit holds; return the bytes removed.

        Does nothing while another process does it, nor where it was done a short while ago.
        """
        now = time.time() if now_unix_s is None else now_unix_s
        try:
            lock = os.open(self._directory / "trim.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stamp = os.fstat(lock)
            # A file that was made just now was never looked through.
            if not at_once and stamp.st_size and 0 <= now - stamp.st_mtime < _TRIM_EVERY_S:
                return 0
            removed = self._trim_locked(now)
            os.pwrite(lock, b"1", 0)
            os.utime(lock, (now, now))
            return removed
        except OSError:
            return 0
        finally:
            os.close(lock)

    def _trim_locked(self, now: float) -> int:
        contents = sorted(self._contents())
        used = sum(size for _, size, _ in contents)
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize - _LEAVE_FREE * disk.f_blocks * disk.f_frsize
        limit = min(self._limit_bytes, max(0, int(used + free)))
        removed = 0
        for _, size, path in contents:
            if used - removed <= limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108  # many of them
                removed += size
        self._give_up_old_partials(now)
        return removed

    def _contents(self) -> Iterator[tuple[float, int, str]]:
        """Yield time of last use, bytes and path of each content."""
        for path in (self._directory / "blobs").glob("??"):
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        found = entry.stat(follow_symlinks=False)
                        yield found.st_mtime, found.st_size, entry.path

    def _give_up_old_partials(self, now: float) -> None:
        for path in (self._directory / "partial").glob("*"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime <= _KEEP_PARTIAL_S:
                    continue
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(fd)

    def _path(self, sha256: str) -> Path:
        return self._directory / "blobs" / sha256[:2] / sha256
