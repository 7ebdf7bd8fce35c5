"""What log() takes, by W&B's rules, to what travels: leaves of None, bool, int64, float, str and lists of
such. Media stay what they are, as leaves: their files and their JSON are made later.

In: the dict of one call. Out: [(key path, leaf)]. numpy, torch and others are used where the script loaded
them.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runfold import array_histogram, python_values, terminal
from runfold.media.media import Media, MediaList
from runfold.protocol.errors import LimitError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.limits import MAX_DEPTH
from runfold.value_budget import FREE_CELLS, SHORT_TEXT, Budget
from runfold.wb_value import WBValue

Cell = tuple[KeyPath, Any]

#: Arrays of more elements become histograms.
MAX_ARRAY_ELEMENTS = 32
HISTOGRAM_BINS = 32

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_PLAIN = frozenset({type(None), bool, float, str})
#: Lists of these alone need no look at each element.
_NUMBERS = frozenset({type(None), bool, float, int})
#: Keys that a row has by itself: what the caller says under them is dropped.
_UNLOGGABLE = frozenset({"_step", "_runtime"})
#: Libraries whose arrays numpy takes over by itself.
_ARRAY_LIBRARIES = frozenset({"jax", "jaxlib", "tensorflow", "cupy"})
#: Libraries whose figures can be logged as they are.
_FIGURE_LIBRARIES = frozenset({"matplotlib", "mpl_toolkits", "plotly", "pylab"})


def flatten(data: object, refuse: Callable[[str, LimitError], None] | None = None) -> list[Cell]:
    """Return the leaves of one log() call, in order; nested dicts become longer paths.

    Args:
        refuse: Told of values that are too large, which are left out; without it their LimitError is raised.

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
    budget = Budget()
    for key, value in data.items():
        text = str.__str__(key)
        if not text or text in _UNLOGGABLE:
            continue
        if type(value) in _PLAIN and (type(value) is not str or len(value) <= SHORT_TEXT):
            cells.append(((text,), value))
            continue
        count, left = len(cells), budget.left
        try:
            _flatten_into(cells, (text,), value, budget)
        except LimitError as error:
            if refuse is None:
                raise
            del cells[count:]
            budget.left = left
            refuse(text, error)
    if len(cells) > FREE_CELLS:
        _cut(cells, budget, refuse)
    return cells if len(cells) < 2 else _without_repeats(cells)


def _cut(cells: list[Cell], budget: Budget, refuse: Callable[[str, LimitError], None] | None) -> None:
    """Leave out what is beyond the limits of a row: the last of very many keys."""
    fitting = budget.cells_that_fit(cells)
    if fitting < len(cells):
        error = LimitError(
            f"{len(cells):,} keys in a row, of which {fitting:,} fit. Log them in several rows, or a Table",
            field="value",
            limit=fitting,
        )
        if refuse is None:
            raise error
        refuse(f"{cells[fitting][0][0]} and what follows it", error)
        del cells[fitting:]


def flatten_leaf(path: KeyPath, value: Any) -> list[Cell]:
    """Return the leaves of one value of a row; see `flatten`."""
    cells: list[Cell] = []
    _flatten_into(cells, path, value, Budget())
    return cells


def _flatten_into(cells: list[Cell], path: KeyPath, value: Any, budget: Budget) -> None:
    if type(value) in _PLAIN:
        if type(value) is str:
            budget.text(value)
        cells.append((path, value))
        return
    if isinstance(value, (list, tuple)) and (media := media_list(value, path)) is not None:
        cells.append((path, media))
        return
    leaf = convert(value, len(path), takes_media=True, budget=budget)
    if isinstance(leaf, dict):
        if len(path) >= MAX_DEPTH:
            raise ValueError(f"a key of more than {MAX_DEPTH} parts, or a dict that contains itself")
        budget.keys(path, leaf)
        for key, item in leaf.items():
            _flatten_into(cells, (*path, key), item, budget)
    elif isinstance(leaf, Media):
        cells.append(leaf.logged_at(path))
    else:
        cells.append((path, leaf))


def _without_repeats(cells: list[Cell]) -> list[Cell]:
    """Nested keys that turn into the same text, as 1 and "1" do: the later one stands."""
    by_path = dict(cells)
    return cells if len(by_path) == len(cells) else list(by_path.items())


def convert(value: Any, depth: int = 0, *, takes_media: bool = False, budget: Budget | None = None) -> Any:
    """Return one value as it travels. A dict is converted one level only; lists are converted whole.

    Args:
        takes_media: Return media as they are; figures, too, as media.
        budget: What the value's row may hold yet; by default it has a row of its own.

    Raises:
        TypeError: A type that can't be logged. ValueError: Nested too deep.
        LimitError: More than the budget allows. It is asked before a value is read.
    """
    return _convert(value, depth, budget or Budget(), takes_media=takes_media)


