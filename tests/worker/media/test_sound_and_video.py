"""Audio and Video: what is encoded decodes to what went in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as PIL
from PIL import ImageSequence

import runfold
from runfold.media.video_frames import tiled

TONE = np.sin(np.arange(4000) / 10)
#: Frames (time, channel, height, width) of few colours in large areas: what a codec keeps.
FRAMES = np.zeros((6, 3, 32, 48), np.uint8)
for _at in range(6):
    FRAMES[_at, _at % 3, :, : 8 * (_at + 1)] = 200


def decoded(video: runfold.Video) -> np.ndarray:
    path = video.content.encoded().path
    if path.suffix == ".gif":
        with PIL.open(path) as opened:
            return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened)])
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [
        (TONE, 1 / 32768),
        (TONE.astype(np.float32), 1 / 32768),
        (np.stack([TONE, -TONE], axis=1), 1 / 32768),
        ((TONE * 30_000).astype(np.int16), 0),
        (torch.from_numpy(TONE), 1 / 32768),
        (TONE.tolist(), 1 / 32768),
    ],
)
def test_samples_come_out_as_they_went_in(samples: Any, tolerance: float) -> None:
    audio = runfold.Audio(samples, sample_rate=8000)
    expected = np.asarray(samples)
    kind = "int16" if expected.dtype == np.int16 else "float64"
    found, rate = soundfile.read(audio.content.encoded().path, dtype=kind)
    assert rate == 8000
    assert audio.duration == 0.5
    assert np.abs(found - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("samples", "rate", "error"),
    [
        (TONE, None, ValueError),
        (TONE, 0, ValueError),
        (np.zeros((2, 2, 2)), 8000, ValueError),
        (np.arange(3), 8000, TypeError),
        ("nowhere.wav", None, FileNotFoundError),
    ],
)
def test_wrong_samples_are_refused_at_once(samples: Any, rate: int | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        runfold.Audio(samples, sample_rate=rate)


def test_a_gif_keeps_frames_of_few_colours_exactly() -> None:
    video = runfold.Video(FRAMES, fps=10)
    assert (video.width, video.height) == (48, 32)
    assert np.array_equal(decoded(video), FRAMES.transpose(0, 2, 3, 1))
    with PIL.open(video.content.encoded().path) as opened:
        assert opened.info["duration"] == 100


@pytest.mark.parametrize("form", ["mp4", "webm", "ogg"])
def test_films_decode_to_nearly_the_same(form: str) -> None:
    video = runfold.Video(FRAMES, fps=5, format=form)
    found = decoded(video).astype(int)
    assert found.shape == (6, 32, 48, 3)
    assert np.abs(found - FRAMES.transpose(0, 2, 3, 1)).mean() < 8
    with av.open(str(video.content.encoded().path)) as container:
        assert container.streams.video[0].average_rate in (5, None)  # VP8 in Ogg says none


def test_odd_sizes_are_filled_up_by_one() -> None:
    video = runfold.Video(FRAMES[:, :, :31, :47], format="mp4")
    assert (video.width, video.height) == (47, 31)
    assert decoded(video).shape == (6, 32, 48, 3)


def test_gray_transparent_and_float_frames_are_drawn() -> None:
    gray = decoded(runfold.Video(FRAMES[:, :1], format="gif"))
    assert np.array_equal(gray[0], np.repeat(FRAMES[0, :1], 3, axis=0).transpose(1, 2, 0))
    clear = np.concatenate([FRAMES, FRAMES[:, :1]], axis=1)
    assert np.array_equal(decoded(runfold.Video(clear)), FRAMES.transpose(0, 2, 3, 1))
    floats = decoded(runfold.Video(torch.from_numpy(FRAMES / 1.0)))
    assert np.abs(floats.astype(int) - FRAMES.transpose(0, 2, 3, 1)).max() <= 1


@pytest.mark.parametrize(
    ("batch", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 1, 4), (4, 2, 2), (5, 2, 4)]
)
def test_a_batch_is_a_grid(batch: int, rows: int, columns: int) -> None:
    frames = np.stack([np.full((2, 3, 4, 6), 10 * (each + 1), np.uint8) for each in range(batch)])
    grid = tiled(frames)
    assert grid.shape == (2, rows * 4, columns * 6, 3)
    cells = grid[0, ::4, ::6, 0].ravel().tolist()
    assert cells == [10 * (each + 1) if each < batch else 0 for each in range(rows * columns)]


def test_files_and_bytes_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.mp4").write_bytes(b"film")
    for video in (runfold.Video("a.mp4", fps=3), runfold.Video(io.BytesIO(b"film"), format="mp4")):
        assert video.content.encoded().path.read_bytes() == b"film"
    assert "fps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (FRAMES[0], {}),
        (FRAMES[:, :2], {}),
        (FRAMES[:0], {}),
        (FRAMES[None, None], {}),
        (FRAMES, {"format": "avi"}),
        (FRAMES, {"fps": -1}),
        ([1, 2], {}),
        (b"film", {}),
        ("a.avi", {}),
    ],
)
def test_wrong_frames_are_refused_at_once(given: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        runfold.Video(given, **arguments)
