"""BoundingBoxes2D: a layer of boxes over an image. In: what a script knows of them. Out: a JSON file."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.json_text import json_text, plain
from runfold.media.media import Media

_POSITION = (
    "Each box must contain a position with: middle, width, and height or                     "
    "\nminX, maxX, minY, maxY."
)


class BoundingBoxes2D(Media):
    """Boxes of one layer: predictions, ground truth, ..."""

    TYPE: ClassVar[str] = "boxes2D"
    FOLDER: ClassVar[str] = "media/metadata/boxes2D"

    def __init__(self, val: dict[str, Any], key: str) -> None:
        """Take the boxes.

        Args:
            val: `box_data`: a list of `{"position":, "class_id":, "scores":, "box_caption":, "domain":}`.
                A position is `{"minX", "maxX", "minY", "maxY"}` or `{"middle": [x, y], "width", "height"}`,
                in shares of the image or, with `"domain": "pixel"`, in pixels.
                `class_labels`: name by class id.
            key: Of the layer.

        Raises:
            TypeError: A box is not as it should be. KeyError: There is no `box_data`.
        """
        super().__init__()
        if not isinstance(val["box_data"], list):
            raise TypeError("Boxes must be a list")
        value = plain(val, keeps_keys=True)
        _check(value)
        self._boxes: list[dict[str, Any]] = value["box_data"]
        self._key = key
        self._labels = _labels(value)
        self._content = Content.of_text(".boxes2D.json", json_text(value))

    def class_labels(self) -> tuple[str, str, Mapping[Any, str]]:
        """Return the names of its classes."""
        return "bounding_box/class_labels", self._key, self._labels


def _labels(value: Mapping[str, Any]) -> dict[Any, str]:
    if "class_labels" in value:
        return dict(value["class_labels"])
    found = sorted({box["class_id"] for box in value["box_data"] if "class_id" in box})
    return {number: f"class_{number}" for number in found}


def _check(value: Mapping[str, Any]) -> None:
    for number, name in value.get("class_labels", {}).items():
        if not isinstance(number, numbers.Number) or not isinstance(name, str):
            raise TypeError("Class labels must be a dictionary of numbers to string")
    for box in value["box_data"]:
        _check_box(box)


def _check_box(box: Mapping[str, Any]) -> None:
    if not _is_position(box.get("position")):
        raise TypeError(_POSITION)
    scores = box.get("scores", {})
    if not isinstance(scores, dict):
        raise TypeError("Box scores must be a dictionary")
    for name, score in scores.items():
        if not isinstance(name, str):
            raise TypeError("A score key must be a string")
        if not isinstance(score, numbers.Number):
            raise TypeError("A score value must be a number")
    if not isinstance(box.get("class_id", 0), int):
        raise TypeError("A box's class_id must be an integer")
    if not isinstance(box.get("box_caption", ""), str):
        raise TypeError("A box's caption must be a string")


def _is_position(position: Any) -> bool:
    if not isinstance(position, Mapping):
        return False

    def has(*names: str) -> bool:
        return all(isinstance(position.get(name), numbers.Number) for name in names)

    middle = position.get("middle")
    is_centred = isinstance(middle, (list, tuple)) and len(middle) == 2 and has("width", "height")
    return is_centred or has("minX", "maxX", "minY", "maxY")
