"""ConsolePlace: where a console's spool goes, and whose lines it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ConsolePlace:
    """Travels to the tee as JSON."""

    spool_root: str
    target: str
    #: The identity map of the console's writer, less what only the process that keeps it knows.
    identity: Mapping[str, Any]
