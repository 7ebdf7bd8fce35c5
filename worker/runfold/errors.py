"""What the SDK raises, under W&B's names.

Error
├── UsageError            the call does not fit the state of the run, or an argument breaks a rule
│   └── UnsupportedError  W&B has it, runfold has not
├── ConfigError           a config value would change without permission, or a config file is missing
└── CommError             the coordinator could not be reached, or refused
    └── AuthenticationError
ValidationError (a ValueError)   a setting has a value that it can't have
"""

from __future__ import annotations


class Error(Exception):
    """Base of everything that runfold raises on purpose, but ValidationError."""

    def __init__(self, message: object = "", context: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        #: Kept for W&B's signature: facts that belong to the error.
        self.context = context


class UsageError(Error):
    """The call does not fit the state of the run, or an argument breaks a rule."""


class UnsupportedError(UsageError):
    """A feature of W&B that runfold does not have."""


class ConfigError(Error):
    """A config value would change without permission, or a config file is missing."""


class CommError(Error):
    """The coordinator could not be reached, or refused; `exc` is what the transport said."""

    def __init__(self, message: object, exc: Exception | None = None) -> None:
        super().__init__(message)
        self.exc = exc


class AuthenticationError(CommError):
    """The coordinator does not know the API key."""


class ValidationError(ValueError):
    """A setting has a value that it can't have; `setting` names it."""

    def __init__(self, setting: str, message: str, value: object = None) -> None:
        super().__init__(f"1 validation error for Settings\n{setting}\n  {message}")
        self.setting = setting
        self.value = value
