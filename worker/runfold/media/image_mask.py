"""ImageMask: a layer over an image that says the class of each pixel. Out: a gray PNG of class ids."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.media import Media, need
from runfold.media.pixels import as_array


class ImageMask(Media):
    """Class ids, 0 to 255, of the pixels of one layer: predictions, ground truth, ..."""

    TYPE: ClassVar[str] = "mask"
    FOLDER: ClassVar[str] = "media/images/mask"

    def __init__(self, val: dict[str, Any], key: str) -> None:
        """Capture the mask.

        Args:
            val: `mask_data`: (height, width) integers, or `path` of an image file of them. `class_labels`:
                name by class id; class_0, class_1, ... by default.
            key: Of the layer.

        Raises:
            TypeError: It is not as it should be. KeyError: There is neither data nor path.
        """
        super().__init__()
        self._key = key
        self._labels: Mapping[Any, str] | None = None
        if "path" in val:
            path = Path(val["path"])
            self._content = Content.of_file(path, path.suffix)
            return
        array = as_array(val["mask_data"])
        if array.ndim != 2:
            raise TypeError("mask_data must be a 2D array")
        if array.dtype.kind not in "biuf" or not ((array >= 0).all() and (array <= 255).all()):
            raise TypeError("Mask data must be integers between 0 and 255")
        numpy = need("numpy", "runfold.Image with masks")
        classes = array.astype(numpy.uint8)
        self._labels = _labels(val, numpy.unique(classes).tolist())
        picture = need("PIL.Image", "runfold.Image").fromarray(classes).convert("L")
        self._content = Content.captured(
            ".mask.png", lambda path: picture.save(path, transparency=None), picture.width * picture.height
        )

    def class_labels(self) -> tuple[str, str, Mapping[Any, str]] | None:
        """Return the names of its classes; None for a mask from a file."""
        return None if self._labels is None else ("mask/class_labels", self._key, self._labels)


def _labels(val: Mapping[str, Any], found: list[int]) -> dict[Any, str]:
    if "class_labels" not in val:
        return {number: f"class_{number}" for number in found}
    for number, name in val["class_labels"].items():
        if not isinstance(number, numbers.Number) or not isinstance(name, str):
            raise TypeError("Class labels must be a dictionary of numbers to strings")
    return dict(val["class_labels"])
