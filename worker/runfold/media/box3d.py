"""box3d: a box in a point cloud, from its center, size and orientation to its corners."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any


def box3d(
    *,
    center: Sequence[float],
    size: Sequence[float],
    orientation: Sequence[float],
    color: Sequence[float],
    label: str | None = None,
    score: float | None = None,
) -> dict[str, Any]:
    """Return a box for `Object3D.from_point_cloud`.

    Args:
        center: x, y, z.
        size: Along the box's own axes.
        orientation: Quaternion (r, x, y, z), not zero: the rotation from global to the box's own axes.
        color: Red, green, blue.

    Raises:
        AssertionError: Center, size or orientation has another length. ValueError: A quaternion of zeros.
    """
    middle, lengths, quaternion = ([float(part) for part in given] for given in (center, size, orientation))
    if (len(middle), len(lengths), len(quaternion)) != (3, 3, 4):
        raise AssertionError("center and size have 3 numbers, orientation has 4")
    rotation = _rotation(quaternion)
    corners = []
    for signs in itertools.product((-1, 1), repeat=3):
        local = [0.5 * length * sign for length, sign in zip(lengths, signs, strict=True)]
        corners.append(
            tuple(
                middle[axis] + sum(local[row] * rotation[row][axis] for row in range(3)) for axis in range(3)
            )
        )
    return {"corners": tuple(corners), "color": color, "label": label, "score": score}


def _rotation(quaternion: Sequence[float]) -> list[list[float]]:
    """Return the matrix R of a quaternion, for row vectors: `x @ R`.

    https://en.wikipedia.org/wiki/Quaternions_and_spatial_rotation, transposed.
    """
    norm = math.sqrt(sum(part * part for part in quaternion))
    if norm == 0:
        raise ValueError("Unexpected zero quaternion.")
    r, i, j, k = (part / norm for part in quaternion)
    return [
        [1 - 2 * (j * j + k * k), 2 * (i * j + k * r), 2 * (i * k - j * r)],
        [2 * (i * j - k * r), 1 - 2 * (i * i + k * k), 2 * (j * k + i * r)],
        [2 * (i * k + j * r), 2 * (j * k - i * r), 1 - 2 * (i * i + j * j)],
    ]
