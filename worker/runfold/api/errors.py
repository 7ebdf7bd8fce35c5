"""What the public API raises, on top of `runfold.errors`.

CommError
├── RequestError (a ValueError)      the request itself is wrong: field, limit and hint tell how
├── RunEndedError                    what was asked for needs a run that goes on
├── UnavailableError                 no answer came, or the server can't give one now: asking again may help
└── NotFoundError (a ValueError, a LookupError)
    ├── RunNotFoundError             no run has this path
    └── GroupNotFoundError           no run belongs to this group
"""

from __future__ import annotations

from runfold.errors import CommError


class RequestError(CommError, ValueError):
    """The request is wrong as it stands; asking again does not help."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "bad_request",
        field: str | None = None,
        limit: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message if hint is None else f"{message} ({hint})")
        self.code = code
        self.field = field
        self.limit = limit
        self.hint = hint


class RunEndedError(CommError):
    """The run, or each process that was meant, has ended already; the message says how."""


class UnavailableError(CommError):
    """No answer came, or the server can't give one now; `after_s` is how long it wants to be left alone."""

    def __init__(self, message: object, exc: Exception | None = None, *, after_s: float = 0.0) -> None:
        super().__init__(message, exc)
        self.after_s = after_s


class NotFoundError(CommError, ValueError, LookupError):
    """The server has nothing of this name."""


class RunNotFoundError(NotFoundError):
    """No run has this path."""


class GroupNotFoundError(NotFoundError):
    """No run belongs to this group."""
