"""ArtifactManifestEntry: a file of an artifact as people hold it. ArtifactManifest: all of them by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from runfold.protocol.manifest import Entry

if TYPE_CHECKING:
    from runfold.artifacts.artifact import Artifact


class ArtifactDigestAlgorithm(StrEnum):
    """What digests are computed by, under W&B's name."""

    MANIFEST_MD5 = "MANIFEST_MD5"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class ArtifactManifestEntry:
    """One file, or one reference.

    Attributes:
        path: Its name in the artifact.
        digest: MD5 in base64, as W&B's; of a reference, whatever tells its versions apart.
        size: Bytes; None where a reference does not tell.
        ref: Where a reference points; None: the server keeps the content.
        extra: What a reference needs to be fetched again, such as an ETag.
    """

    #: W&B's: of entries that are shared between artifacts; None here.
    birth_artifact_id: str | None = None

    def __init__(self, path: str, entry: Entry, artifact: Artifact) -> None:
        self.path = path
        self.skip_cache = False
        self._entry = entry
        self._artifact = artifact

    @property
    def digest(self) -> str:
        """MD5 in base64; of a reference, whatever tells its versions apart."""
        return self._entry.digest

    @property
    def size(self) -> int | None:
        """Bytes; None where a reference does not tell."""
        return self._entry.size

    @property
    def ref(self) -> str | None:
        """Where a reference points; None for a file."""
        return self._entry.ref

    @property
    def extra(self) -> dict[str, Any]:
        """What a reference needs to be fetched again."""
        return dict(self._entry.extra)

    @property
    def local_path(self) -> str | None:
        """Where the bytes are on this machine until they are uploaded; None where they are not."""
        return self._artifact._local_path(self._entry)  # noqa: SLF001  # the other half of one thing

    @property
    def name(self) -> str:
        """Its path, W&B's old word."""
        return self.path

    def digest_algorithm(self) -> ArtifactDigestAlgorithm:
        """Return what its digest is computed by."""
        return ArtifactDigestAlgorithm.MANIFEST_MD5

    def parent_artifact(self) -> Artifact:
        """Return the artifact that it belongs to."""
        return self._artifact

    def download(
        self,
        root: str | os.PathLike[str] | None = None,
        skip_cache: bool | None = None,
        executor: Any = None,  # noqa: ARG002  # W&B's signature
        multipart: bool | None = None,  # noqa: ARG002  # same
    ) -> str:
        """Download it, and return where it is. Raises as `Artifact.download` does."""
        folder = self._artifact._download_entries({self.path: self._entry}, root, skip_cache=skip_cache)  # noqa: SLF001  # same
        return str(Path(folder, self.path))

    def ref_target(self) -> str:
        """Return where the reference points. ValueError if it is none."""
        if self._entry.ref is None:
            raise ValueError("Only reference entries support ref_target().")
        return self._entry.ref

    def ref_url(self) -> str:
        """Return an address of it for `add_reference` of another artifact."""
        return f"wandb-artifact://{self._artifact._key}/{self.path}"  # noqa: SLF001  # same

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it, as W&B tells it."""
        told: dict[str, Any] = {"path": self.path, "digest": self.digest, "ref": self.ref, "size": self.size}
        told |= {"extra": self.extra, "local_path": self.local_path, "skip_cache": self.skip_cache}
        return {key: value for key, value in told.items() if value is not None}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ArtifactManifestEntry)
            and self.path == other.path
            and self._entry == other._entry
        )

    __hash__ = None  # type: ignore[assignment]  # as W&B

    def __repr__(self) -> str:
        shown = {key: value for key, value in self.to_json().items() if key != "extra" or value}
        return f"ArtifactManifestEntry({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class _Entries(Mapping[str, ArtifactManifestEntry]):
    """Entries by path, made when they are looked at: there may be very many."""

    def __init__(self, artifact: Artifact, entries: Mapping[str, Entry]) -> None:
        self._artifact, self._entries = artifact, entries

    def __getitem__(self, path: str) -> ArtifactManifestEntry:
        return ArtifactManifestEntry(path, self._entries[path], self._artifact)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class ArtifactManifest:
    """What an artifact holds. Read-only: files are added to the artifact itself."""

    def __init__(
        self, artifact: Artifact, entries: Mapping[str, Entry], digest: str, region: str | None = None
    ) -> None:
        self._region = region
        self.entries: Mapping[str, ArtifactManifestEntry] = _Entries(artifact, entries)
        self._entries = entries
        self._digest = digest

    @staticmethod
    def version() -> int:
        """Return the version of its form."""
        return 1

    def digest(self) -> str:
        """Return the digest over all entries: equal for equal content."""
        return self._digest

    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(entry.size or 0 for entry in self._entries.values())

    def to_manifest_json(self) -> dict[str, Any]:
        """Return it as a plain dict, in W&B's form."""
        return {
            "version": self.version(),
            "storagePolicy": "wandb-storage-policy-v1",
            "storagePolicyConfig": {"storageLayout": "V2"}
            | ({"storageRegion": self._region} if self._region else {}),
            "contents": {name: _told(entry) for name, entry in self._entries.items()},
        }

    def get_entry_by_path(self, path: str) -> ArtifactManifestEntry | None:
        """Return an entry, None if there is no such path."""
        return self.entries.get(path)

    def get_entries_in_directory(self, directory: str) -> list[ArtifactManifestEntry]:
        """Return the entries below a folder."""
        return [self.entries[path] for path in self._entries if path.startswith(directory + "/")]

    def add_entry(self, *_: Any, **__: Any) -> NoReturn:
        """Raise: files are added to the artifact itself."""
        raise TypeError("a manifest is read-only: use Artifact.add_file() or Artifact.add_reference()")

    remove_entry = add_entry

    def __len__(self) -> int:
        return len(self._entries)


def _told(entry: Entry) -> dict[str, Any]:
    told = {"digest": entry.digest, "ref": entry.ref, "size": entry.size, "extra": dict(entry.extra)}
    return {key: value for key, value in told.items() if value not in (None, {})}
