"""What artifacts are called and described by, checked by W&B's rules: plain ValueErrors and TypeErrors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from runfold.config_values import convert
from runfold.protocol import artifact_names as names
from runfold.redact import redact_text, redact_value

#: Metadata of one version, as JSON.
MAX_METADATA_BYTES = 1_000_000
MAX_METADATA_KEYS = 100
MAX_DESCRIPTION_CHARS = 65_536
#: Keys that JSON writes in words of its own.
_KEYS = {"None": "null", "True": "true", "False": "false"}
_T = TypeVar("_T")


def check_name(name: str) -> str:
    """Return the name of a new artifact. ValueError, in W&B's words, if it is none; TypeError: no text."""
    _need_text(name, "an artifact's name")
    cut = name[: names.MAX_NAME_CHARS]
    _plainly(names.check_name, cut)
    if cut != name:
        raise ValueError(f"Artifact name is longer than {names.MAX_NAME_CHARS} characters: {f'{cut} ...'!r}")
    return name


def check_type(type: str, name: str) -> str:  # noqa: A002  # W&B's name
    """Return the type of a new artifact. ValueError, in W&B's words, if it can't have it."""
    return _plainly(lambda each: names.check_type(each, name), type)


def check_aliases(aliases: str | Iterable[str] | None) -> list[str]:
    """Return aliases as a list without repeats; a text is one alias.

    Raises:
        ValueError: One can't be one. TypeError: One is no text.
    """
    for alias in (listed := as_list(aliases)):
        _need_text(alias, "an alias")
    return _few([_plainly(names.check_alias, alias) for alias in listed], "aliases")


def check_tags(tags: str | Iterable[str] | None) -> list[str]:
    """Return tags as a list without repeats; a text is one tag.

    Raises:
        ValueError: One can't be one. TypeError: One is no text.
    """
    for tag in (listed := as_list(tags)):
        _need_text(tag, "a tag")
    return _few([_plainly(names.check_tag, tag) for tag in listed], "tags")


def with_latest(aliases: list[str]) -> list[str]:
    """Return the aliases of a version that is logged: "latest" is always among them."""
    return aliases if names.LATEST in aliases else [*aliases, names.LATEST]


def check_metadata(metadata: Any) -> dict[str, Any]:
    """Return metadata as plain values, without secrets.

    Args:
        metadata: A dict, or the JSON text of one.

    Raises:
        TypeError: It is no dict.
        ValueError: It is larger than 1 MB, a text that is no JSON, has an infinite number or over 100 keys.
    """
    if metadata is None:
        return {}
    if isinstance(metadata, str):
        metadata = _parsed(metadata) if metadata else {}
    if not isinstance(metadata, dict):
        raise TypeError(f"Cannot parse {type(metadata)} as artifact metadata")
    plain: dict[str, Any] = _in_json(redact_value(convert(metadata)))
    if len(plain) > MAX_METADATA_KEYS:
        raise ValueError(f"Artifact must not have more than {MAX_METADATA_KEYS} metadata keys.")
    size = len(json.dumps(plain))
    if size > MAX_METADATA_BYTES:
        raise ValueError(
            f"Artifact metadata of {size:,} bytes is larger than {MAX_METADATA_BYTES:,}: add it as a file"
        )
    return plain


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(str(error)) from None  # W&B's class


def _in_json(value: Any) -> Any:
    """Return plain values as every reader of JSON takes them: what it has no number for is its text."""
    if isinstance(value, dict):
        return {_in_json(_KEYS.get(key, key)): _in_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_json(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("Out of range float values are not JSON compliant")
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def check_description(description: Any) -> str | None:
    """Return a description without secrets. ValueError if it is longer than 65,536 characters."""
    if description is None:
        return None
    text = redact_text(str(description))
    if len(text) > MAX_DESCRIPTION_CHARS:
        raise ValueError(f"Artifact description is longer than {MAX_DESCRIPTION_CHARS:,} characters")
    return text


def as_list(said: str | Iterable[str] | None) -> list[str]:
    """Return what people give for several names: a text is one of them."""
    if said is None:
        return []
    return [said] if isinstance(said, str) else list(said)


def _need_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {value!r}")


def _few(labels: list[str], what: str) -> list[str]:
    found = list(dict.fromkeys(labels))
    if len(found) > names.MAX_LABELS:
        raise ValueError(f"an artifact has at most {names.MAX_LABELS} {what}, not {len(found)}")
    return found


def _plainly(check: Callable[[_T], _T], value: _T) -> _T:
    try:
        return check(value)
    except names.ArtifactNameError as error:
        # W&B raises ValueError itself, and scripts may compare classes.
        raise ValueError(str(error)) from None
