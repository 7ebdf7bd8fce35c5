"""Frames of videos, batches of them as a grid. Pure, over NumPy."""

from __future__ import annotations

from typing import Any

from runfold.media.media import need

_CHANNELS = (1, 3, 4)


def tiled(frames: Any) -> Any:
    """Return frames (time, height, width, 3) uint8, a copy.

    Args:
        frames: uint8 (time, channel, height, width), or (batch, time, channel, height, width): a batch is
            drawn as W&B does, filled up with black to a power of two, 2**(bits // 2) rows.

    Raises:
        ValueError: Another shape.
    """
    numpy = need("numpy", "runfold.Video of frames")
    if frames.ndim < 4:
        raise ValueError("Video must be at least 4 dimensions: time, channels, height, width")
    if frames.ndim == 4:
        frames = frames[None]
    if frames.ndim != 5 or frames.shape[2] not in _CHANNELS or not frames.size:
        raise ValueError(
            f"frames of shape {list(frames.shape)}: they are (time, channel, height, width), with 1, 3 or 4 "
            "channels, or such with a batch before"
        )
    if frames.shape[2] == 1:
        frames = numpy.repeat(frames, 3, axis=2)
    frames = frames[:, :, :3]
    batch, time, channels, height, width = frames.shape
    full = 1 << (batch - 1).bit_length()
    if full > batch:
        black = numpy.zeros((full - batch, time, channels, height, width), numpy.uint8)
        frames = numpy.concatenate((frames, black))
    rows = 2 ** ((batch.bit_length() - 1) // 2)
    columns = full // rows
    grid = frames.reshape(rows, columns, time, channels, height, width).transpose(2, 0, 4, 1, 5, 3)
    return numpy.array(grid).reshape(time, rows * height, columns * width, channels)
