"""What artifacts raise beside ValueError and TypeError: W&B's classes, in W&B's words.

ArtifactStatusError (an AttributeError)   what was asked does not fit the artifact's state
├── ArtifactNotLoggedError                it needs the server's word, and that is not there yet
└── ArtifactFinalizedError                it was logged: its contents are fixed
WaitTimeoutError (an Error)               wait(timeout) is over
"""

from __future__ import annotations

from typing import Any

from runfold.errors import Error


class ArtifactStatusError(AttributeError):
    """What was asked does not fit the artifact's state."""

    def __init__(
        self,
        msg: str = "Artifact is in an invalid state for the requested operation.",
        name: str | None = None,
        obj: Any = None,
    ) -> None:
        super().__init__(msg, name=name or "", obj=obj)


class ArtifactNotLoggedError(ArtifactStatusError):
    """It needs what the server says of the version, and the version is not there yet."""

    def __init__(self, fullname: str, obj: Any) -> None:
        super().__init__(
            f"{fullname!r} used prior to logging artifact or while in offline mode. "
            "Call Artifact.wait() before accessing logged artifact properties.",
            fullname.rpartition(".")[2],
            obj,
        )


class ArtifactFinalizedError(ArtifactStatusError):
    """It was logged: its contents are fixed."""

    def __init__(self, fullname: str, obj: Any) -> None:
        super().__init__(
            f"{fullname!r} used on logged artifact. Can't modify finalized artifact.",
            fullname.rpartition(".")[2],
            obj,
        )


class WaitTimeoutError(Error):
    """The version was not there within wait()'s timeout; the upload goes on."""
