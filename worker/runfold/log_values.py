"""What log() takes, by W&B's rules, to what travels: leaves of None, bool, int64, float, str and lists of
such. Media stay what they are, as leaves: their files and their JSON are made later.

In: the dict of one call. Out: [(key path, leaf)]. numpy, torch and others are used where the script loaded
them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from runfold import terminal
from runfold.media.media import Media, MediaList
from runfold.protocol.keypath import KeyPath
from runfold.protocol.limits import MAX_DEPTH

Cell = tuple[KeyPath, Any]

#: Arrays of more elements become histograms.
MAX_ARRAY_ELEMENTS = 32
HISTOGRAM_BINS = 32

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_PLAIN = frozenset({type(None), bool, float, str})
#: Keys that a row has by itself: what the caller says under them is dropped.
_UNLOGGABLE = frozenset({"_step", "_runtime"})
#: Libraries whose arrays numpy takes over by itself.
_ARRAY_LIBRARIES = frozenset({"jax", "jaxlib", "tensorflow", "cupy"})
#: Libraries whose figures can be logged as they are.
_FIGURE_LIBRARIES = frozenset({"matplotlib", "mpl_toolkits", "plotly", "pylab"})


def flatten(data: object) -> list[Cell]:
    """Return the leaves of one log() call, in order; nested dicts become longer paths.

    Raises:
        TypeError: `data` is no mapping, a top-level key is no str, or a value is of a type that can't be
        logged. ValueError: A value can't be converted: too deep, bytes that are not UTF-8, an array without
        a finite range.
    """
    if not isinstance(data, Mapping):
        raise TypeError("wandb.log must be passed a dictionary")
    for key in data:
        if not isinstance(key, str):
            raise TypeError("Key values passed to `wandb.log` must be strings.")
    cells: list[Cell] = []
    for key, value in data.items():
        text = str.__str__(key)
        if text and text not in _UNLOGGABLE:
            _flatten_into(cells, (text,), value)
    return cells if len(cells) < 2 else _without_repeats(cells)


def flatten_leaf(path: KeyPath, value: Any) -> list[Cell]:
    """Return the leaves of one value of a row; see `flatten`."""
    cells: list[Cell] = []
    _flatten_into(cells, path, value)
    return cells


def _flatten_into(cells: list[Cell], path: KeyPath, value: Any) -> None:
    if type(value) in _PLAIN:
        cells.append((path, value))
        return
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Media) for item in value):
        cells.append((path, MediaList.of([item.logged_at(path)[1] for item in value])))
        return
    leaf = convert(value, len(path), takes_media=True)
    if isinstance(leaf, dict):
        if len(path) >= MAX_DEPTH:
            raise ValueError(f"a key of more than {MAX_DEPTH} parts, or a dict that contains itself")
        for key, item in leaf.items():
            _flatten_into(cells, (*path, key), item)
    elif isinstance(leaf, Media):
        cells.append(leaf.logged_at(path))
    else:
        cells.append((path, leaf))


def _without_repeats(cells: list[Cell]) -> list[Cell]:
    """Nested keys that turn into the same text, as 1 and "1" do: the later one stands."""
    by_path = dict(cells)
    return cells if len(by_path) == len(cells) else list(by_path.items())


def convert(value: Any, depth: int = 0, *, takes_media: bool = False) -> Any:
    """Return one value as it travels. A dict is converted one level only; lists are converted whole.

    Args:
        takes_media: Return media as they are; figures, too, as media.

    Raises:
        TypeError: A type that can't be logged.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if _INT64_MIN <= value <= _INT64_MAX else _big(value)
    if depth > 2 * MAX_DEPTH:
        raise ValueError("a value that is nested too deep, or contains itself")
    if isinstance(value, dict):
        return {_nested_key(key): item for key, item in value.items() if key != ""}
    if isinstance(value, (list, tuple)):
        return [_deep(item, depth + 1) for item in value]
    library = kind.__module__.partition(".")[0]
    if library == "numpy" and "numpy" in sys.modules:
        return _from_numpy(value, depth)
    if library == "torch" and hasattr(value, "detach"):
        return _from_torch(value, depth)
    if library in _ARRAY_LIBRARIES and hasattr(value, "__array__") and "numpy" in sys.modules:
        return _from_numpy(sys.modules["numpy"].asarray(value), depth)
    return _from_python(value, depth, takes_media=takes_media)


def _deep(value: Any, depth: int) -> Any:
    """Convert to the bottom: dicts inside lists are no keys of the row."""
    converted = convert(value, depth)
    if isinstance(converted, dict):
        return {key: _deep(item, depth + 1) for key, item in converted.items()}
    return converted


