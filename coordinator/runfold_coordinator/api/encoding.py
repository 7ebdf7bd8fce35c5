"""Turns an answer into bytes: msgpack where the client accepts it (exact, arrays as bytes), else JSON.

JSON has no NaN and no infinities: they are the texts "NaN", "Infinity", "-Infinity", as on W&B's wire.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import msgpack
import numpy as np
from fastapi import Request, Response

MSGPACK = "application/msgpack"
#: msgpack extension of integers outside 64 bits: decimal ASCII, as on the wire of frames.
_EXT_BIG_INT = 1
#: msgpack extensions of typed arrays, little-endian, by numpy's kind and item size.
_EXT_ARRAYS = {"f8": 16, "i8": 17, "u8": 18, "u4": 19, "b1": 20}


def answer(request: Request, content: Any) -> Response:
    """Return `content` in the form that the request accepts; numpy arrays travel whole (see _EXT_ARRAYS)."""
    if accepts_msgpack(request):
        return Response(pack(content), media_type=MSGPACK)
    return Response(to_json(content), media_type="application/json")


def accepts_msgpack(request: Request) -> bool:
    """Tell whether the client asked for msgpack."""
    return MSGPACK in request.headers.get("accept", "")


def pack(content: Any) -> bytes:
    """Return msgpack."""
    packed: bytes = msgpack.packb(content, default=_pack_special)
    return packed


def to_json(content: Any) -> bytes:
    """Return strict JSON."""
    try:
        return json.dumps(content, allow_nan=False, default=_json_special).encode()
    except ValueError:  # NaN or an infinity, somewhere
        return json.dumps(_without_nan(content), allow_nan=False).encode()


def _pack_special(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        code = _EXT_ARRAYS.get(f"{value.dtype.kind}{value.dtype.itemsize}")
        if code is None or value.ndim != 1:
            return value.tolist()
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return msgpack.ExtType(code, little.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, int):  # outside 64 bits: everything else msgpack knows by itself
        return msgpack.ExtType(_EXT_BIG_INT, str(value).encode())
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _json_special(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (np.ndarray, np.generic, bytes)):
        return _without_nan(_json_special(value))
    return value
