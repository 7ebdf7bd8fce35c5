"""Image: a picture to log. In: array, tensor, PIL image, figure, bytes or path. Out: an image file."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from runfold.media.bounding_boxes import BoundingBoxes2D
from runfold.media.classes import Classes
from runfold.media.content import Content, Encoded
from runfold.media.figures import is_matplotlib, rendered
from runfold.media.image_mask import ImageMask
from runfold.media.media import BatchableMedia, Media, all_captions, need, reference_of
from runfold.media.pixels import picture_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_FORMATS = ("png", "jpg", "jpeg", "bmp")


class Image(BatchableMedia):
    """A picture for log(), alone or in a list. What it is made from may change afterwards."""

    TYPE: ClassVar[str] = "image-file"
    FOLDER: ClassVar[str] = "media/images"
    LIST_TYPE: ClassVar[str | None] = "images/separated"
    MAX_ITEMS: ClassVar[int | None] = 108

    def __init__(  # noqa: PLR0917  # W&B's signature
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: Classes | Sequence[Mapping[str, Any]] | None = None,
        boxes: Mapping[str, BoundingBoxes2D | dict[str, Any]] | None = None,
        masks: Mapping[str, ImageMask | dict[str, Any]] | None = None,
        file_type: str | None = None,
        normalize: bool | None = None,
    ) -> None:
        """Capture it.

        Args:
            data_or_path: Array (height, width), or with 1, 3 or 4 channels last; torch tensor
                (channel, height, width); PIL image; matplotlib figure, axes or pyplot; the bytes of an image
                file; its path; another Image, whose picture is taken, not its boxes and masks.
            mode: Pillow's name of the pixels: L, RGB, RGBA, ...
            grouping: A number that viewers may group images by.
            classes: `{"id":, "name":}` of each class.
            boxes: Boxes by the name of their layer; see BoundingBoxes2D.
            masks: Masks by the name of their layer; see ImageMask.
            file_type: png, jpg, jpeg or bmp; for arrays, PIL images and figures.
            normalize: Whether values in [0, 1] and [-1, 1] are stretched to [0, 255]; by default they are
                not, as in W&B, and floats in [0, 1] are warned of.

        Raises:
            ValueError: It is no picture, or too large. OSError: The file is not there, or no image.
            TypeError: Boxes or masks are wrong, or Pillow can't handle the array.
        """
        super().__init__(caption)
        self.format: str | None = None
        self.width: int | None = None
        self.height: int | None = None
        self.grouping = grouping
        self.classes: Classes | None = None
        self._set_content(data_or_path, mode, file_type, normalize)
        self.boxes = _layers(boxes, BoundingBoxes2D, "boxes")
        self.masks = _layers(masks, ImageMask, "masks")
        self._set_classes(classes)

    def parts(self) -> Sequence[Media]:
        """Return its boxes and masks."""
        return [*self.boxes.values(), *self.masks.values()]

    @property
    def image(self) -> Picture | None:
        """Its picture, decoded; None for one that lies elsewhere."""
        if self.reference is not None:
            return None
        pillow = need("PIL.Image", "runfold.Image")
        picture: Picture = pillow.open(self.content.encoded().path)
        picture.load()
        return picture

    def facts(self) -> Mapping[str, Any]:
        """Return format, size and group."""
        told: dict[str, Any] = {"format": self.format}
        if self.width is not None:
            told |= {"width": self.width, "height": self.height}
        if self.grouping:
            told["grouping"] = self.grouping
        return told

    def describe(
        self, name: str, encoded: Encoded, part_json: Callable[[Media], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return its JSON, with that of boxes and masks."""
        told = super().describe(name, encoded, part_json)
        for kind, layers in (("boxes", self.boxes), ("masks", self.masks)):
            if layers:
                told[kind] = {key: part_json(layer) for key, layer in layers.items()}
        return told

    @classmethod
    def describe_list(cls, items: Sequence[Image], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists: names of files, and what W&B keeps beside them."""
        told: dict[str, Any] = {
            "_type": cls.LIST_TYPE,
            "width": items[0].width,
            "height": items[0].height,
            "format": jsons[0]["format"],
            "count": len(items),
            "filenames": [json["path"] for json in jsons],
        }
        if captions := all_captions(items):
            told["captions"] = captions
        for kind in ("masks", "boxes"):
            layers = [json.get(kind) for json in jsons]
            if any(layers):
                told[f"all_{kind}"] = layers
        return told

    def _set_content(
        self, data: Any, mode: str | None, file_type: str | None, normalize: bool | None
    ) -> None:
        if isinstance(data, Image):
            self.reference = data.reference
            self._content = None if data.reference else data.content
            self.format, self.width, self.height = data.format, data.width, data.height
            self.grouping = self.grouping or data.grouping
            self.classes = data.classes
            self.caption = data.caption if self.caption is None else self.caption
        elif reference := reference_of(data):
            self.reference = reference
            self.format = reference.partition("?")[0].rpartition("/")[2].rpartition(".")[2]
        elif isinstance(data, (str, Path)):
            self._take_file(Path(data))
        elif isinstance(data, (bytes, bytearray, io.BytesIO)):
            self._take_bytes(data.getvalue() if isinstance(data, io.BytesIO) else bytes(data))
        else:
            self._take_picture(data, mode, file_type, normalize)

    def _take_file(self, path: Path) -> None:
        self._content = Content.of_file(path, path.suffix)
        picture = _opened(path)
        self.width, self.height = picture.size
        self.format = path.suffix[1:]

    def _take_bytes(self, data: bytes) -> None:
        picture = _opened(io.BytesIO(data))
        self.width, self.height = picture.size
        self.format = {"jpeg": "jpg"}.get(found := (picture.format or "png").lower(), found)
        self._content = Content.of_bytes(f".{self.format}", data)

    def _take_picture(
        self, data: Any, mode: str | None, file_type: str | None, normalize: bool | None
    ) -> None:
        self.format = file_type or "png"
        if self.format not in _FORMATS:
            raise ValueError(f"file_type must be one of {list(_FORMATS)}")
        pillow = need("PIL.Image", "runfold.Image")
        if is_matplotlib(data):
            picture = _opened(rendered(data, self.format))
        elif isinstance(data, pillow.Image):
            picture = data.copy()
        else:
            picture = picture_of(data, mode, file_type, normalize=normalize)
        _check_writable(picture.mode, self.format)
        self.width, self.height = picture.size
        self._content = Content.captured(
            f".{self.format}",
            lambda path: picture.save(path, transparency=None),
            4 * self.width * self.height,
        )

    def _set_classes(self, classes: Classes | Sequence[Mapping[str, Any]] | None) -> None:
        names: dict[Any, str] = {}
        for part in self.parts():
            labels = part.class_labels()
            names |= labels[2] if labels is not None else {}
        if classes is not None:
            given = classes.class_set if isinstance(classes, Classes) else classes
            names |= {each["id"]: each["name"] for each in given}
        if names:
            self.classes = Classes([{"id": key, "name": name} for key, name in names.items()])


def _layers(given: Any, kind: Any, what: str) -> dict[str, Any]:
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f'Images "{what}" argument must be a dictionary')  # noqa: TRY004  # W&B's class
    return {key: value if isinstance(value, kind) else kind(value, key) for key, value in given.items()}


def _opened(file: Any) -> Picture:
    """Return a decoded picture. OSError: it is none, or damaged; ValueError: it is too large."""
    pillow = need("PIL.Image", "runfold.Image")
    try:
        with pillow.open(file) as picture:
            picture.load()
            opened: Picture = picture
            return opened
    except pillow.DecompressionBombError as error:
        raise ValueError(f"the image is too large: {error}") from error
    except SyntaxError as error:  # what Pillow says of damaged headers
        raise OSError(f"damaged image: {error}") from error


@functools.cache
def _check_writable(mode: str, file_type: str) -> None:
    """Have Pillow say now, and not in the encoder's thread, that a format has no such pixels."""
    pillow = need("PIL.Image", "runfold.Image")
    pillow.new(mode, (1, 1)).save(io.BytesIO(), {"jpg": "jpeg"}.get(file_type, file_type), transparency=None)
