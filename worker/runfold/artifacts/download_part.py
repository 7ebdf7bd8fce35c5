"""DownloadPart: the contents of a version become files, and are compared with files. Part of Artifact."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from runfold import terminal
from runfold.artifacts.facts_part import FactsPart
from runfold.artifacts.objects_part import ObjectsPart
from runfold.artifacts.references import fetch
from runfold.blob_cache import BlobCache
from runfold.downloads import Wanted, download
from runfold.errors import Error
from runfold.file_copies import hash_path
from runfold.parallel import in_parallel
from runfold.protocol.manifest import Entry
from runfold.settings import process_environment
from runfold.target_folder import PART_SUFFIX, TargetFolder


class DownloadPart(ObjectsPart, FactsPart):
    """Every file is verified by its digest before it is in its place."""

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        allow_missing_references: bool = False,
        skip_cache: bool | None = None,
        path_prefix: str | os.PathLike[str] | None = None,
        multipart: bool | None = None,  # noqa: ARG002  # W&B's signature: pieces are gone on with in any case
    ) -> str:
        """Download the version's files, and return the folder.

        What is there already with the right content stays; other files in the folder are left alone.

        Args:
            root: The folder; None: "<name>:<version>" in RUNFOLD_ARTIFACT_DIR, "artifacts" by default.
            allow_missing_references: Leave out references that can't be had, with a warning.
            skip_cache: Neither read nor fill the cache of this machine.
            path_prefix: Only files whose names begin with this.

        Raises:
            ArtifactNotLoggedError: It is no version yet.
            ValueError: A name can't be written there, or a reference can't be had, or has changed.
            CommError: The server can't be reached, or sends something else.
        """
        self._version("download")
        prefix = os.fspath(path_prefix) if path_prefix is not None else ""
        entries = {name: entry for name, entry in self._manifest.entries.items() if name.startswith(prefix)}
        return self._download_entries(
            entries, root, skip_cache=skip_cache, allow_missing_references=allow_missing_references
        )

    def checkout(self, root: str | os.PathLike[str] | None = None) -> str:
        """Make a folder hold the version's files and nothing else, and return it. Other files are deleted.

        Raises:
            As `download` does; then nothing was deleted.
        """
        self._version("checkout")
        folder = self._download_entries(self._manifest.entries, root)
        for path in _files_in(folder):
            if os.path.relpath(path, folder) not in self._manifest.entries:
                path.unlink()
        return folder

    def verify(self, root: str | os.PathLike[str] | None = None) -> None:
        """Compare a folder with the version: every file by its digest, and no file more.

        Args:
            root: As of `download`.

        Raises:
            ArtifactNotLoggedError: It is no version yet. ValueError: A file is missing, other, or too many.
        """
        self._version("verify")
        folder, entries = self._folder(root), self._manifest.entries
        for path in _files_in(folder):
            is_unfinished = path.name.endswith(PART_SUFFIX)
            if not is_unfinished and os.path.relpath(path, folder) not in entries:
                raise ValueError(f"Found file {path} which is not a member of artifact {self.name}")
        files = {name: entry for name, entry in entries.items() if entry.ref is None}
        in_parallel(lambda file: _verify(folder, *file), files.items())
        if len(files) < len(entries):
            terminal.warn(f"skipped verification of {len(entries) - len(files)} refs")

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Download the only file of the version, and return where it is.

        Raises:
            ValueError: There are several. As `download` does.
        """
        self._version("file")
        names = list(self._manifest.entries)
        if len(names) != 1:
            raise ValueError(
                "This artifact contains more than one file, call `.download()` to get all files or call "
                '.get_entry("filename").download()'
            )
        return self._entry(names[0]).download(root)

    def _download_entries(
        self,
        entries: Mapping[str, Entry],
        root: str | os.PathLike[str] | None,
        *,
        skip_cache: bool | None = None,
        allow_missing_references: bool = False,
    ) -> str:
        self._version("download")
        folder = self._folder(root)
        target = TargetFolder(Path(folder))
        target.check_names(entries)
        wanted = [
            Wanted(name, entry.blob, entry.size or 0) for name, entry in entries.items() if entry.ref is None
        ]
        cache = None if skip_cache else BlobCache.from_env(process_environment())
        download(self._server(), wanted, target.root, cache=cache, label=f"downloading {self.name}")
        references = {name: entry for name, entry in entries.items() if entry.ref is not None}
        in_parallel(
            lambda each: _dereference(target, *each, may_fail=allow_missing_references), references.items()
        )
        return folder

    def _folder(self, root: str | os.PathLike[str] | None) -> str:
        if root is not None:
            return os.fspath(root)
        environ = process_environment()
        base = environ.get("RUNFOLD_ARTIFACT_DIR") or environ.get("WANDB_ARTIFACT_DIR") or "./artifacts"
        return os.path.join(os.path.abspath(os.path.expanduser(base)), self.name)  # noqa: PTH100, PTH111, PTH118  # as W&B


def _dereference(target: TargetFolder, name: str, entry: Entry, *, may_fail: bool) -> None:
    def fill(fd: int) -> None:
        os.ftruncate(fd, 0)
        fetch(entry, fd)

    try:
        target.write(name, f"{entry.ref}\0{entry.digest}", fill, keeps_part=False)
    except (OSError, ValueError, Error) as error:
        if may_fail:
            terminal.warn(f"Failed to download reference {name!r}: {error}")
        elif isinstance(error, OSError):
            raise ValueError(f"the reference {name!r} to {entry.ref} can't be had: {error}") from error
        else:
            raise


def _verify(folder: str, name: str, entry: Entry) -> None:
    try:
        found = hash_path(os.path.join(folder, name))[0]  # noqa: PTH118  # one of many
    except OSError as error:
        raise ValueError(f"File is missing: {name} ({error})") from error
    if found != entry.sha256:
        raise ValueError(f"Digest mismatch for file: {name}")


def _files_in(folder: str) -> list[Path]:
    found: list[Path] = []
    pending = [folder]
    while pending:
        # A folder that goes meanwhile takes no other one with it.
        with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    found.append(Path(entry.path))
    return found
