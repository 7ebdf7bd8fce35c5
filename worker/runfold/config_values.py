"""What config takes, by W&B's rules, to what is stored. An odd object becomes its text; log() refuses it."""

from __future__ import annotations

import sys
from typing import Any

from runfold import log_values
from runfold.protocol.limits import MAX_DEPTH
from runfold.value_budget import MAX_TEXT_BYTES, Budget

_ARRAY_LIBRARIES = frozenset({"torch", "jax", "jaxlib", "tensorflow"})


def convert(value: Any, depth: int = 0) -> Any:
    """Return a config value as it is kept: None, bool, int, float, str, lists and dicts of such.

    NaN becomes None, an array of one element or of more than 32 its text, an enum its name, other objects
    their text; also those of classes derived from int and float.

    Raises:
        LimitError: A text or a list that no record takes.
    """
    kind = type(value)
    if kind is str and len(value) > MAX_TEXT_BYTES:
        Budget().check_text(len(value))
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return None if value != value else value  # noqa: PLR0124  # NaN
    if depth >= MAX_DEPTH - 2:
        return _text(value)
    if isinstance(value, dict):
        Budget().check_elements(2 * len(value))
        return {_key(key): convert(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        Budget().check_elements(len(value))
        return [convert(item, depth + 1) for item in value]
    if isinstance(value, slice):
        return {"slice_start": value.start, "slice_step": value.step, "slice_stop": value.stop}
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: convert(getattr(value, name), depth + 1) for name in value.__dataclass_fields__}
    return _odd(value, depth)


def _odd(value: Any, depth: int) -> Any:
    import collections
    import datetime
    import enum

    if isinstance(value, enum.Enum):
        return value.name
    library = type(value).__module__.partition(".")[0]
    if library == "runfold" and hasattr(value, "to_json"):
        kind = type(value).__name__
        raise TypeError(f"WBValue objects cannot be added to the run config: a {kind} is something to log")
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _from_array(value, depth)
    if numpy is not None and isinstance(value, numpy.generic):
        return _from_scalar(value, depth)
    if library == "torch" and hasattr(value, "numel") and value.numel() > log_values.MAX_ARRAY_ELEMENTS:
        return _text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (bytearray, memoryview)):
        return convert(list(value), depth + 1)
    if isinstance(value, complex):
        return log_values.convert(value)
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # NaN
        return None
    if isinstance(value, str):
        return str.__str__(value)
    if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (collections.deque, collections.UserList)):
        return convert(list(value), depth)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time) or library in _ARRAY_LIBRARIES:
        try:
            return convert(log_values.convert(value, depth), depth + 1)
        except (TypeError, ValueError):
            pass
    return _text(value)


def _from_array(value: Any, depth: int) -> Any:
    """Return a NumPy array; one of one element is the text of that, as the client has it."""
    if value.size == 1:
        return _text(value.flatten()[0])
    return _text(value) if value.size > log_values.MAX_ARRAY_ELEMENTS else convert(value.tolist(), depth + 1)


def _from_scalar(value: Any, depth: int) -> Any:
    item = value.item()
    if isinstance(item, bytes):
        return list(item)
    if type(item) is type(value):  # wider than Python's numbers
        return convert(float(value)) if value.dtype.kind == "f" else _text(value)
    return convert(item, depth + 1)


def _key(key: object) -> str:
    return str.__str__(key) if isinstance(key, str) else str(key)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # a broken __str__ must not end training
        return f"<{type(value).__name__}>"
