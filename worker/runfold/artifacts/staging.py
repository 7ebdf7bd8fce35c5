"""Staging: copies of what an artifact takes in, so that nothing changes between add_file() and the upload.

    <RUNFOLD_DIR>/drafts/<process>/lock    held by the process: without it, nobody will come back for these
    <RUNFOLD_DIR>/drafts/<process>/<id>/   one draft's copies, each named by its SHA-256

What is logged moves into the outbox by one rename. What never is goes with the artifact, or with the process;
what a killed process left, the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
import time
import weakref
from pathlib import Path

from runfold import terminal
from runfold.file_copies import Summed, copy_summed, open_to_read, sum_file

_LOCK_NAME = "lock"
#: Folders younger than this are left alone: their maker may not have locked them yet.
_YOUNG_S = 60.0


class ProcessDrafts:
    """The folder of this process's drafts. Thread-safe; a fork's child has one of its own."""

    def __init__(self) -> None:
        self._guard = threading.RLock()  # a signal handler may log too
        self._folders: dict[Path, Path] = {}
        self._pid = 0

    def folder(self, home: Path) -> Path:
        """Return a new folder for a draft below `home`. OSError when none can be made."""
        with self._guard:
            if self._pid != os.getpid():
                self._folders, self._pid = {}, os.getpid()
            if home not in self._folders or not self._folders[home].is_dir():  # at exit it goes before others
                self._folders[home] = _open_process_folder(home / "drafts")
            folder = self._folders[home] / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            return folder

    def reset_after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._guard = threading.RLock()


process_drafts = ProcessDrafts()
os.register_at_fork(after_in_child=process_drafts.reset_after_fork)


def _open_process_folder(root: Path) -> Path:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_left_behind(root, time.time())
    folder = root / f"{os.getpid()}-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    # Held until the process ends, in whatever way; never closed on purpose.
    fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    weakref.finalize(process_drafts, _remove_if_own, folder, os.getpid())
    return folder


def _remove_if_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind(root: Path, now_unix_s: float) -> None:
    for folder in root.iterdir():
        with contextlib.suppress(OSError):
            if now_unix_s - folder.stat().st_mtime < _YOUNG_S:
                continue
            fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)


class Staging:
    """One draft's copies. Thread-safe. Made when first needed; removed with the object unless moved."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._guard = threading.RLock()
        self._folder: Path | None = None
        self._remover: weakref.finalize[..., Staging] | None = None
        self._count = 0

    @property
    def folder(self) -> Path:
        """The folder; made now if it was not. OSError when it can't be."""
        with self._guard:
            if self._folder is None:
                self._folder = process_drafts.folder(self._home)
                self._remover = weakref.finalize(self, _remove_if_own, self._folder, os.getpid())
            return self._folder

    @property
    def is_used(self) -> bool:
        """Whether anything was copied."""
        return self._folder is not None

    def keep(self, path: str) -> tuple[Summed, str | None]:
        """Copy a file, as it is now.

        Returns:
            Its sums, and where the copy is; None: there is no space for one, and the sums are those of the
            file itself, which must not change until it is uploaded.

        Raises:
            OSError: The file can't be read.
        """
        source = open_to_read(path)
        try:
            before = os.fstat(source)
            try:
                kept = self._copy(source)
            except OSError as error:
                terminal.warn_at_most_every(
                    60.0,
                    "staging",
                    f"no copy of {path} can be kept ({error}): it must not change until it is uploaded",
                )
                return sum_file(source), None
            after = os.fstat(source)
            if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                terminal.warn(f"{path} changed while it was added to an artifact: what was read is kept")
            return kept
        finally:
            os.close(source)

    def _copy(self, source: int) -> tuple[Summed, str]:
        unfinished = self.new_path()
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            summed = copy_summed(source, fd)
            return summed, self._name(unfinished, summed.sha256)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)  # noqa: PTH108  # one of very many
            raise
        finally:
            os.close(fd)

    def new_path(self) -> str:
        """Return a new path in the folder for a file that is being written."""
        folder = self.folder
        with self._guard:
            self._count += 1
            return f"{folder}/.{self._count}"

    def take(self, path: str) -> tuple[Summed, str]:
        """Take a file that was written under `new_path`; returns as `keep` does."""
        fd = open_to_read(path)
        try:
            summed = sum_file(fd)
        finally:
            os.close(fd)
        return summed, self._name(path, summed.sha256)

    def _name(self, unfinished: str, sha256: str) -> str:
        place = f"{self.folder}/{sha256}"
        os.rename(unfinished, place)  # noqa: PTH104  # one of very many; over an equal one
        return place

    def move(self, target: Path) -> str | None:
        """Give the folder to somebody else, as `target`; return the path it had, None if nothing was copied.

        Raises:
            OSError: It can't be moved; it is where it was.
        """
        with self._guard:
            if self._folder is None:
                return None
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(self._folder, target)
            if self._remover is not None:
                self._remover.detach()
            moved, self._folder, self._remover = str(self._folder), None, None
            return moved
