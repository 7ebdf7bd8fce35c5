"""Names of metrics: the path of a nested key, its canonical text, and the rule for names that users type."""

from __future__ import annotations

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.limits import MAX_DEPTH, MAX_KEY_BYTES

#: The parts of a nested key, outermost first; {"a": {"b": 1}} is ("a", "b"). Never empty; parts may be empty.
KeyPath = tuple[str, ...]


def encode_path(path: KeyPath) -> str:
    """Return the canonical text of `path`: parts joined by ".", backslash and dot inside a part escaped."""
    if len(path) == 1:
        part = path[0]
        if "." not in part and "\\" not in part:
            return part
    elif not path:
        raise DecodeError("a key path needs at least one part", field="path")
    return ".".join(part.replace("\\", "\\\\").replace(".", "\\.") for part in path)


def decode_path(text: str) -> KeyPath:
    r"""Return the path whose canonical text is `text`.

    Raises:
        DecodeError: A backslash is followed by neither a backslash nor a dot.
    """
    if "\\" not in text:
        return tuple(text.split("."))
    parts: list[str] = []
    part: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", "."):
                raise DecodeError(f"not a canonical key: {text!r}", field="key")
            part.append(escaped)
        elif character == ".":
            parts.append("".join(part))
            part = []
        else:
            part.append(character)
    parts.append("".join(part))
    return tuple(parts)


def parse_name(name: str) -> KeyPath:
    r"""Return the path that a user means by `name`, by W&B's rule.

    "." separates, `\.` is a dot inside a part, and a backslash before anything else stays a backslash.
    """
    if "\\" not in name:
        return tuple(name.split("."))
    parts: list[str] = []
    part = ""
    *pieces, last = name.split(".")
    for piece in pieces:
        if piece.endswith("\\"):
            part += piece[:-1] + "."
        else:
            parts.append(part + piece)
            part = ""
    parts.append(part + last)
    return tuple(parts)


def display_name(path: KeyPath) -> str:
    """Return the name that people see; two paths may share one."""
    return ".".join(path)


def check_path(path: KeyPath) -> KeyPath:
    """Return `path` when it is within the limits, else raise LimitError."""
    if len(path) > MAX_DEPTH:
        raise LimitError(f"a key of {len(path)} parts; at most {MAX_DEPTH}", field="path", limit=MAX_DEPTH)
    # A character is at most four bytes, an escaped one two: most keys need no encoding to be known as short.
    if sum(map(len, path)) * 4 + len(path) > MAX_KEY_BYTES:
        size = len(encode_path(path).encode("utf-8", "replace"))
        if size > MAX_KEY_BYTES:
            raise LimitError(
                f"a key of {size} bytes; at most {MAX_KEY_BYTES}", field="path", limit=MAX_KEY_BYTES
            )
    return path
