"""Columns of a series answer -> rows or a DataFrame. In: [{"name", "values", "rows"}], out: what users hold.

`values` is an array or a list; `rows` is None where every row has a value, else the ascending indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one dict per row; a cell that is absent is left out."""
    rows: list[dict[str, Any]] = [{} for _ in range(table["length"])]
    for column in table["columns"]:
        name, values, places = column["name"], column["values"], column["rows"]
        for place, value in zip(range(len(rows)) if places is None else places, values, strict=True):
            rows[place][name] = value
    return rows


def frame_of(table: dict[str, Any], pandas: Any) -> Any:
    """Return a DataFrame; a cell that is absent is NaN among numbers, else None."""
    columns = {column["name"]: _whole(column, table["length"]) for column in table["columns"]}
    return pandas.DataFrame(columns, index=range(table["length"]))


def _whole(column: dict[str, Any], length: int) -> Sequence[Any]:
    values, places = column["values"], column["rows"]
    if places is None:
        return list(values) if isinstance(values, list) else values
    absent = float("nan") if not isinstance(values, list) else None
    whole = [absent] * length
    for place, value in zip(places, values, strict=True):
        whole[place] = value
    return whole


def load_pandas() -> Any | None:
    """Return the pandas module, or None where it is not installed."""
    try:
        import pandas
    except ImportError:
        return None
    return pandas
