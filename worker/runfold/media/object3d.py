"""Object3D: a 3D model or a point cloud. In: a file, an array of points, a scene. Out: that file, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.json_text import json_text, plain
from runfold.media.media import BatchableMedia, need
from runfold.media.open_files import bytes_of, path_of

_SHAPES = """
The shape of the numpy array must be one of either
                [[x y z],       ...] nx3
                 [x y z c],     ...] nx4 where c is a category with supported range [1, 14]
                 [x y z r g b], ...] nx6 where rgb is color
"""
_POINTS = ".pts.json"


class Object3D(BatchableMedia):
    """A 3D model or point cloud for log()."""

    TYPE: ClassVar[str] = "object3D-file"
    FOLDER: ClassVar[str] = "media/object3D"
    LIST_TYPE: ClassVar[str | None] = "object3D"
    SUPPORTED_TYPES: ClassVar[tuple[str, ...]] = ("obj", "gltf", "glb", "babylon", "stl", "pts.json")
    SUPPORTED_POINT_CLOUD_TYPES: ClassVar[frozenset[str]] = frozenset({"lidar/beta"})

    def __init__(
        self, data_or_path: Any, caption: str | None = None, *, file_type: str | None = None
    ) -> None:
        """Capture it.

        Args:
            data_or_path: Path of a file or an open one; array (points, 3): x y z, (points, 4): with a
                category of 1 to 14, (points, 6): with red, green, blue; or a scene
                `{"type": "lidar/beta", "points":, "boxes":, "vectors":}`.
            file_type: Of what a file object without a name holds: obj, gltf, glb, babylon, stl, pts.json.

        Raises:
            ValueError: It is none of these. OSError: The file is not there.
        """
        super().__init__(caption)
        path = path_of(data_or_path)
        if path is not None:
            self._content = Content.of_file(path, self._suffix_of(path))
        elif hasattr(data_or_path, "read"):
            if file_type is None:
                raise ValueError("Must pass file type keyword argument when using io objects.")
            if file_type not in self.SUPPORTED_TYPES:
                raise ValueError(
                    f"Object 3D only supports numpy arrays or files of the type: {self._known()}"
                )
            self._content = Content.of_bytes(f".{file_type}", bytes_of(data_or_path))
        elif isinstance(data_or_path, Mapping) and "type" in data_or_path:
            if data_or_path["type"] not in self.SUPPORTED_POINT_CLOUD_TYPES:
                raise ValueError("Type not supported, only 'lidar/beta' is currently supported")
            self._take(_scene(data_or_path))
        elif hasattr(data_or_path, "shape") and hasattr(data_or_path, "dtype"):
            self._take_points(data_or_path)
        else:
            raise ValueError("data must be a numpy array, dict or a file object")

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: str | None = None) -> Object3D:
        """Return the object in a file; `file_type` is needed for file objects without a name."""
        return cls(data_or_path, file_type=file_type)

    @classmethod
    def from_numpy(cls, data: Any) -> Object3D:
        """Return a point cloud; see __init__. ValueError: it is no such array."""
        if not hasattr(data, "shape"):
            raise ValueError("`data` must be a numpy array")
        return cls(data)

    @classmethod
    def from_point_cloud(
        cls,
        points: Sequence[Any],
        boxes: Sequence[Any],
        vectors: Sequence[Any] | None = None,
        point_cloud_type: str = "lidar/beta",
    ) -> Object3D:
        """Return a scene of points (x y z; with a category, or a colour), labelled boxes and arrows.

        Args:
            boxes: `{"corners": 8 points, "label":, "color": [r, g, b], "score":}`; see `box3d`.
            vectors: `{"start": point, "end": point}`.
        """
        if point_cloud_type not in cls.SUPPORTED_POINT_CLOUD_TYPES:
            raise ValueError("Point cloud type not supported")
        return cls(
            {
                "type": point_cloud_type,
                "points": points,
                "boxes": boxes,
                "vectors": [] if vectors is None else vectors,
            }
        )

    @classmethod
    def describe_list(cls, items: Sequence[Object3D], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the form of lists."""
        return {
            "_type": cls.LIST_TYPE,
            "filenames": [json["path"].removeprefix(f"{cls.FOLDER}/") for json in jsons],
            "count": len(items),
            "objects": list(jsons),
        }

    @classmethod
    def _known(cls) -> str:
        return ", ".join(cls.SUPPORTED_TYPES)

    @classmethod
    def _suffix_of(cls, path: Path) -> str:
        for known in cls.SUPPORTED_TYPES:
            if path.name.endswith(f".{known}"):
                return f".{known}"
        raise ValueError(
            f"File '{path}' is not compatible with Object3D: supported types are: {cls._known()}"
        )

    def _take_points(self, array: Any) -> None:
        numpy = need("numpy", "runfold.Object3D of points")
        if hasattr(array, "detach"):
            array = array.detach().cpu()
        points = numpy.array(array)
        if points.ndim != 2 or points.shape[1] not in (3, 4, 6):
            raise ValueError(_SHAPES)
        self._content = Content.captured(
            _POINTS, lambda path: _write(path, json_text(points.tolist())), points.nbytes
        )

    def _take(self, scene: Mapping[str, Any]) -> None:
        self._content = Content.of_text(_POINTS, json_text(scene))


def _scene(given: Mapping[str, Any]) -> dict[str, Any]:
    parts = ("vectors", "points", "boxes")
    return {"type": given["type"], **{part: plain(given.get(part, [])) for part in parts}}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
