"""ArtifactFiles: the files of a version, a page at a time, and ArtifactFile, one of them."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from runfold.api.paths import route
from runfold.protocol.manifest import Entry

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact


class ArtifactFile:
    """One file of a version."""

    def __init__(self, artifact: Artifact, said: dict[str, Any]) -> None:
        self._artifact, self._said = artifact, said

    @property
    def name(self) -> str:
        """Its name in the artifact."""
        return str(self._said["name"])

    @property
    def size(self) -> int:
        """Bytes; 0 of a reference that does not tell."""
        return int(self._said["size"] or 0)

    @property
    def digest(self) -> str:
        """SHA-256 in hex; of a reference, whatever tells its versions apart."""
        return str(self._said["digest"])

    @property
    def ref(self) -> str | None:
        """Where a reference points; None for a file."""
        found = self._said["ref"]
        return None if found is None else str(found)

    @property
    def mimetype(self) -> str:
        """What it is, by its name."""
        return mimetypes.guess_type(self.name)[0] or "application/octet-stream"

    @property
    def updated_at(self) -> str:
        """When the version was made, ISO 8601, UTC."""
        return self._artifact.created_at

    @property
    def url(self) -> str:
        """Where it can be downloaded from; of a reference, where it points."""
        return self.ref or f"{self._artifact._server().url}/api/v1{route('blobs', self.digest)}"  # noqa: SLF001  # one thing

    direct_url = url

    @property
    def path_uri(self) -> str:
        """Where a reference points, "" for a file."""
        return self.ref or ""

    def download(
        self,
        root: str | os.PathLike[str] = ".",
        replace: bool = False,
        exist_ok: bool = False,
        api: Any = None,  # noqa: ARG002  # W&B's signature
    ) -> IO[str]:
        """Download it below `root`, and return it opened to read.

        Args:
            replace: Replace a file that is there. exist_ok: Open one that is there instead.

        Raises:
            ValueError: A file is there. As `Artifact.download` does.
        """
        place = Path(root, self.name)
        if place.exists() and not replace:
            if exist_ok:
                return place.open()
            raise ValueError(
                "File already exists, pass replace=True to overwrite or exist_ok=True to leave it as is"
            )
        entry = Entry(self.digest, self._said["size"], self.ref, self._said.get("extra") or {})
        self._artifact._download_entries({self.name: entry}, root)  # noqa: SLF001  # one thing
        return place.open()

    def __repr__(self) -> str:
        return f"<ArtifactFile {self.name} ({self.mimetype}) {self.size} bytes>"


class ArtifactFiles(Sequence[ArtifactFile]):
    """A lazy list by name: pages are fetched as they are reached. Not thread-safe."""

    def __init__(self, artifact: Artifact, names: list[str] | None, per_page: int) -> None:
        self._artifact = artifact
        self._names = list(names) if names is not None else None
        self._limit = max(1, min(int(per_page), 10_000))
        self._found: list[ArtifactFile] = []
        self._cursor: str | None = None
        self._is_whole = False

    def __len__(self) -> int:
        if self._names is None:
            return self._artifact.file_count
        self._load(None)
        return len(self._found)

    def __iter__(self) -> Iterator[ArtifactFile]:
        place = 0
        while self._load(place):
            yield self._found[place]
            place += 1

    @overload
    def __getitem__(self, place: int) -> ArtifactFile: ...
    @overload
    def __getitem__(self, place: slice) -> list[ArtifactFile]: ...
    def __getitem__(self, place: int | slice) -> ArtifactFile | list[ArtifactFile]:
        if isinstance(place, slice) or place < 0:
            self._load(None)
            return self._found[place]
        if not self._load(place):
            raise IndexError(f"there are {len(self._found)} files")
        return self._found[place]

    def __repr__(self) -> str:
        return f"<ArtifactFiles {self._artifact.name} ({len(self)})>"

    def _load(self, place: int | None) -> bool:
        """Fetch pages up to a place, None: all; say whether there is a file at it."""
        while not self._is_whole and (place is None or place >= len(self._found)):
            document = self._artifact._version("files")  # noqa: SLF001  # one thing
            answer = self._artifact._server().get(  # noqa: SLF001  # same
                route("artifacts", document["id"], "files"),
                {"names": self._names, "limit": self._limit, "cursor": self._cursor},
            )
            self._found += [ArtifactFile(self._artifact, each) for each in answer["files"]]
            self._cursor = answer["next_cursor"]
            self._is_whole = self._cursor is None
        return place is not None and place < len(self._found)
