"""Where encoded media wait until they are logged: a folder of this process that goes with it.

A process that was killed leaves its folder behind; the next one that makes its own removes it: a folder whose
lock can be taken has no owner.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import sys
import threading
from pathlib import Path
from typing import Any

from runfold.settings import process_environment

_PREFIX = "runfold-media-"


class TemporaryFolder:
    """Made when first needed; a fork's child has one of its own. Thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may log too
        self._folder: Path | None = None
        self._pid = os.getpid()
        self._folder_fd = -1
        self._count = 0

    def new_path(self, suffix: str) -> Path:
        """Return where to write a new file; OSError when there is no place for it."""
        if self._pid != os.getpid():
            # The parent's descriptor stays open here, and with it the lock that both share.
            self._begin()
        with self._lock:
            if self._folder is None or not self._folder.exists():
                self._folder = self._make()
                _remove_at_end_of_child(self)
            self._count += 1
            return self._folder / f"{self._count}{suffix}"

    def prepare(self) -> None:
        """Make it here and now, with the imports that this takes. OSError: there is no place for it."""
        self.new_path("")

    def owns(self, path: Path) -> bool:
        """Return whether a file lies in the folder of this very process."""
        return self._pid == os.getpid() and path.parent == self._folder

    def remove(self) -> None:
        """Remove the folder with everything in it, at exit. A fork's child leaves its parent's alone."""
        if self._folder is not None and self._pid == os.getpid():
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self) -> Path:
        import tempfile

        root = _root()
        _remove_ownerless(root)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # file systems without locks: nobody can remove it either
                fcntl.flock(self._folder_fd, fcntl.LOCK_SH)
            if folder.exists():  # else another process took it for ownerless before it was locked
                return folder
            os.close(self._folder_fd)


def _remove_at_end_of_child(folder: TemporaryFolder) -> None:
    """Have it removed at the end of a multiprocessing child, which leaves past atexit, after its runs."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, folder.remove, exitpriority=-100)


def _root() -> Path:
    """Return a folder beside the spools, where a hard link brings a file to the outbox; else the system's."""
    import tempfile

    home = Path(process_environment().get("RUNFOLD_DIR") or "~/.runfold").expanduser().absolute() / "media"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return home if os.access(home, os.W_OK) else Path(tempfile.gettempdir())


def _remove_ownerless(root: Path) -> None:
    import shutil

    for folder in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)


temporary = TemporaryFolder()
# Now, with `import runfold`: what is registered first is run last, after runs have said all of their media.
atexit.register(temporary.remove)
