"""PlainValue: a histogram among media in a list. It has a JSON object, and no file."""

from __future__ import annotations

from typing import Any

from runfold.media.media import Media
from runfold.wb_value import WBValue


class PlainValue(Media):
    """Stands for a value that is logged as it is."""

    def __init__(self, value: WBValue) -> None:
        super().__init__()
        self._json = value.to_json(None)
        self.TYPE = self._json["_type"]  # type: ignore[misc]  # each has its own

    def hold(self) -> None:
        """Nothing can change it any more."""

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Return its JSON object."""
        del run, key, number
        return self._json