def _nested_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, tuple):
        return ",".join(map(str, key))
    return str(key)


def _big(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _from_numpy(value: Any, depth: int) -> Any:
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, numpy.generic):
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, numpy.longdouble):
            return float(value)
        item = value.item()
        if isinstance(value, numpy.datetime64) and isinstance(item, int):  # nanoseconds have no datetime
            return str(value)
        return _deep(item, depth)
    if not isinstance(value, numpy.ndarray):
        return _from_python(value, depth)
    if value.size == 1:
        return _deep(value.item(), depth)
    if value.size <= MAX_ARRAY_ELEMENTS:
        return _deep(value.tolist(), depth)
    counts, edges = numpy.histogram(value.flatten(), bins=HISTOGRAM_BINS)
    return {"_type": "histogram", "values": counts.tolist(), "bins": edges.tolist()}


def _from_torch(value: Any, depth: int) -> Any:
    if value.is_cuda:
        terminal.warn_once(
            "a CUDA tensor was logged: reading it makes training wait for the GPU. "
            "Log .item() of values that are on the host already, or log less often"
        )
    if value.numel() == 1:
        return _deep(value.detach().item(), depth)
    return _from_numpy(value.detach().cpu().numpy(), depth)


def _from_python(value: Any, depth: int, *, takes_media: bool = False) -> Any:
    if type(value).__module__ == "runfold.plot.chart":
        if not takes_media:  # a chart is a key of a row of its own: in a list or a summary there is none
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
        return value.as_media()
    if takes_media and (medium := as_media(value)) is not None:
        return medium
    for kind, how in _conversions():
        if isinstance(value, kind):
            return how(value, depth)
    if type(value).__module__ == "runfold.histogram":
        return value.to_json()
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def as_media(value: Any) -> Media | None:
    """Return a value that is a medium, or a figure or a DataFrame as one; else None."""
    if isinstance(value, Media):
        return value
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, getattr(pandas, "DataFrame", ())):
        from runfold.media.table import Table

        return Table(dataframe=value)
    library = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    if isinstance(library, str) and library.partition(".")[0] in _FIGURE_LIBRARIES:
        from runfold.media import figures

        if figures.is_plotly(value) or figures.is_matplotlib(value):
            return figures.media_of(value)
    return None


_found_conversions: list[tuple[Any, Callable[[Any, int], Any]]] = []


def _conversions() -> list[tuple[Any, Callable[[Any, int], Any]]]:
    """Return (types, conversion) in order of precedence. Made when first needed: imports cost."""
    if not _found_conversions:
        import collections
        import collections.abc
        import datetime
        import decimal
        import enum
        import fractions
        import ipaddress
        import pathlib
        import re
        import uuid

        def to_list(value: Any, depth: int) -> Any:
            return [_deep(item, depth + 1) for item in value]

        _found_conversions.extend(
            [
                (enum.Enum, lambda value, depth: _deep(value.value, depth + 1)),
                (bool, lambda value, _: bool(value)),
                (int, lambda value, depth: convert(int(value), depth)),
                (float, lambda value, _: float(value)),
                (str, lambda value, _: str.__str__(value)),
                (
                    collections.abc.Mapping,
                    lambda value, _: {_nested_key(key): item for key, item in value.items() if key != ""},
                ),
                ((bytes, bytearray), lambda value, _: value.decode("utf-8")),
                ((set, frozenset, collections.deque, collections.abc.Iterator), to_list),
                ((datetime.datetime, datetime.time), lambda value, _: _iso_time(value)),
                (datetime.date, lambda value, _: value.isoformat()),
                (datetime.timedelta, lambda value, _: _iso_duration(value)),
                (
                    (decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath),
                    lambda value, _: str(value),
                ),
                (
                    (
                        *(ipaddress.IPv4Address, ipaddress.IPv4Network),
                        *(ipaddress.IPv6Address, ipaddress.IPv6Network),
                    ),
                    lambda value, _: str(value),
                ),
                (re.Pattern, lambda value, _: value.pattern),
                (complex, lambda value, _: str(value).strip("()")),
            ]
        )
    return _found_conversions


def _iso_time(value: Any) -> str:
    text: str = value.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _iso_duration(value: Any) -> str:
    """Return a timedelta as ISO 8601, as pydantic writes it: P1DT2H3M4.5S."""
    sign = "-" if value.days < 0 else ""
    value = abs(value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    date = f"{value.days}D" if value.days else ""
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction or not (date or time):
        time += f"{seconds}{fraction}S"
    return f"{sign}P{date}{'T' + time if time else ''}"
