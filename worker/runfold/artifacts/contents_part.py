"""ContentsPart: what goes into an artifact, and what is in it. Part of Artifact."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from runfold import terminal
from runfold.artifacts.draft import check_path, check_policy
from runfold.artifacts.entries import ArtifactManifest, ArtifactManifestEntry
from runfold.artifacts.references import refer
from runfold.artifacts.version_state import VersionState
from runfold.downloads import read_content
from runfold.protocol.manifest import MAX_MANIFEST_BYTES, MAX_REFERENCE_BYTES, Entry, Manifest
from runfold.redact import redact_text


class ContentsPart(VersionState):
    """Files and references by name. What was added does not change any more, whatever happens to the file."""

    @contextlib.contextmanager
    def new_file(
        self,
        name: str,
        mode: str = "x",
        encoding: str | None = None,
        policy: str = "mutable",
    ) -> Iterator[IO[Any]]:
        """Open a new file that is added when the `with` block ends, unless by an exception.

        Args:
            name: In the artifact.
            mode: As of open(): "x" (must be new), "w", "a", with "b" for bytes.
            policy: Accepted; what was written is the artifact's own in any case.

        Raises:
            ArtifactFinalizedError: It was logged. ValueError: There is a file of this name, and mode has "x".
        """
        draft = self._contents("new_file")
        name = check_path(name)
        check_policy(policy)
        there = draft.entries.get(name)
        path = draft.staging.new_path()
        if there is not None and "x" in mode:
            raise ValueError(f"File with name {name!r} already exists at {path!r}")
        if there is not None and not set(mode).isdisjoint("ar+"):
            source = draft.source_of(there.blob) if there.ref is None else None
            if source is not None:
                shutil.copyfile(source, path)
        try:
            with open(path, mode, encoding=encoding) as file:
                yield file
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
        draft.add_written(path, name, overwrite="x" not in mode)

    def add_file(  # noqa: PLR0917  # W&B's signature
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        is_tmp: bool | None = False,
        skip_cache: bool | None = False,
        policy: str | None = "mutable",
        overwrite: bool = False,
    ) -> ArtifactManifestEntry:
        """Add a file as it is now.

        Args:
            name: In the artifact; None: the file's own.
            is_tmp: Put a part of the digest into the name, so that it is unique.
            skip_cache: Told of the entry; files that are uploaded go into no cache.
            policy: "mutable": a copy is kept until the upload (without cost where the file system shares
                blocks). "immutable": no copy; the file must stay as it is, and the upload checks that.
            overwrite: Replace a file of this name.

        Raises:
            ArtifactFinalizedError: It was logged.
            ValueError: `local_path` is no file, `name` is no name, or is taken by other content.
        """
        draft = self._contents("add_file")
        if not os.path.isfile(local_path):  # noqa: PTH113  # as W&B
            raise ValueError(f"Path is not a file: {local_path!r}")
        path = os.fspath(local_path)
        check_policy(policy)
        logical = _logical(name or os.path.basename(path))  # noqa: PTH119  # as W&B
        if is_tmp:
            logical = self._hashed_name(path, logical)
        _read(path, lambda: draft.add_file(path, logical, policy=policy or "mutable", overwrite=overwrite))
        entry = self._entry(logical)
        entry.skip_cache = bool(skip_cache)
        return entry

    def add_dir(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        skip_cache: bool | None = False,  # noqa: ARG002  # W&B's signature
        policy: str | None = "mutable",
        merge: bool = False,
    ) -> None:
        """Add all files below a folder, as they are now.

        Args:
            name: The folder in the artifact; None: its root.
            policy: As of `add_file`.
            merge: Replace files of the same names.

        Raises:
            ArtifactFinalizedError: It was logged. ValueError: As of `add_file`.
        """
        draft = self._contents("add_dir")
        if not os.path.isdir(local_path):  # noqa: PTH112  # as W&B
            raise ValueError(f"Path is not a directory: {local_path!r}")
        path = os.fspath(local_path)
        prefix = _logical(name) if name else None
        _read(path, lambda: draft.add_dir(path, prefix, policy=policy or "mutable", overwrite=merge))

    def add_reference(
        self,
        uri: ArtifactManifestEntry | str,
        name: str | os.PathLike[str] | None = None,
        checksum: bool = True,
        max_objects: int | None = None,
    ) -> Sequence[ArtifactManifestEntry]:
        """Point to content that stays where it is: file://, http(s)://, s3://, gs://, or another artifact.

        Of a folder or prefix, everything below. The server never opens a reference; who downloads does.

        Args:
            uri: Where; or an entry of another artifact, which shares its content.
            name: In the artifact.
            checksum: Look at the objects, so that a change is noticed; False: only remember where they are.
            max_objects: More of them are an error; None: 10 million.

        Raises:
            ArtifactFinalizedError: It was logged.
            ValueError: It is no URI, nothing is there, or a name is taken.
        """
        draft = self._contents("add_reference")
        logical = str(PurePosixPath(name)) if name is not None else None
        if isinstance(uri, ArtifactManifestEntry):
            added = logical or uri.path
            draft.add_entry(added, uri._entry, source=uri.local_path)  # noqa: SLF001  # the other half of one thing
            return [self._entry(added)]
        text = str(uri)
        if not urlsplit(text).scheme:
            raise ValueError("References must be URIs. To reference a local file, use file://")
        # Too many of them add none.
        found = [
            (_logical(each), entry)
            for each, entry in refer(text, logical, checksum=checksum, max_objects=max_objects)
        ]
        for each, entry in found:
            draft.add_entry(each, _without_secrets(entry))
        return [self._entry(each) for each, _ in found]

    def remove(self, item: str | os.PathLike[str] | ArtifactManifestEntry) -> None:
        """Remove a file, or all files of a folder.

        Raises:
            ArtifactFinalizedError: It was logged. FileNotFoundError: There is none.
        """
        draft = self._contents("remove")
        if not isinstance(item, ArtifactManifestEntry):
            draft.remove(os.fspath(item))
        elif item.path in draft.entries:
            draft.remove(item.path)
        else:
            raise FileNotFoundError(f"Cannot remove missing entry: {item.path!r}")

    def get_entry(self, name: str | os.PathLike[str]) -> ArtifactManifestEntry:
        """Return one file.

        Raises:
            ArtifactNotLoggedError: It is no version yet: see `manifest.entries`. KeyError: There is none.
        """
        self._version("get_entry")
        logical = _logical(os.fspath(name))
        if logical not in self._manifest.entries:
            raise KeyError(f"Path not contained in artifact: {logical}")
        return self._entry(logical)

    def get_path(self, name: str | os.PathLike[str]) -> ArtifactManifestEntry:
        """Return one file, under W&B's old name of `get_entry`."""
        terminal.warn_once("Artifact.get_path(name) is deprecated, use Artifact.get_entry(name) instead.")
        return self.get_entry(name)

    def get_added_local_path_name(self, local_path: str) -> str | None:
        """Return the name under which a local file was added here, None if it was not."""
        return self._draft.name_of(local_path) if self._draft is not None else None

    @property
    def manifest(self) -> ArtifactManifest:
        """All files and references by name."""
        manifest = self._manifest
        return ArtifactManifest(self, manifest.entries, self.digest, self._storage_region)  # type: ignore[arg-type]  # it is an Artifact

    @property
    def digest(self) -> str:
        """MD5 over names and digests, hex, as W&B's: equal for equal content."""
        if self._document is not None:
            return str(self._document["digest"])
        return self._manifest.digest

    @property
    def size(self) -> int:
        """Bytes of all files, and of the references that tell theirs."""
        if self._document is not None:
            return int(self._document["size"])
        return self._manifest.size

    @property
    def file_count(self) -> int:
        """Files and references. ArtifactNotLoggedError before it is a version: see `len(manifest)`."""
        return int(self._version("file_count")["count"])

    @property
    def _manifest(self) -> Manifest:
        if self._draft is not None:
            return self._draft.manifest
        if self._known_manifest is None:
            document = self._version("manifest")
            packed = read_content(self._server(), document["manifest"], limit_bytes=MAX_MANIFEST_BYTES)
            self._known_manifest = Manifest.unpack(packed)
        return self._known_manifest

    def _entry(self, name: str) -> ArtifactManifestEntry:
        return ArtifactManifestEntry(name, self._manifest.entries[name], self)  # type: ignore[arg-type]  # as above

    def _local_path(self, entry: Entry) -> str | None:
        if self._draft is None or entry.ref is not None:
            return None
        return self._draft.source_of(entry.blob)

    @staticmethod
    def _hashed_name(path: str, name: str) -> str:
        from runfold.file_copies import sum_path

        file = PurePosixPath(name)
        parts = file.name.split(".")
        parts[0] = base64.b64decode(sum_path(path).md5).hex()[:20]
        return str(file.with_name(".".join(parts)))


def _logical(name: str) -> str:
    """Return a name as artifacts have it: "/" between parts, no "./" before, no "/" behind."""
    return str(PurePosixPath(name)) if name else name


def _read(path: str, add: Any) -> None:
    """Add, with the system's refusal to read as a ValueError that names the path."""
    try:
        add()
    except OSError as error:
        raise ValueError(f"{path!r} can't be added: {error}") from error


def _without_secrets(entry: Entry) -> Entry:
    assert entry.ref is not None, "references only"
    if len(entry.ref.encode()) > MAX_REFERENCE_BYTES:
        raise ValueError(f"a reference is at most {MAX_REFERENCE_BYTES} bytes long: {entry.ref[:100]}...")
    shown = redact_text(entry.ref)
    if shown == entry.ref:
        return entry
    terminal.warn_once(f"credentials in a reference are not kept: {shown}")
    digest = shown if entry.digest == entry.ref else entry.digest
    return replace(entry, digest=digest, ref=shown)
