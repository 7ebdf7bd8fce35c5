"""run.summary, as W&B has it: reads what was logged and set by hand, writes what is set by hand.

In: item and attribute access. Out: SUMMARY records to the run; reading goes by the fold in live_fold.py.
"""

from __future__ import annotations

import datetime
import enum
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runfold import log_values
from runfold.protocol.errors import LimitError
from runfold.protocol.history.leaf import ABSENT
from runfold.protocol.keypath import KeyPath
from runfold.protocol.limits import MAX_DEPTH
from runfold.protocol.records import SummaryRecord
from runfold.value_budget import MAX_LIST_ELEMENTS, MAX_TEXT_BYTES, Budget

#: Arrays of which the summary keeps statistics: those of as many bytes take about two seconds.
MAX_ARRAY_BYTES = 64 * 1024 * 1024

Change = tuple[str, KeyPath, Any] | tuple[str, KeyPath]


class _SummaryDict:
    """What the summary and the dicts in it share. As in W&B: no `in`, no iteration, no `len`, no `items`."""

    __slots__ = ()

    def _as_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def _change(self, changes: list[Change]) -> None:
        raise NotImplementedError

    def keys(self) -> list[str]:
        """Return the keys, W&B's own bookkeeping left out."""
        return [key for key in self._as_dict() if key != "_wandb"]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`; nested dicts come as plain dicts."""
        value = self._as_dict().get(key, ABSENT)
        return default if value is ABSENT else _copied(value)

    def update(self, d: dict[str, Any]) -> None:
        """Set several values by hand. A dict as value is kept as one value.

        Raises:
            AttributeError: `d` is no dict.
            TypeError: A key is no str, or a value is of a type that can't be kept.
        """
        changes: list[Change] = []
        for key, value in d.items():
            changes.append(("set", (_key(key),), convert(value)))
        if changes:
            self._change(changes)

    def __getitem__(self, key: str) -> Any:
        value = self._as_dict()[key]
        return SummarySubDict(value, self, key) if isinstance(value, dict) else _copied(value)

    def __getattr__(self, key: str) -> Any:
        return self[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __setattr__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        self._change([("del", (_key(key),))])

    def __delattr__(self, key: str) -> None:
        del self[key]


class Summary(_SummaryDict):
    """The summary of a run: per key what was logged last, or what define_metric() asked for.

    A value set by hand stays until it is deleted. Thread-safe as far as the two callbacks are.
    """

    __slots__ = ("_read", "_write")

    def __init__(self, read: Callable[[], dict[str, Any]], write: Callable[[SummaryRecord], None]) -> None:
        """Take the two callbacks.

        Args:
            read: Returns the summary now, as nested dicts; the result is not changed.
            write: Takes what was set and deleted by hand; raises when the run is finished.
        """
        object.__setattr__(self, "_read", read)
        object.__setattr__(self, "_write", write)

    def _as_dict(self) -> dict[str, Any]:
        summary: dict[str, Any] = self._read()
        return summary

    def _change(self, changes: list[Change]) -> None:
        self._write(SummaryRecord(tuple(changes)))

    def __repr__(self) -> str:
        return json.dumps(self._as_dict(), default=str)


class SummarySubDict(_SummaryDict):
    """A dict inside the summary, as it was when it was read; what is set in it goes to the run."""

    __slots__ = ("_items", "_key", "_parent")

    def __init__(self, items: dict[str, Any], parent: _SummaryDict, key: str) -> None:
        object.__setattr__(self, "_items", items)
        object.__setattr__(self, "_parent", parent)
        object.__setattr__(self, "_key", key)

    def _as_dict(self) -> dict[str, Any]:
        items: dict[str, Any] = self._items
        return items

    def _change(self, changes: list[Change]) -> None:
        self._parent._change([_below(self._key, change) for change in changes])  # noqa: SLF001  # one family

    def __repr__(self) -> str:
        return json.dumps(self._items, default=str)


def _below(key: str, change: Change) -> Change:
    if len(change) == 2:
        return (change[0], (key, *change[1]))
    return (change[0], (key, *change[1]), change[2])


def _copied(value: Any) -> Any:
    """Return a value that may be changed: what the summary holds is read again by others."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a summary key must be a str, not {type(key).__name__}")
    return str.__str__(key)


def convert(value: Any, depth: int = 0) -> Any:
    """Return a value set by hand as it is kept: as log() does, but for enums, large arrays and NaN.

    Media, and lists of media, stay what they are: the run stores them.

    Raises:
        TypeError: A type that can't be kept, or a dict key that is no str.
        ValueError: Nested too deep. LimitError: More than a record takes, or too large an array.
    """
    kind = type(value)
    if kind is float:
        return None if value != value else value  # noqa: PLR0124  # NaN shows nothing, as in W&B
    if kind in (str, dict, list, tuple, set):
        _check_length(value)
    if value is None or kind in (bool, str):
        return value
    if depth > MAX_DEPTH - 4:
        raise ValueError("a summary value that is nested too deep, or contains itself")
    if isinstance(value, dict):
        return {_key(key): convert(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and (media := log_values.media_list(value, ())) is not None:
        return media
    if isinstance(value, (list, tuple, set)):
        return _converted_list(value, depth)
    return _convert_other(value, depth)


def _convert_other(value: Any, depth: int) -> Any:
    if (medium := log_values.as_media(value)) is not None:
        return medium.logged_at(())[1]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    array = _large_array(value)
    if array is not None:
        return _array_statistics(array, value)
    if isinstance(value, Mapping):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    converted = log_values.convert(value)
    if isinstance(converted, (float, dict)):
        return convert(converted, depth + 1)
    return converted


def _converted_list(values: Iterable[Any], depth: int) -> list[Any]:
    """Convert a list; unlike elsewhere NaN stays NaN in it, and enums and dates are as log() has them."""
    return [_in_list(item, depth) for item in values]


def _in_list(item: Any, depth: int) -> Any:
    if type(item) is float:
        return item
    numpy: Any = sys.modules.get("numpy")
    plain = (enum.Enum, datetime.date) if numpy is None else (enum.Enum, datetime.date, numpy.generic)
    return log_values.convert(item) if isinstance(item, plain) else convert(item, depth + 1)


def _large_array(value: Any) -> Any:
    """Return a NumPy or torch array of more than 32 elements as a NumPy array, else None."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        if value.numel() <= log_values.MAX_ARRAY_ELEMENTS:
            return None
        _check_size(value.numel() * value.element_size())
        return value.detach().cpu().numpy()
    if isinstance(value, numpy.ndarray) and value.size > log_values.MAX_ARRAY_ELEMENTS:
        _check_size(value.nbytes)
        return value
    return None


def _check_length(value: Any) -> None:
    """Raise LimitError for a text or a container that no record takes, before anything passes over it."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT_BYTES:
            Budget().check_text(len(value))
    elif len(value) > MAX_LIST_ELEMENTS // 2:
        Budget().check_elements(len(value) * (2 if isinstance(value, dict) else 1))


def _check_size(size: int) -> None:
    """Raise LimitError for an array of `size` bytes that is too large: its percentiles take a copy of it."""
    if size > MAX_ARRAY_BYTES:
        raise LimitError(
            f"an array of {size:,} bytes; the summary takes at most {MAX_ARRAY_BYTES:,}. Set what you need "
            "of it (its mean, its percentiles), or save it as a file (run.save) or in an artifact",
            field="value",
            limit=MAX_ARRAY_BYTES,
        )


def _array_statistics(array: Any, value: Any) -> dict[str, Any]:
    numpy: Any = sys.modules["numpy"]
    library = type(value).__module__.partition(".")[0]
    statistics = {
        "var": numpy.var(array),
        "mean": numpy.mean(array),
        "min": numpy.amin(array),
        "max": numpy.amax(array),
    }
    # One at a time, as the client does: all at once they round otherwise.
    statistics |= {f"{percent}%": numpy.percentile(array, percent) for percent in (10, 25, 75, 90)}
    shown = {name: item.item() for name, item in statistics.items()}
    return {"_type": f"{library}.{type(value).__name__}", **shown, "size": int(array.size)}
