"""Values of scripts as JSON text, as W&B writes media files of it: no spaces, NaN and Infinity bare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runfold.media.media import Media


def json_text(value: Any) -> str:
    """Return the text. TypeError: an object that has no form in JSON; ValueError: it contains itself."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_default)


def plain(value: Any, *, keeps_keys: bool = False) -> Any:
    """Return a value with arrays and tensors as lists, at any depth, sharing nothing that can change.

    Args:
        keeps_keys: Keys stay what they are; else they become text.
    """
    if isinstance(value, Mapping):
        return {_key(key, keeps_keys): plain(item, keeps_keys=keeps_keys) for key, item in value.items()}
    if isinstance(value, Media):
        return type(value).__name__  # as W&B: no medium inside of another one's JSON
    if isinstance(value, (list, tuple)):
        return [plain(item, keeps_keys=keeps_keys) for item in value]
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def _key(key: Any, keeps_keys: bool) -> Any:
    if not keeps_keys:
        return str(key)
    return key.item() if hasattr(key, "item") else key


def _default(value: Any) -> Any:
    from runfold import log_values

    return log_values.convert(value)
