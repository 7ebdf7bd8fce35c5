"""What is left in a model that is watched. A copy of the model, or a saved one, is not watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class Hook:
    """What torch calls; does nothing once it was let go, and in a copy or a pickle."""

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        """Take what is to be called with torch's arguments; None: nothing."""
        self.call = call

    def __call__(self, *arguments: Any) -> None:
        """Pass on what torch says; what torch goes on with is never changed."""
        if self.call is not None:
            self.call(*arguments)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> Any:
        return type(self), ()
