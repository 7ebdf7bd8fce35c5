"""TargetFolder: where downloads are written. Names come from others, and what lies there may be a trap.

Every folder on the way is opened without following symbolic links (as openat2's RESOLVE_BENEATH would), so
no name and no link leads out of the root. A file appears whole: written beside its place, then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from runfold.errors import Error
from runfold.file_copies import hash_file
from runfold.protocol.file_names import fold
from runfold.safe_path import safe_path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: How names of unfinished files end.
PART_SUFFIX = ".runfold-part"


class TargetError(Error, ValueError):
    """A file can't be written where it would have to be."""


class TargetFolder:
    """A folder that files are written below. Thread-safe; several processes may write into one."""

    def __init__(self, root: Path) -> None:
        """Make the folder. That the root itself is a link is its owner's business."""
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        #: Names that were checked: the check costs more than the rest of a small file.
        self._checked: set[str] = set()

    def path(self, name: str) -> Path:
        """Return where the file of this name goes; FileNameError if it means another place."""
        return safe_path(self.root, name)

    def check_names(self, names: Iterable[str], *, ignores_case: bool | None = None) -> None:
        """Refuse names that can't all be files here.

        Args:
            ignores_case: Whether the file system does; None: it is tried out.

        Raises:
            FileNameError: A name means another place. TargetError: Two names would be one file here, or one
                would be the folder of another.
        """
        known = set()
        for name in names:
            self.path(name)
            known.add(name)
        self._checked |= known
        for name in known:
            folder = name.rpartition("/")[0]
            while folder:
                if folder in known:
                    raise TargetError(f"{folder!r} can't be a file and the folder of {name!r}")
                folder = folder.rpartition("/")[0]
        if ignores_case if ignores_case is not None else self.ignores_case():
            self._check_folds(known)

    def ignores_case(self) -> bool:
        """Say whether "a" and "A" are one file here: tried out."""
        name = f".runfold-case-{secrets.token_hex(8)}"
        try:
            os.close(os.open(self.root / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError:
            return False  # nothing can be written here: what follows will say so
        try:
            return (self.root / name.upper()).exists()
        finally:
            (self.root / name).unlink(missing_ok=True)

    def holds(self, name: str, sha256: str, size: int) -> bool:
        """Say whether the file is there already, with this content.

        Raises:
            TargetError: Something on its way is a symbolic link, or no folder.
        """
        with self._folder_of(name, make=False) as (folder, last):
            if folder is None:
                return False
            try:
                fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise self._trap(name) from error
                return False
            try:
                found = os.fstat(fd)
                return stat.S_ISREG(found.st_mode) and found.st_size == size and hash_file(fd)[0] == sha256
            finally:
                os.close(fd)

    def write(self, name: str, key: str, fill: Callable[[int], None], *, keeps_part: bool = True) -> Path:
        """Have `fill` write a file, and put it into its place when it returns. Return the place.

        Args:
            key: What the content is known by: an attempt that was cut off is gone on with under the same one.
            fill: Gets a descriptor of a file with what an earlier attempt left, opened to read and write,
                offset 0. When it raises, what it wrote stays for the next attempt.
            keeps_part: False: it does not stay.

        Raises:
            TargetError: Something on its way is a symbolic link, or no folder. OSError: It can't be written.
        """
        with self._folder_of(name, make=True) as (folder, last):
            assert folder is not None, "it was made"
            self._check_place(folder, last, name)
            part = "." + hashlib.sha256(f"{key}\0{last}".encode()).hexdigest()[:32] + PART_SUFFIX
            with locked_part(part, folder) as fd:
                try:
                    fill(fd)
                except BaseException:
                    if not keeps_part:
                        os.unlink(part, dir_fd=folder)
                    raise
                os.rename(part, last, src_dir_fd=folder, dst_dir_fd=folder)
        return self.root / name

    def _check_place(self, folder: int, last: str, name: str) -> None:
        try:
            mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise self._trap(name)
        if not stat.S_ISREG(mode):
            raise TargetError(f"{self.path(name)} is in the way: it is no file")

    @contextlib.contextmanager
    def _folder_of(self, name: str, *, make: bool) -> Iterator[tuple[int | None, str]]:
        """Yield a descriptor of the folder of a file (None: there is none), and its name in it."""
        if name not in self._checked:
            self.path(name)
            self._checked.add(name)
        *parts, last = name.split("/")
        fd = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                below = self._enter(fd, part, name, make=make)
                if below is None:
                    yield None, last
                    return
                os.close(fd)
                fd = below
            yield fd, last
        finally:
            os.close(fd)

    def _enter(self, folder: int, part: str, name: str, *, make: bool) -> int | None:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o777, dir_fd=folder)
        try:
            return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._trap(name) from error
            raise

    def _trap(self, name: str) -> TargetError:
        return TargetError(
            f"{name!r} is not written to {self.root}: a symbolic link, or no folder, lies on its way. "
            "Remove it, or download into another folder"
        )

    def _check_folds(self, names: set[str]) -> None:
        groups = defaultdict(set)
        for name in names:
            parts = name.split("/")
            for depth in range(1, len(parts) + 1):
                place = "/".join(parts[:depth])
                groups[fold(place)].add(place)
        for same in groups.values():
            if len(same) > 1:
                one, other = sorted(same)[:2]
                raise TargetError(
                    f"{one!r} and {other!r} would be one file in {self.root}, which ignores case"
                )


@contextlib.contextmanager
def locked_part(name: str | Path, folder: int | None = None) -> Iterator[int]:
    """Yield a descriptor of an unfinished file, made if need be, that nobody else writes meanwhile.

    Whoever is in the middle of it is waited for; one that was killed is not in the middle any more. Where the
    file system has no locks, who comes second writes over the first, to the same bytes.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o666, dir_fd=folder)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_ours(name, fd, folder):
                yield fd
                return
        finally:
            os.close(fd)


def _is_ours(name: str | Path, fd: int, folder: int | None) -> bool:
    """Say whether the name means this file, and only it: who held the lock before may have renamed it."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.unlink(name, dir_fd=folder)  # somebody's trap: another file would be written through it
        return False
    return os.path.samestat(found, os.fstat(fd))
