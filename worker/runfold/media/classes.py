"""Classes: names of the classes that boxes, masks and labels of images speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Classes:
    """A list of `{"id": number or text, "name": text}`."""

    TYPE = "classes"

    def __init__(self, class_set: Sequence[Mapping[str, Any]]) -> None:
        """Take the classes.

        Raises:
            AssertionError: One has no id or no name.
        """
        for each in class_set:
            if "id" not in each or "name" not in each:
                raise AssertionError('each class is {"id": ..., "name": ...}')
        self.class_set = [dict(each) for each in class_set]

    def to_json(self, run: object = None) -> dict[str, Any]:
        """Return the stored form. `run` is accepted for W&B's signature."""
        del run
        return {"_type": self.TYPE, "class_set": self.class_set}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.class_set == other.class_set

    __hash__ = None  # type: ignore[assignment]  # it holds dicts
