"""Why an upload did not happen, by what is then done about it.

UploadError
├── TryLaterError   the server is away or busy: the same again, after a while
│   └── NotYetError the server knows the run or a blob not yet: this job waits, others need not
├── RefusedError    the server will never take it: the job ends with this as its error
├── SourceError     the file is not what it was: vanished, changed while it was read, no file at all
└── StoppedError    the process that uploads ends: another one goes on
"""

from __future__ import annotations


class UploadError(Exception):
    """Base of them."""


class TryLaterError(UploadError):
    """It may work later.

    Attributes:
        status: HTTP status of the answer; None: there was none.
        after_s: Seconds that the server asks to wait; 0: it said nothing.
    """

    def __init__(self, message: str, *, status: int | None = None, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.after_s = after_s


class NotYetError(TryLaterError):
    """This job has to wait for something else to arrive."""


class RefusedError(UploadError):
    """It will never work. `status` is the answer's."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class SourceError(UploadError):
    """The file can't be read as what it was taken for.

    Attributes:
        is_gone: There is no such file (any more); False: it changed, or is something else.
    """

    def __init__(self, message: str, *, is_gone: bool = False) -> None:
        super().__init__(message)
        self.is_gone = is_gone


class StoppedError(UploadError):
    """Told to stop. What the server has of it is gone on from."""
