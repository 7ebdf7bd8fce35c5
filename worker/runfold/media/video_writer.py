"""Writes frames as a video file: gif by Pillow, everything else by FFmpeg through PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from runfold.errors import Error
from runfold.media.media import need

#: Encoders of a format, the best first: what FFmpeg was built with differs.
_ENCODERS = {
    "mp4": ("libx264", "libopenh264", "mpeg4"),
    "webm": ("libvpx-vp9", "libvpx"),
    "ogg": ("libtheora", "libvpx"),
}
#: Near lossless for what training shows, at a fraction of the size.
_OPTIONS = {
    "libx264": {"crf": "18"},
    "libvpx-vp9": {"crf": "20", "b": "0"},
    "libvpx": {"crf": "8", "b": "4M"},
}


def check_can_write(file_type: str) -> None:
    """Raise Error when a format can't be written here; says what to install."""
    if file_type == "gif":
        need("PIL.Image", "runfold.Video of frames").preinit()  # now, and not in the encoder's thread
    else:
        _encoder(file_type)


def write_video(path: Path, frames: Any, fps: float, file_type: str) -> None:
    """Write a file.

    Args:
        frames: uint8 (time, height, width, 3).
        fps: Frames a second. A gif counts in hundredths of a second.

    Raises:
        OSError: It can't be written; also what FFmpeg says.
    """
    if file_type == "gif":
        _write_gif(path, frames, fps)
    else:
        _write_by_ffmpeg(path, frames, fps, file_type)


def _write_gif(path: Path, frames: Any, fps: float) -> None:
    pillow = need("PIL.Image", "runfold.Video of frames")
    pictures = [pillow.fromarray(frame) for frame in frames]
    pictures[0].save(
        path, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0
    )


def _write_by_ffmpeg(path: Path, frames: Any, fps: float, file_type: str) -> None:
    av = need("av", f"runfold.Video as {file_type}")
    numpy = need("numpy", "runfold.Video of frames")
    encoder = _encoder(file_type)
    # What players show has an even size: colours are kept for two by two pixels.
    height, width = frames.shape[1:3]
    frames = numpy.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w", format=file_type) as container:
        stream = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = _OPTIONS.get(encoder, {})
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _encoder(file_type: str) -> str:
    av = need("av", f"runfold.Video as {file_type}")
    for name in _ENCODERS[file_type]:
        if name in av.codecs_available:
            return name
    raise Error(f"this build of FFmpeg writes no {file_type}: take another format")
