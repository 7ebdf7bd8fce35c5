"""What `Run.save` means by its arguments, and how a file gets into the run's folder. In: a glob. Out: places.

Rules, words and order of the checks are W&B's.
"""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from runfold import terminal

_POLICIES = ("live", "end", "now")
_CLOUD = ("gs://", "s3://")


How = Literal["link", "copy", "folder"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be saved: absolute, and how much of it is left out of the names."""

    glob: PurePath
    base: PurePath
    is_literal: bool

    @property
    def relative(self) -> str:
        """The glob below the base."""
        text = str(self.glob.relative_to(self.base))
        return globbing.escape(text) if self.is_literal else text


@dataclass(frozen=True, slots=True)
class Placed:
    """A file in the run's folder.

    Attributes:
        link: Where it is to be seen there, absolute.
        source: What is to be uploaded, absolute.
        how: "link": a change of the source is a change of it; "copy": the source may change as it likes;
            "folder": nothing to upload.
    """

    link: Path
    source: Path
    how: How


def choose(glob_str: Any, base_path: Any, policy: Any, *, is_glob: bool) -> Chosen | None:
    """Return what the arguments of `save` mean; None: an address in a cloud, nothing of ours.

    Raises:
        ValueError: The policy is none, or the glob leaves its base.
        TypeError: Something that is no path.
    """
    glob_str, base_path = _text(glob_str), _text(base_path)
    if isinstance(glob_str, str) and glob_str.startswith(_CLOUD):
        terminal.info(f"{glob_str} is a cloud storage url, can't save file to runfold.")
        return None
    path = PurePath(glob_str)
    absolute = PurePath(os.path.abspath(path))  # noqa: PTH100  # a glob is no path: ".." goes, links stay
    if base_path is not None:
        base = PurePath(base_path)
    elif path.is_absolute():
        terminal.warn_once(
            "Saving files without folders. If you want to preserve subdirectories pass base_path to save, "
            'i.e. save("/mnt/folder/file.h5", base_path="/mnt")'
        )
        base = absolute.parent.parent
    else:
        base = PurePath()
    if policy not in _POLICIES:
        raise ValueError('Only "live", "end" and "now" policies are currently supported.')
    return _checked(Chosen(absolute, PurePath(os.path.abspath(base)), not is_glob))  # noqa: PTH100  # as above


def place(chosen: Chosen, folder: Path) -> Iterator[Placed]:
    """Put what matches into the run's folder, and yield it and what matches there already.

    A symbolic link, else a hard link, else a copy. Of folders there is a link only: their files have to be
    named.
    """
    done: set[Path] = set()
    for text in sorted(globbing.glob(str(_escaped(chosen) / chosen.relative))):  # noqa: PTH207  # the base too
        source = Path(text).absolute()
        link = folder.joinpath(*source.parts[len(chosen.base.parts) :])
        done.add(link)
        try:
            how = _place_one(source, link)
        except OSError as error:
            terminal.warn(f"{source} was not saved, it can't be linked or copied to {link}: {error}")
            continue
        yield Placed(link, link if how == "copy" else source, how)
    # Here "**" means folders of any depth, as in W&B; not pathlib's glob, which refuses some of those above.
    there = str(Path(globbing.escape(str(folder))) / chosen.relative)
    for link in sorted(map(Path, globbing.glob(there, recursive=True))):  # noqa: PTH207  # as above
        if link not in done:
            yield Placed(link, link, "folder" if link.is_dir() else "link")


def _place_one(source: Path, link: Path) -> How:
    how: How = "link"
    if source.is_dir():
        terminal.warn_once(f"{source} is a folder and was not saved: name its files, as in {source}/*")
        how = "folder"
    if source.resolve() == link.resolve():
        return how
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    for attempt in (link.symlink_to, link.hardlink_to):
        try:
            attempt(source)
        except OSError:  # a file system without links, or across two
            continue
        return how
    if how == "link":
        copy_file(source, link)
        how = "copy"
    return how


def copy_file(source: Path, link: Path) -> None:
    """Copy content and times."""
    # Imported when needed: it brings the compressors along, which every training process would pay for.
    import shutil

    shutil.copy2(source, link)


def _checked(chosen: Chosen) -> Chosen:
    if not chosen.glob.is_relative_to(chosen.base):
        raise ValueError("Glob may not walk above the base path")
    if chosen.glob == chosen.base:
        raise ValueError("Glob cannot be the same as the base path")
    if not chosen.is_literal and chosen.glob.relative_to(chosen.base).parts[0] == "*":
        raise ValueError("Glob may not start with '*' relative to the base path")
    return chosen


def _escaped(chosen: Chosen) -> Path:
    return Path(globbing.escape(str(chosen.base))) if chosen.is_literal else Path(chosen.base)


def _text(value: Any) -> Any:
    return os.fsdecode(value) if isinstance(value, bytes) else value