def _convert(value: Any, depth: int, budget: Budget, *, takes_media: bool = False) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        if kind is str:
            budget.text(value)
        return value
    if kind is int:
        return _fitting(value)
    if depth > 2 * MAX_DEPTH:
        raise ValueError("a value that is nested too deep, or contains itself")
    if isinstance(value, dict):
        budget.elements(2 * len(value))
        return {_nested_key(key): item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        budget.elements(len(value))
        if _NUMBERS.issuperset(kinds := set(map(type, value))):
            return [_fitting(item) for item in value] if int in kinds else list(value)
        return [_deep(item, depth + 1, budget) for item in value]
    library = kind.__module__.partition(".")[0]
    if library == "numpy" and "numpy" in sys.modules:
        return _from_numpy(value, depth, budget)
    if library == "torch" and hasattr(value, "detach"):
        return _from_torch(value, depth, budget)
    if library in _ARRAY_LIBRARIES and hasattr(value, "__array__") and "numpy" in sys.modules:
        budget.check_array(getattr(value, "nbytes", 0))
        return _from_numpy(sys.modules["numpy"].asarray(value), depth, budget)
    return _from_python(value, depth, budget, takes_media=takes_media)


def _deep(value: Any, depth: int, budget: Budget) -> Any:
    """Convert to the bottom: dicts inside lists are no keys of the row."""
    converted = _convert(value, depth, budget)
    if isinstance(converted, dict):
        return {key: _deep(item, depth + 1, budget) for key, item in converted.items()}
    return converted


def _nested_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, tuple):
        return ",".join(map(str, key))
    if isinstance(key, bool):
        return "true" if key else "false"  # as JSON has them
    if isinstance(key, enum.Enum):
        return _nested_key(key.value)
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    return str(key)


def _fitting(value: Any) -> Any:
    """Return an int that is no int64 as a float, and anything else as it is."""
    if type(value) is not int or _INT64_MIN <= value <= _INT64_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _from_numpy(value: Any, depth: int, budget: Budget) -> Any:
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, numpy.generic):
        if isinstance(value, str):
            return _convert(str.__str__(value), depth, budget)
        if isinstance(value, numpy.longdouble):
            return float(value)
        item = value.item()
        if isinstance(value, numpy.datetime64) and isinstance(item, int):  # nanoseconds have no datetime
            return str(value)
        return _deep(item, depth, budget)
    if not isinstance(value, numpy.ndarray):
        return _from_python(value, depth, budget)
    if value.size <= MAX_ARRAY_ELEMENTS:
        budget.check_text(value.nbytes // 4)  # of texts: NumPy has four bytes for each letter
        return _deep(value.item() if value.size == 1 else value.tolist(), depth, budget)
    budget.array(value.nbytes)
    counts, edges = array_histogram.histogram(value, HISTOGRAM_BINS)
    return {"_type": "histogram", "values": counts.tolist(), "bins": edges.tolist()}


def _from_torch(value: Any, depth: int, budget: Budget) -> Any:
    if value.is_cuda:
        terminal.warn_once(
            "a CUDA tensor was logged: reading it makes training wait for the GPU. "
            "Log .item() of values that are on the host already, or log less often"
        )
    if value.dim() == 0:
        return _deep(value.detach().item(), depth, budget)
    if value.numel() > MAX_ARRAY_ELEMENTS:
        budget.check_array(value.numel() * value.element_size())
    return _from_numpy(value.detach().cpu().numpy(), depth, budget)


def _from_python(value: Any, depth: int, budget: Budget, *, takes_media: bool = False) -> Any:
    if type(value).__module__ == "runfold.plot.chart":
        if not takes_media:  # a chart is a key of a row of its own: in a list or a summary there is none
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
        return value.as_media()
    if takes_media and (medium := as_media(value)) is not None:
        return medium
    if type(value).__module__ == "runfold.histogram":
        return value.to_json()
    if type(value) is range and takes_media and not value:
        return []  # as the client has it: no element is unfit
    found = python_values.simpler(value, budget)
    if found is python_values.NOTHING:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return _convert(found, depth + 1, budget)


def media_list(values: Sequence[Any], path: KeyPath) -> MediaList | None:
    """Return a list of media, histograms among them too, as what a row keeps at `path`; None: it is none."""
    if (
        not values
        or not isinstance(values[0], WBValue)
        or not all(isinstance(item, WBValue) for item in values)
    ):
        return None
    if not any(isinstance(item, Media) for item in values):
        return None  # histograms alone are plain values
    from runfold.media.plain_value import PlainValue

    media = [item if isinstance(item, Media) else PlainValue(item) for item in values]
    return MediaList.of([item.logged_at(path)[1] for item in media])


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
