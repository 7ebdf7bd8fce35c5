"""One array as bytes: constants and arithmetic runs shrink to a few numbers, the rest stays raw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: [dtype, "c", value] | [dtype, "a", first, stride] | [dtype, "r"]; numbers are int or float.
Header = list[Any]

_ALLOWED = frozenset({"<f8", "<i8", "<u8", "<u4", "|u1", "|b1"})


def describe(array: Array, *, may_run: bool = False) -> tuple[Header, Array | None]:
    """Return the header and what has to be stored raw (None when the header says it all).

    Args:
        may_run: Look for an arithmetic run (seqs, steps, bucket bounds); integers only.
    """
    dtype = array.dtype.str
    n = len(array)
    if n == 0:
        return [dtype, "r"], array
    if may_run:
        first = int(array[0])
        if n == 1:
            return [dtype, "c", first], None
        stride = int(array[1]) - first
        # Cheap test at the end first: random arrays leave here without a pass over all.
        if int(array[-1]) - first == stride * (n - 1) and _is_run(array, first, stride):
            return ([dtype, "a", first, stride] if stride else [dtype, "c", first]), None
    elif array.dtype in (np.uint8, np.bool_):
        value = array[0]
        if (array == value).all():
            return [dtype, "c", int(value)], None
    return [dtype, "r"], array


def _is_run(array: Array, first: int, stride: int) -> bool:
    signed = array.view(np.int64) if array.dtype.itemsize == 8 else array.astype(np.int64)
    return bool((signed[1:] - signed[:-1] == stride).all()) and first >= -(2**62) and first < 2**63


def restore(header: Header, n: int, raw: memoryview | None) -> Array:
    """Return the array; raw ones are read-only views of `raw`."""
    dtype, how = header[0], header[1]
    if dtype not in _ALLOWED:
        raise ValueError(f"unknown array type {dtype!r}")
    if how == "c":
        return np.full(n, header[2], dtype=dtype)
    if how == "a":
        first, stride = int(header[2]), int(header[3])
        run = np.arange(first, first + stride * n, stride, dtype=np.int64)
        return run.view(dtype) if run.itemsize == np.dtype(dtype).itemsize else run.astype(dtype)
    assert raw is not None, "a raw array has bytes"
    return np.frombuffer(raw, dtype=dtype, count=n)
