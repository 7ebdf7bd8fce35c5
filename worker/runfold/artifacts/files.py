"""ArtifactFiles: the files of a version, a page at a time, and ArtifactFile, one of them."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runfold.api.pages import Pages
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
        """MD5 in base64, as W&B; of a reference, whatever tells its versions apart."""
        return str(self._said["digest"])

    @property
    def md5(self) -> str:
        """The same as `digest`, W&B's other word."""
        return self.digest

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
        return self.ref or f"{self._artifact._server().url}/api/v1{route('blobs', self._entry.blob)}"  # noqa: SLF001  # one thing

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
        self._artifact._download_entries({self.name: self._entry}, root)  # noqa: SLF001  # one thing
        return place.open()

    @property
    def _entry(self) -> Entry:
        return Entry.from_map(self._said)

    def __repr__(self) -> str:
        return f"<ArtifactFile {self.name} ({self.mimetype}) {self.size} bytes>"


class ArtifactFiles(Pages[ArtifactFile]):
    """The files of a version by name, a lazy list. Not thread-safe."""

    def __init__(self, artifact: Artifact, names: list[str] | None, per_page: int) -> None:
        self._artifact = artifact
        self._is_all = names is None
        super().__init__(
            artifact._server(),  # noqa: SLF001  # one thing
            artifact._route("files"),  # noqa: SLF001  # same
            {"names": names},
            "files",
            lambda said: ArtifactFile(artifact, said),
            per_page=per_page,
            max_page=10_000,
        )

    def __len__(self) -> int:
        return self._artifact.file_count if self._is_all else super().__len__()

    def __repr__(self) -> str:
        return f"<ArtifactFiles {self._artifact.name} ({len(self)})>"
