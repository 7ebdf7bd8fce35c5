"""Video: moving pictures to log. In: frames, bytes, or a path. Out: a gif, mp4, webm or ogg file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from runfold import terminal
from runfold.media.content import Content
from runfold.media.media import BatchableMedia, all_captions
from runfold.media.pixels import as_array, to_uint8
from runfold.media.video_frames import tiled
from runfold.media.video_writer import check_can_write, write_video

#: Frames a second where none are said.
_FPS = 4


class Video(BatchableMedia):
    """A video for log()."""

    TYPE: ClassVar[str] = "video-file"
    FOLDER: ClassVar[str] = "media/videos"
    LIST_TYPE: ClassVar[str | None] = "videos"
    EXTS: ClassVar[tuple[str, ...]] = ("gif", "mp4", "webm", "ogg")

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        fps: float | None = None,
        format: str | None = None,  # noqa: A002  # W&B's name
    ) -> None:
        """Capture it.

        Args:
            data_or_path: Frames (time, channel, height, width), or (batch, time, channel, height, width),
                drawn as a grid; values in [0, 255], or floats in [0, 1]; 1, 3 or 4 channels. Or the path
                of a file, or its bytes.
            fps: Frames a second, 4 by default; for frames only.
            format: gif, mp4, webm or ogg; gif by default for frames, and needed for bytes.

        Raises:
            ValueError: No such format, or no such frames. OSError: The file is not there. Error: The library
            that encodes is not installed.
        """
        super().__init__(caption)
        self.width: int | None = None
        self.height: int | None = None
        if fps and isinstance(data_or_path, (str, Path, bytes, io.BytesIO)):
            terminal.warn_once("Video: `fps` does not change the frame rate of a file or of its bytes")
        if isinstance(data_or_path, (bytes, io.BytesIO)):
            if format is None:
                raise ValueError(
                    "wandb.Video requires a `format` argument when initializing with raw bytes "
                    "(an io object)."
                )
            self._check_format(format)
            data = data_or_path.read() if isinstance(data_or_path, io.BytesIO) else data_or_path
            self._content = Content.of_bytes(f".{format}", data)
        elif isinstance(data_or_path, (str, Path)):
            path = Path(data_or_path)
            self._check_format(path.suffix[1:].lower())
            self._content = Content.of_file(path, path.suffix)
        else:
            self._take_frames(data_or_path, fps or _FPS, format or "gif")

    def facts(self) -> Mapping[str, Any]:
        """Return its size, where it is known."""
        return {} if self.width is None else {"width": self.width, "height": self.height}

    @classmethod
    def describe_list(cls, items: Sequence[Video], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists."""
        return {
            "_type": cls.LIST_TYPE,
            "count": len(items),
            "videos": list(jsons),
            "captions": all_captions(items),
        }

    def _take_frames(self, data: Any, fps: float, file_type: str) -> None:
        self._check_format(file_type)
        if not hasattr(data, "shape"):
            raise ValueError("wandb.Video accepts a file path or numpy like data as input")
        if fps <= 0:
            raise ValueError(f"{fps} frames a second: it is a number above 0")
        frames = tiled(to_uint8(as_array(data), normalize=None))
        check_can_write(file_type)
        self.height, self.width = frames.shape[1:3]
        self._content = Content.captured(
            f".{file_type}", lambda path: write_video(path, frames, fps, file_type), frames.nbytes
        )

    @classmethod
    def _check_format(cls, file_type: str) -> None:
        if file_type not in cls.EXTS:
            raise ValueError(f"wandb.Video accepts {', '.join(cls.EXTS)} formats")
