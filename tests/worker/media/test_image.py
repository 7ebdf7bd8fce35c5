"""Images: what they are made from, what they become, what is refused."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image as PIL

import runfold
from runfold.media import content

mpl.use("Agg")
RGB = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def pixels(image: runfold.Image) -> np.ndarray:
    return np.asarray(PIL.open(image.content.encoded().path))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RGB, RGB),
        (RGB[:, :, 0], RGB[:, :, 0]),
        (RGB[:, :, :1], RGB[:, :, 0]),
        (RGB[None], RGB),
        (RGB[None, :, :, 0], RGB[:, :, 0]),
        (RGB[:1], RGB[:1]),
        (RGB[:, :1], RGB[:, :1]),
        (np.dstack([RGB, RGB[:, :, 0]]), np.dstack([RGB, RGB[:, :, 0]])),
        (RGB.astype(np.int64), RGB),
        (RGB.astype(np.float32), RGB),
        (np.asfortranarray(RGB), RGB),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (RGB.astype(int) * 3 - 200, (RGB.astype(int) * 3 - 200) % 256),
        (np.array([[True, False]]), [[1, 0]]),
        (np.array([[0, 1]], np.uint8), [[0, 1]]),
        (RGB.tolist(), RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
        (torch.from_numpy(RGB[:, :, 0]), RGB[:, :, 0]),
        (torch.tensor([[[0.0, 255.5]]], requires_grad=True), [[0, 255]]),
        (torch.tensor([[[0.0, 64.0]]], dtype=torch.bfloat16), [[0, 64]]),
        (PIL.fromarray(RGB), RGB),
    ],
)
def test_pixels_come_out_as_they_went_in(data: Any, expected: Any) -> None:
    image = runfold.Image(data)
    assert np.array_equal(pixels(image), expected)
    assert (image.height, image.width) == np.shape(expected)[:2]
    assert np.array_equal(np.asarray(image.image), expected)


def test_stretching_can_be_chosen() -> None:
    ones = np.array([[0, 1]])
    assert pixels(runfold.Image(ones, normalize=True)).tolist() == [[0, 255]]
    assert pixels(runfold.Image(ones.astype(bool), normalize=True)).tolist() == [[0, 255]]
    assert pixels(runfold.Image(np.array([[-1.0, 0.0, 1.0]]), normalize=True)).tolist() == [[0, 127, 255]]
    assert pixels(runfold.Image(np.array([[-5.0, 300.0]]), normalize=True)).tolist() == [[0, 255]]
    assert pixels(runfold.Image(ones.astype(float), normalize=False)).tolist() == [[0, 1]]


def test_values_are_taken_as_the_client_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert pixels(runfold.Image(np.array([[0, 256, 300, -1]]))).tolist() == [[0, 0, 44, 255]]
    assert pixels(runfold.Image(np.array([[0.9, 254.9, 257.0, -1.0]]))).tolist() == [[0, 254, 1, 255]]
    assert capsys.readouterr().err == ""
    assert pixels(runfold.Image(np.array([[0.0, 0.5, 1.0]]))).tolist() == [[0, 0, 1]]
    assert "normalize=True" in capsys.readouterr().err


def test_nan_is_drawn_black_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert pixels(runfold.Image(np.array([[np.nan, np.inf, 7.0]]))).tolist() == [[0, 255, 7]]
    assert "NaN" in capsys.readouterr().err


def test_what_was_given_may_change_afterwards() -> None:
    array, picture = RGB.copy(), PIL.fromarray(RGB)
    images = [runfold.Image(array), runfold.Image(picture)]
    array[:] = 0
    picture.paste((0, 0, 0), (0, 0, 7, 5))
    for image in images:
        assert np.array_equal(pixels(image), RGB)


@pytest.mark.parametrize(
    ("file_type", "form"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("bmp", "BMP")]
)
def test_it_is_kept_in_the_format_asked_for(file_type: str, form: str) -> None:
    image = runfold.Image(RGB, file_type=file_type)
    assert image.format == file_type
    with PIL.open(image.content.encoded().path) as opened:
        assert opened.format == form


def test_jpeg_drops_transparency_of_arrays_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert pixels(runfold.Image(np.dstack([RGB, RGB[:, :, 0]]), file_type="jpg")).shape == RGB.shape
    assert "transparency" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_files_and_their_bytes_stay_as_they_are(form: str) -> None:
    buffer = io.BytesIO()
    PIL.fromarray(RGB).save(buffer, form)
    Path("a.file").write_bytes(buffer.getvalue())
    for given in (buffer.getvalue(), buffer, "a.file", Path("a.file")):
        image = runfold.Image(given)
        assert image.content.encoded().path.read_bytes() == buffer.getvalue()
        assert (image.width, image.height) == (7, 5)


def test_figures_are_drawn() -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(2, 1), dpi=50)
    axes.plot([1, 2])
    for given in (figure, axes, plt):
        assert pixels(runfold.Image(given)).shape == (50, 100, 4)
    plt.close(figure)


def test_a_copy_shares_the_picture_and_may_say_more() -> None:
    image = runfold.Image(RGB, caption="a", grouping=1)
    copy = runfold.Image(image, caption="b")
    assert copy.content is image.content
    assert (copy.caption, copy.grouping, runfold.Image(image).caption) == ("b", 1, "a")
    assert runfold.Image(image) == image == runfold.Image(RGB, caption="a")
    assert copy != image != 3


def bomb() -> bytes:
    """A PNG of 74 bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def cut_short() -> bytes:
    buffer = io.BytesIO()
    PIL.fromarray(np.random.default_rng(1).integers(0, 256, (50, 50), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()[:1000]


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (np.zeros((4, 4, 2), np.uint8), ValueError, "Un-supported shape"),
        (np.zeros((2, 4, 4, 5)), ValueError, "Un-supported shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), TypeError, "Cannot handle"),
        (torch.zeros(2, 3, 4, 4), ValueError, "list of images"),
        (np.array([["a"]]), ValueError, "invalid literal"),
        (None, ValueError, "no image"),
        (object(), ValueError, "no image"),
        (b"this is no image", OSError, "cannot identify"),
        (cut_short(), OSError, "truncated"),
        (bomb(), ValueError, "too large"),
        ("nowhere.png", FileNotFoundError, "nowhere"),
        (Path(), IsADirectoryError, "directory"),
    ],
)
def test_what_is_no_picture_is_refused_at_once(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        runfold.Image(given)


def test_a_pipe_is_no_file() -> None:
    os.mkfifo("pipe.png")
    with pytest.raises(OSError, match="no regular file"):
        runfold.Image("pipe.png")


@pytest.mark.parametrize(("mode", "file_type"), [("RGBA", "jpg"), ("P", "jpg"), ("F", "png"), ("HSV", "bmp")])
def test_pixels_that_a_format_can_not_hold_are_refused_at_once(mode: str, file_type: str) -> None:
    with pytest.raises(OSError, match="cannot write mode"):
        runfold.Image(PIL.new(mode, (2, 2)), file_type=file_type)


def test_a_value_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_CAPTURED_BYTES", 99)
    with pytest.raises(ValueError, match="at most 99"):
        runfold.Image(RGB)
    PIL.fromarray(RGB).save("a.png")
    runfold.Image("a.png")  # a file may have any size


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, make in (
        ("PIL.Image", lambda: runfold.Image(RGB)),
        ("soundfile", lambda: runfold.Audio(RGB[0, 0].astype(float), 8000)),
        ("av", lambda: runfold.Video(np.zeros((1, 3, 4, 4)), format="mp4")),
    ):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(runfold.Error, match=r"runfold\[media\]"):
                make()


# -- boxes and masks

BOX = {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 2}


def test_a_mask_keeps_every_class() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    layer = runfold.Image(RGB, masks={"truth": {"mask_data": mask}}).masks["truth"]
    assert np.array_equal(np.asarray(PIL.open(layer.content.encoded().path)), mask)
    assert layer.class_labels()[2][255] == "class_255"


def test_masks_and_boxes_may_be_tensors_and_numpy_numbers() -> None:
    image = runfold.Image(
        RGB,
        masks={"m": {"mask_data": torch.ones(2, 2, dtype=torch.int64), "class_labels": {1: "one"}}},
        boxes={"b": {"box_data": [{**BOX, "scores": {"p": np.float32(0.5)}, "class_id": np.int64(3)}]}},
    )
    assert image.classes == runfold.Classes([{"id": 3, "name": "class_3"}, {"id": 1, "name": "one"}])
    assert b'"scores":{"p":0.5}' in image.boxes["b"].content.encoded().path.read_bytes()


def test_a_mask_may_be_a_file() -> None:
    PIL.fromarray(RGB[:, :, 0]).save("mask.png")
    layer = runfold.Image(RGB, masks={"m": {"path": "mask.png"}}).masks["m"]
    assert layer.content.encoded().path.read_bytes() == Path("mask.png").read_bytes()
    assert layer.class_labels() is None


@pytest.mark.parametrize(
    "layer",
    [
        {"mask_data": np.zeros((2, 2, 2))},
        {"mask_data": np.array([[300]])},
        {"mask_data": np.array([[-1]])},
        {"mask_data": np.array([["a"]])},
        {"mask_data": np.zeros((2, 2)), "class_labels": {"a": "b"}},
    ],
)
def test_a_wrong_mask_is_a_type_error(layer: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        runfold.Image(RGB, masks={"m": layer})
