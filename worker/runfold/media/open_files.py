"""What scripts give as a file: a path, an open file, a buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def path_of(data: Any) -> Path | None:
    """Return where a path, or an open file, lies; None for what has no place in the file system."""
    if isinstance(data, (str, Path)):
        return Path(data)
    name = getattr(data, "name", None)
    return Path(name) if isinstance(name, str) else None


def bytes_of(file: Any) -> bytes:
    """Return all that a file object holds."""
    if hasattr(file, "seek"):
        file.seek(0)
    data = file.read()
    return data if isinstance(data, bytes) else str(data).encode()
