"""What scripts and libraries take from W&B's `util`."""

from __future__ import annotations

import json
from typing import Any

from runfold.naming import ID_LENGTH, random_id

__all__ = ["generate_id", "json_dumps_safer"]


def generate_id(length: int = ID_LENGTH) -> str:
    """Return a new random id: `length` characters of [0-9a-z]."""
    return random_id(length)


def json_dumps_safer(obj: Any, **kwargs: Any) -> str:
    """Return JSON; arrays and numbers of numpy and torch are taken as lists and numbers.

    Raises:
        TypeError: A part of it is nothing of that: libraries leave such a value out.
    """
    return json.dumps(obj, default=_plain, **kwargs)


def _plain(value: Any) -> Any:
    tolist = getattr(value, "tolist", None)
    if tolist is None or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is no value of JSON")
    return tolist()
