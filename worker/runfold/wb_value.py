"""WBValue: what all values of log() have that are more than plain ones, under W&B's name for it."""

from __future__ import annotations

from typing import Any


class WBValue:
    """Stands in a row as a JSON object with a `_type`: every medium, and a Histogram."""

    def to_json(self, run: Any) -> dict[str, Any]:
        """Return the JSON object that stands for it in a run or an artifact."""
        raise NotImplementedError
