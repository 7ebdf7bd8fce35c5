"""Arrays of any library to pictures of Pillow, by W&B's rules: values in [0, 255], channels last.

In: array (H, W), (H, W, 1), (H, W, 3), (H, W, 4); torch (C, H, W). Out: a picture, sharing nothing with it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from runfold import terminal
from runfold.media.media import need

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def picture_of(data: Any, mode: str | None, file_type: str | None, *, normalize: bool | None) -> Picture:
    """Return the picture of an array.

    Args:
        mode: Pillow's name of the pixels: L, RGB, RGBA, ...; by default what the channels say.
        file_type: For which it is: JPEG has no transparency.
        normalize: See `to_uint8`.

    Raises:
        ValueError: No such array is a picture; TypeError where Pillow says so.
    """
    pillow = need("PIL.Image", "runfold.Image")
    array = as_array(data)
    if is_torch(data):
        if array.ndim not in (2, 3):
            raise ValueError(
                f"Un-supported shape for image conversion {list(array.shape)}: a torch tensor is "
                "(channel, height, width); log a list of images for a batch"
            )
        if array.ndim == 3:
            array = array.transpose(1, 2, 0)
    array = _without_trivial_axes(array)
    mode = mode or _guess_mode(array, file_type)
    picture: Picture = pillow.fromarray(to_uint8(array, normalize=normalize)).convert(mode)
    return picture


def is_torch(data: object) -> bool:
    """Return whether it is a tensor of torch."""
    return type(data).__module__.partition(".")[0] == "torch" and hasattr(data, "detach")


def as_array(data: Any) -> Any:
    """Return an array of any library as one of NumPy, perhaps sharing its memory.

    Raises:
        ValueError: It is no array.
    """
    numpy = need("numpy", "runfold.Image of an array")
    if is_torch(data):
        torch: Any = sys.modules["torch"]
        data = data.detach()
        if data.dtype in (torch.bfloat16, torch.float16):
            data = data.float()
        return data.cpu().numpy()
    if hasattr(data, "__array__") or isinstance(data, (list, tuple)):
        return numpy.asarray(data)
    raise ValueError(
        f"a {type(data).__name__} is no image: give an array, a tensor, a PIL image, a figure, bytes, a path"
    )


def to_uint8(array: Any, *, normalize: bool | None) -> Any:
    """Return values as uint8.

    Args:
        normalize: True: what lies in [0, 1] is multiplied by 255, [-1, 1] is mapped to [0, 255], and what is
            out of range is clipped. Else values are taken as they are, as W&B does since 0.31: without their
            fraction, modulo 256. None, unlike False, warns of floats in [0, 1], of which little is seen then.
    """
    numpy = need("numpy", "runfold.Image of an array")
    if array.dtype == numpy.uint8 and not normalize:
        return array
    if array.dtype.kind not in "fbiu":
        return array.astype(numpy.uint8)  # raises, or makes numbers of text, as W&B does
    if array.dtype.kind == "b":
        array = array.astype(numpy.uint8)
    if array.size == 0:
        return array.astype(numpy.uint8)
    is_float = array.dtype.kind == "f"
    if is_float and not numpy.isfinite(array).all():
        terminal.warn_once("an image holds NaN or infinite values: NaN is drawn as 0")
        array = numpy.nan_to_num(array, nan=0.0, posinf=255.0, neginf=0.0)
    if normalize:
        return _stretched(array).clip(0, 255).astype(numpy.uint8)
    if is_float and normalize is None and array.min() >= 0 and 0 < array.max() <= 1:
        terminal.warn_once(
            "floats in [0, 1] are drawn almost black, as pixels go from 0 to 255: multiply by 255, or use "
            "Image(..., normalize=True)"
        )
    return array.astype(numpy.int64).astype(numpy.uint8) if is_float else array.astype(numpy.uint8)


def _stretched(array: Any) -> Any:
    lowest, highest = array.min(), array.max()
    if lowest >= 0 and highest <= 1:
        return array * 255.0
    return (array + 1.0) * 127.5 if lowest >= -1 and highest <= 1 else array


def _without_trivial_axes(array: Any) -> Any:
    """Return (H, W) or (H, W, channels) of an array with leading axes of length 1, or a single channel."""
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 1:
        return array[:, :, 0]
    if array.ndim == 3 and array.shape[0] == 1 and array.shape[2] not in (3, 4):
        return array[0]
    return array


def _guess_mode(array: Any, file_type: str | None) -> str:
    channels = array.shape[-1] if array.ndim else 0
    if array.ndim == 2 or channels == 1:
        return "L"
    if channels == 3:
        return "RGB"
    if channels == 4:
        if file_type not in ("jpg", "jpeg"):
            return "RGBA"
        terminal.warn_once("JPEG format does not support transparency. Ignoring alpha channel.")
        return "RGB"
    raise ValueError(f"Un-supported shape for image conversion {list(array.shape)}")
