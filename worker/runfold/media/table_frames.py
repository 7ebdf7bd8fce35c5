"""Tables to and from NumPy and pandas, which are imported when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from runfold.media.media import Media, need


def is_frame(value: object) -> bool:
    """Return whether it is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def rows_of(frame: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a DataFrame; cells are NumPy's scalars, dates with a zone are in UTC."""
    columns = [_cells(frame.iloc[:, place]) for place in range(frame.shape[1])]
    yield from zip(*columns, strict=True)


def _cells(column: Any) -> Any:
    values = column.values
    return values if type(values).__module__ == "numpy" else list(values)


def to_frame(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a DataFrame. Error: pandas is not installed."""
    pandas = need("pandas", "a table as a DataFrame", extra="pandas")
    # One by one: by rows, pandas would make one type of all of them. Names may be there twice.
    frame = pandas.DataFrame({place: [row[place] for row in rows] for place in range(len(columns))})
    frame.columns = list(columns)
    return frame


def to_array(cells: Sequence[Any]) -> Any:
    """Return cells as an array of NumPy; of cells that are arrays of one shape, one array of all.

    Raises:
        NotImplementedError: They are media that are no arrays.
    """
    numpy = need("numpy", "a column as an array", extra="media")
    values = [_as_array(cell) if isinstance(cell, Media) else cell for cell in cells]
    try:
        return numpy.array(values)
    except ValueError:  # lists of different lengths: they stay lists
        ragged = numpy.empty(len(values), dtype=object)
        ragged[:] = values
        return ragged


def _as_array(cell: Media) -> Any:
    convert = getattr(cell, "to_data_array", None)
    if convert is None:
        raise NotImplementedError(f"{type(cell).__name__} has no form as an array")
    return convert()


def is_same(mine: Any, theirs: Any) -> bool:
    """Return whether two cells are equal; NaN equals NaN, arrays are compared whole."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and (isinstance(mine, numpy.ndarray) or isinstance(theirs, numpy.ndarray)):
        return bool(numpy.array_equal(mine, theirs))
    if isinstance(mine, float) and isinstance(theirs, float) and mine != mine and theirs != theirs:  # noqa: PLR0124  # NaN
        return True
    return bool(mine == theirs)
