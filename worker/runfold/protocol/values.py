"""Values as msgpack: what `pack_value` takes, `unpack_value` gives back, equal and of the same type.

None, bool, int of any size (ext 1: decimal ASCII outside 64 bits), float (always 64 bits; NaN, infinities and
-0.0 survive), str, bytes, list (tuples become lists), dict with str keys. A lone surrogate becomes U+FFFD.

Decoding n bytes allocates at most `decode_bound_bytes(n)`: counts and depth are checked on the bytes first.
"""

from __future__ import annotations

from typing import Any

import msgpack

from runfold.protocol.errors import DecodeError, LimitError
from runfold.protocol.limits import MAX_DEPTH, MAX_ELEMENTS, MAX_INT_DIGITS, MAX_RECORD_BYTES

_EXT_BIG_INT = 1
#: Integers of more bits than this have more than MAX_INT_DIGITS digits; asked before the costly conversion.
_MAX_INT_BITS = int(MAX_INT_DIGITS * 3.3220) + 1
#: Below this, even the worst nest of false lengths costs under 3 MB; the scan would cost more than decoding.
SCAN_ABOVE_BYTES = 1024
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_STR_ONLY = frozenset({str})
_SCALAR_TYPES = (type(None), bool, int, float, str, bytes, bytearray, memoryview)


def decode_bound_bytes(size: int, max_elements: int = MAX_ELEMENTS) -> int:
    """Return the most memory, in bytes, that decoding `size` bytes may allocate (an empty map costs 72)."""
    return 4 * 1024 * 1024 + 128 * min(size, max_elements) + 8 * size


def pack_value(
    value: Any,
    *,
    max_bytes: int = MAX_RECORD_BYTES,
    max_depth: int = MAX_DEPTH,
    max_elements: int = MAX_ELEMENTS,
) -> bytes:
    """Return `value` as msgpack.

    Raises:
        LimitError: Too large, too deep, too many elements, or an int of more than 4096 digits.
        TypeError: A value or a key of a type that does not travel.
    """
    check_tree(value, max_depth=max_depth, max_elements=max_elements)
    try:
        data: bytes = msgpack.packb(value, default=_pack_big_int)
    except UnicodeEncodeError:
        data = msgpack.packb(_without_surrogates(value), default=_pack_big_int)
    if len(data) > max_bytes:
        raise LimitError(f"a value of {len(data)} bytes; at most {max_bytes}", field="value", limit=max_bytes)
    return data


def unpack_value(
    data: bytes | memoryview,
    *,
    max_bytes: int = MAX_RECORD_BYTES,
    max_depth: int = MAX_DEPTH,
    max_elements: int = MAX_ELEMENTS,
) -> Any:
    """Return the value that `pack_value` packed.

    Raises:
        ProtocolError: Not one whole msgpack value of our types, or over a limit.
    """
    if len(data) > max_bytes:
        raise LimitError(f"a value of {len(data)} bytes; at most {max_bytes}", field="value", limit=max_bytes)
    if len(data) > SCAN_ABOVE_BYTES:
        scan(data, max_depth=max_depth, max_elements=max_elements)
    value = unpack_unchecked(data)
    try:
        check_tree(value, max_depth=max_depth, max_elements=max_elements)
    except TypeError as error:
        raise DecodeError(str(error), field="value") from error
    return value


def unpack_unchecked(data: bytes | memoryview) -> Any:
    """Decode msgpack whose size is already known to be harmless; ProtocolError on anything else wrong."""
    try:
        return msgpack.unpackb(data, ext_hook=_unpack_ext, strict_map_key=True)
    except LimitError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack of ours: {error}", field="value") from error


def check_tree(root: Any, *, max_depth: int, max_elements: int) -> None:
    """Walk containers level by level; LimitError over a limit, TypeError on a type that does not travel."""
    if type(root) in _SCALARS:
        return
    level = _containers((root,))
    depth, count = 0, 1
    while level:
        depth += 1
        if depth > max_depth:
            raise LimitError(f"nested deeper than {max_depth}", field="value", limit=max_depth)
        below: list[Any] = []
        for node in level:
            items = node
            count += len(node)
            if isinstance(node, dict):
                items = node.values()
                count += len(node)
                if not _STR_ONLY.issuperset(map(type, node)):
                    _check_keys(node)
            # Whole containers of scalars are told by one call; this runs for every row that travels as a map.
            if not _SCALARS.issuperset(map(type, items)):
                below += _containers(items)
            if count > max_elements:
                raise LimitError(f"more than {max_elements} elements", field="value", limit=max_elements)
        level = below


def _check_keys(node: dict[Any, Any]) -> None:
    for key in node:
        if not isinstance(key, str):
            raise TypeError(f"keys are str, not {type(key).__name__}")


