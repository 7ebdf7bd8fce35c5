"""Why something can't be done with an artifact. `code` is for programs, `field` names what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

#: Most digests named in one answer.
MAX_MISSING_NAMED = 1000


class ArtifactError(Exception):
    """Base; never raised itself."""

    status = 422

    def __init__(
        self, code: str, message: str, *, field: str, hint: str | None = None, limit: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.hint = hint
        self.limit = limit


class NoSuchArtifactError(ArtifactError):
    """No version, draft or collection has this name."""

    status = 404


class ArtifactRefusedError(ArtifactError):
    """It will never be accepted as it is."""


class ArtifactInUseError(ArtifactError):
    """Something else depends on it as it is."""

    status = 409


class BlobsMissingError(ArtifactInUseError):
    """Content that the manifest names is not here (`missing`, of `count`): upload it, then commit again."""

    def __init__(self, missing: Sequence[str], count: int) -> None:
        super().__init__(
            "blobs_missing",
            f"{count} of the blobs that are named have not been uploaded",
            field="manifest",
            hint="upload them, then commit again",
        )
        self.missing = list(missing[:MAX_MISSING_NAMED])
        self.count = count
