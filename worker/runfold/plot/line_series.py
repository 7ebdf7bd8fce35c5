"""Several lines in one chart, from lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runfold.media.table import Table
from runfold.plot.chart import CustomChart, plot_table
from runfold.protocol import charts


def line_series(  # noqa: PLR0917  # W&B's signature
    xs: Iterable[Iterable[Any]] | Iterable[Any],
    ys: Iterable[Iterable[Any]],
    keys: Iterable[str] | None = None,
    title: str = "",
    xname: str = "x",
    split_table: bool = False,
) -> CustomChart:
    """Return a line for each of `ys`.

    Args:
        xs: One list of x values for all lines, or a list of such, one for each.
        ys: A list of y values for each line.
        keys: Names of the lines; "line_0", "line_1", ... by default.
        title: Above the chart.
        xname: Below the x axis.
        split_table: Show the table apart from the chart.

    Raises:
        ValueError: There are more or fewer lists of x values, or names, than lines.
        TypeError: Something is no list.
    """
    lines = [list(values) for values in ys]
    given = list(xs)
    if given and _is_list(given[0]):
        if len(given) != len(lines):
            raise ValueError(f"Number of x-series ({len(given)}) must match y-series ({len(lines)}).")
        places = [list(values) for values in given]
    else:
        places = [given] * len(lines)
    names = [f"line_{index}" for index in range(len(lines))] if keys is None else list(keys)
    if len(names) != len(lines):
        raise ValueError(f"Number of keys ({len(names)}) must match y-series ({len(lines)}).")
    rows = [
        [x, name, y]
        for name, place, values in zip(names, places, lines, strict=True)
        for x, y in zip(place, values, strict=False)
    ]
    fields = {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}
    table = Table(columns=list(fields), data=rows)
    return plot_table(charts.LINE_SERIES, table, fields, {"title": title, "xname": xname}, split_table)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))