def _containers(values: Any) -> list[Any]:
    found = []
    for value in values:
        if type(value) not in _SCALARS:
            if isinstance(value, (dict, list, tuple)):
                found.append(value)
            elif not isinstance(value, _SCALAR_TYPES):
                raise TypeError(f"a value of type {type(value).__name__} does not travel")
    return found


def _pack_big_int(value: Any) -> msgpack.ExtType:
    if not isinstance(value, int):
        raise TypeError(f"a value of type {type(value).__name__} does not travel")
    if value.bit_length() > _MAX_INT_BITS:
        raise LimitError("an int of too many digits", field="value", limit=MAX_INT_DIGITS)
    digits = str(int(value)).encode("ascii")
    if len(digits) - (value < 0) > MAX_INT_DIGITS:
        raise LimitError("an int of too many digits", field="value", limit=MAX_INT_DIGITS)
    return msgpack.ExtType(_EXT_BIG_INT, digits)


def _unpack_ext(code: int, data: bytes) -> int:
    if code != _EXT_BIG_INT:
        raise DecodeError(f"unknown extension type {code}", field="value")
    digits = data[1:] if data[:1] == b"-" else data
    if len(digits) > MAX_INT_DIGITS:
        raise LimitError("an int of too many digits", field="value", limit=MAX_INT_DIGITS)
    if not digits.isdigit():
        raise DecodeError("a big int that is not decimal", field="value")
    return int(data)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return (
            value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            if _is_lone(value)
            else value
        )
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


def _is_lone(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _sizes() -> tuple[int, ...]:
    """Whole size in bytes of an element by its first byte; negative where the size follows or items do."""
    table = [1] * 256
    table[0x80:0x90] = [_FIXMAP] * 16
    table[0x90:0xA0] = [_FIXARRAY] * 16
    table[0xA0:0xC0] = [1 + n for n in range(32)]
    table[0xC1] = _NEVER
    table[0xC4:0xCA] = [_BLOB1, _BLOB2, _BLOB4, _EXT1, _EXT2, _EXT4]
    table[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]
    table[0xD4:0xD9] = [3, 4, 6, 10, 18]
    table[0xD9:0xDC] = [_BLOB1, _BLOB2, _BLOB4]
    table[0xDC:0xE0] = [_ARRAY2, _ARRAY4, _MAP2, _MAP4]
    return tuple(table)


_FIXMAP, _FIXARRAY, _NEVER, _BLOB1, _BLOB2, _BLOB4, _EXT1, _EXT2, _EXT4 = range(-1, -10, -1)
_ARRAY2, _ARRAY4, _MAP2, _MAP4 = range(-10, -14, -1)
_SIZES = _sizes()
_BLOB_HEAD = {_BLOB1: (1, 2), _BLOB2: (2, 3), _BLOB4: (4, 5), _EXT1: (1, 3), _EXT2: (2, 4), _EXT4: (4, 6)}
_CONTAINER_HEAD = {_ARRAY2: (2, 1), _ARRAY4: (4, 1), _MAP2: (2, 2), _MAP4: (4, 2)}


def scan(data: bytes | memoryview, *, max_depth: int, max_elements: int) -> int:
    """Walk msgpack without building it; return its number of elements.

    A declared length is believed only when the bytes for it are there: a false one makes nobody allocate.

    Raises:
        ProtocolError: Over a limit, cut short, or followed by more bytes.
    """
    sizes, end = _SIZES, len(data)
    position, count = 0, 0
    left, pending = 1, 1  # items left in this container; and in all open ones
    outer: list[int] = []
    while True:
        while left == 0:
            if not outer:
                if position != end:
                    raise DecodeError(
                        "bytes after the value" if position < end else "cut short", field="value"
                    )
                return count
            left = outer.pop()
        if position >= end:
            raise DecodeError("cut short", field="value")
        first = data[position]
        left -= 1
        pending -= 1
        count += 1
        if count > max_elements:
            raise LimitError(f"more than {max_elements} elements", field="value", limit=max_elements)
        size = sizes[first]
        if size > 0:
            position += size
            continue
        if size in _BLOB_HEAD:
            width, head = _BLOB_HEAD[size]
            position += head + int.from_bytes(data[position + 1 : position + 1 + width], "big")
            continue
        if size == _FIXMAP:
            items, position = 2 * (first & 15), position + 1
        elif size == _FIXARRAY:
            items, position = first & 15, position + 1
        elif size == _NEVER:
            raise DecodeError("byte 0xc1 is not msgpack", field="value")
        else:
            width, per_item = _CONTAINER_HEAD[size]
            items = per_item * int.from_bytes(data[position + 1 : position + 1 + width], "big")
            position += 1 + width
        pending += items
        if pending > end - position:
            raise DecodeError("cut short", field="value")
        outer.append(left)
        if len(outer) > max_depth:
            raise LimitError(f"nested deeper than {max_depth}", field="value", limit=max_depth)
        left = items
