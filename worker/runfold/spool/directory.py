"""Directories of writers: made whole or not at all, owned by one user, found by name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from runfold.protocol.failpoints import hit
from runfold.protocol.limits import WRITER_ID_BYTES
from runfold.spool.errors import SpoolUnavailableError
from runfold.spool.filesystem import can_append_by_mmap
from runfold.spool.format import HEADER_NAME, IDENTITY_NAME, FixedHeader, open_private, parse_segment_name
from runfold.spool.header import WriterHeader
from runfold.spool.limits import SpoolLimits
from runfold.spool.segment import write_whole

_TEMPORARY_PREFIX = ".new-"


def make_target(spool_root: Path, target: str) -> Path:
    """Return the directory of a target, made when missing.

    Raises:
        SpoolUnavailableError: It cannot be made, is a link, or belongs to somebody else.
    """
    directory = spool_root / target
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise SpoolUnavailableError(error.errno, f"no spool in {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SpoolUnavailableError(1, f"{directory} is not a directory of this user")
    return directory


def make_writer(
    target: Path, fixed: FixedHeader, identity: bytes, limits: SpoolLimits
) -> tuple[Path, WriterHeader, bool]:
    """Make the directory of a writer under a temporary name; `publish_writer` shows it to readers.

    Returns:
        The directory, its open header, and whether its segments are mapped.

    Raises:
        SpoolUnavailableError: No space, no permission, no such file system.
    """
    directory = target / f"{_TEMPORARY_PREFIX}{fixed.writer.hex()}"
    try:
        directory.mkdir(mode=0o700)
        hit("spool.directory_made")
        mapped = limits.mode == "mmap" or (limits.mode == "auto" and can_append_by_mmap(directory))
        fd = open_private(directory / IDENTITY_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_whole(fd, identity, 0)
        finally:
            os.close(fd)
        hit("spool.identity_written")
        return directory, WriterHeader(directory / HEADER_NAME, fixed, mapped=mapped), mapped
    except OSError as error:
        remove_tree(directory)
        raise SpoolUnavailableError(error.errno, f"no spool in {target}: {error.strerror}") from error


def publish_writer(directory: Path) -> Path:
    """Give a writer's directory its name; whatever it holds becomes visible at once."""
    final = directory.with_name(directory.name.removeprefix(_TEMPORARY_PREFIX))
    hit("spool.before_publish")
    directory.rename(final)
    hit("spool.after_publish")
    return final


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that it holds, as far as possible."""
    # Imported when needed: it brings the compressors along, which every training process would pay for.
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


def list_writers(target_dir: Path) -> list[Path]:
    """Return the directories of the writers under `target_dir`, by name; none when it does not exist."""
    try:
        found = [entry.name for entry in os.scandir(target_dir) if _is_writer(entry)]
    except OSError:
        return []
    return [target_dir / name for name in sorted(found)]


def _is_writer(entry: os.DirEntry[str]) -> bool:
    try:
        writer = bytes.fromhex(entry.name)
    except ValueError:
        return False
    return (
        len(writer) == WRITER_ID_BYTES and writer.hex() == entry.name and entry.is_dir(follow_symlinks=False)
    )


def segment_sizes(directory: Path) -> dict[int, tuple[int, float]]:
    """Return size in bytes and time of the last change (unix s) of each segment, by first seq, ascending."""
    found: dict[int, tuple[int, float]] = {}
    # Not scandir: a signal handler that raises in a log() call would leave its iterator open.
    for name in os.listdir(directory):  # noqa: PTH208
        first_seq = parse_segment_name(name)
        if first_seq is None:
            continue
        try:
            about = os.lstat(directory / name)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(about.st_mode):
            found[first_seq] = (about.st_size, about.st_mtime)
    return dict(sorted(found.items()))
