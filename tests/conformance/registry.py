"""Scenarios by name, in the order in which they are written: `scenario = Registry()`, then `@scenario(group)`."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, TypeVar

Scenario = TypeVar("Scenario", bound=Callable[..., Any])


class Registry(collections.OrderedDict[str, dict[str, Any]]):
    """What a runner reads of a module of scenarios: function, group and what else is said of each."""

    def __call__(self, group: str, **meta: Any) -> Callable[[Scenario], Scenario]:
        """Return a decorator that adds a function under its name, which no other may have."""

        def add(fn: Scenario) -> Scenario:
            assert fn.__name__ not in self, fn.__name__
            self[fn.__name__] = {"fn": fn, "group": group, **meta}
            return fn

        return add
