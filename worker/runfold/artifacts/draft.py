"""Draft: contents of an artifact while it is made: names, digests, and where the bytes are until uploaded."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path, PurePosixPath

from runfold.artifacts.staging import Staging
from runfold.file_copies import Summed, sum_path
from runfold.parallel import in_parallel
from runfold.protocol.file_names import FileNameError, check_file_name
from runfold.protocol.manifest import MAX_ENTRIES, Entry, Manifest

POLICIES = ("mutable", "immutable")


class Draft:
    """Files by name, and the source of each content. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self.entries: dict[str, Entry] = {}
        self.staging = Staging(home)
        #: SHA-256 -> path of the bytes; "" for what lies under its digest in the staging folder.
        self._sources: dict[str, str] = {}
        #: Path that was added, as it was given -> name.
        self._names: dict[str, str] = {}
        self._guard = threading.RLock()

    def add_file(self, path: str, name: str, *, policy: str, overwrite: bool) -> None:
        """Take a file in: a copy of it as it is now, or (immutable) the promise that it stays.

        Raises:
            ValueError: The name is taken by other content, or no file may have it. OSError: It can't be read.
        """
        check_path(name)
        if policy == "mutable":
            summed, kept = self.staging.keep(path)
            source = path if kept is None else ""
        else:
            summed = sum_path(path)
            source = path
        self._put(name, _entry(summed), overwrite=overwrite)
        with self._guard:
            if source == "" or summed.sha256 not in self._sources:
                self._sources[summed.sha256] = os.path.abspath(source) if source else ""  # noqa: PTH100  # one of many
            self._names[path] = name

    def add_dir(self, root: str, prefix: str | None, *, policy: str, overwrite: bool) -> None:
        """Take in all files below a folder, several at once; raises as `add_file` does."""

        def add(file: tuple[str, str]) -> None:
            path, below = file
            name = str(PurePosixPath(prefix, below)) if prefix else below
            self.add_file(path, name, policy=policy, overwrite=overwrite)

        files = files_below(root)
        if files:
            check_policy(policy)
        in_parallel(add, files)

    def add_written(self, path: str, name: str, *, overwrite: bool) -> None:
        """Take a file that was written under `staging.new_path`."""
        check_path(name)
        summed, _ = self.staging.take(path)
        self._put(name, _entry(summed), overwrite=overwrite)
        with self._guard:
            self._sources[summed.sha256] = ""

    def add_entry(
        self, name: str, entry: Entry, *, source: str | None = None, overwrite: bool = False
    ) -> None:
        """Take a reference, or content that the server has or gets: then `source` is None."""
        check_path(name)
        self._put(name, entry, overwrite=overwrite)
        if source is not None and entry.ref is None:
            with self._guard:
                self._sources.setdefault(entry.blob, source)

    def remove(self, item: str) -> None:
        """Remove a file, or all files of a folder. FileNotFoundError if there is none."""
        path = str(PurePosixPath(item))
        with self._guard:
            if self.entries.pop(path, None) is not None:
                return
            below = [name for name in self.entries if name.startswith(path + "/")]
            if not below:
                raise FileNotFoundError(f"No such file or directory: {path}")
            for name in below:
                del self.entries[name]

    def name_of(self, path: str) -> str | None:
        """Return the name under which a local file was added, None if it was not."""
        return self._names.get(path)

    def source_of(self, sha256: str) -> str | None:
        """Return the path of a content's bytes, None where this process has none."""
        found = self._sources.get(sha256)
        return f"{self.staging.folder}/{sha256}" if found == "" else found

    @property
    def manifest(self) -> Manifest:
        """The manifest of what is there now."""
        return Manifest(self.entries)

    def write_job(self, folder: Path) -> tuple[Path, Path]:
        """Move the copies into `folder`, with a manifest and a list of sources beside; return these two.

        Raises:
            OSError: The disk is full, or the like.
        """
        files = folder / "files"
        self.staging.move(files)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        used = self.manifest.blobs
        with self._guard:
            self._sources = {
                digest: source or f"{files}/{digest}" for digest, source in self._sources.items()
            }
            sources = {digest: path for digest, path in self._sources.items() if digest in used}
        manifest, listed = folder / "manifest.json", folder / "sources.json"
        manifest.write_bytes(self.manifest.pack())
        listed.write_text(json.dumps(sources))
        return manifest, listed

    def _put(self, name: str, entry: Entry, *, overwrite: bool) -> None:
        with self._guard:
            there = self.entries.get(name)
            if there is not None and not overwrite and not _is_same(there, entry):
                raise ValueError(f"Cannot add the same path twice: {name!r}")
            if there is None and len(self.entries) >= MAX_ENTRIES:
                raise ValueError(f"an artifact has at most {MAX_ENTRIES:,} files")
            self.entries[name] = entry


def check_path(name: str) -> str:
    """Return the name of a file in an artifact. ValueError, in W&B's words, where it can be none."""
    try:
        return check_file_name(name)
    except FileNameError as error:
        why = error.complaint
        # What W&B refuses, in its words. It takes names that some systems can't keep, or show as others.
        is_elsewhere = why.startswith(("it is absolute", "it is empty", "a part of it is '"))
        said = f"Invalid artifact path: {name!r}" + ("" if is_elsewhere else f": {why}")
        raise ValueError(said) from None


def check_policy(policy: str | None) -> None:
    """Raise ValueError, in W&B's words, for what is no policy."""
    if policy is not None and policy not in POLICIES:
        raise ValueError(f"Invalid policy {policy!r}. Policy may only be `mutable` or `immutable`.")


def _entry(summed: Summed) -> Entry:
    return Entry(summed.md5, summed.size, sha256=summed.sha256)


def _is_same(one: Entry, other: Entry) -> bool:
    """Say whether one name may stand for both, as W&B has it: a file and a reference to it are the same."""
    is_known = one.sha256 is not None and other.sha256 is not None
    return one.digest == other.digest and (not is_known or one.sha256 == other.sha256)


def files_below(root: str, *, follow_folders: bool = True) -> list[tuple[str, str]]:
    """Return (path, name below `root`) of all files, links followed as W&B follows them, in order of names.

    Args:
        follow_folders: Whether to go into folders that are links; links to files are followed in any case.

    Raises:
        OSError: The folder can't be read.
    """
    found: list[tuple[str, str]] = []
    pending: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(root, "", ())]
    while pending:
        folder, below, above = pending.pop()
        about = os.stat(folder)  # noqa: PTH116  # one of many
        here = (about.st_dev, about.st_ino)
        if here in above:
            continue  # a link to a folder that it lies in
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=follow_folders):
                    pending.append((entry.path, f"{below}{entry.name}/", (*above, here)))
                elif entry.is_file():  # sockets, pipes and dangling links are none
                    found.append((entry.path, below + entry.name))
    return sorted(found, key=lambda pair: pair[1])
