"""Charts of a table's columns as they are: line, scatter, bar, histogram."""

from __future__ import annotations

from runfold.media.table import Table
from runfold.plot.chart import CustomChart, plot_table
from runfold.protocol import charts


def line(  # noqa: PLR0917  # W&B's signature
    table: Table, x: str, y: str, stroke: str | None = None, title: str = "", split_table: bool = False
) -> CustomChart:
    """Return a line through the rows, in order of `x`.

    Args:
        table: Holds the columns.
        x, y: Columns of numbers.
        stroke: A column by which the rows are several lines.
        title: Above the chart.
        split_table: Show the table apart from the chart.

    Raises:
        Error: `table` is no Table.
    """
    fields = {"x": x, "y": y, "stroke": stroke}
    return plot_table(charts.LINE, table, fields, {"title": title}, split_table)


def scatter(table: Table, x: str, y: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return a point for each row. Arguments and errors as of `line`."""
    return plot_table(charts.SCATTER, table, {"x": x, "y": y}, {"title": title}, split_table)


def bar(table: Table, label: str, value: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return a bar for each row: its length from column `value`, its name from column `label`."""
    return plot_table(charts.BAR, table, {"label": label, "value": value}, {"title": title}, split_table)


def histogram(table: Table, value: str, title: str = "", split_table: bool = False) -> CustomChart:
    """Return how often the numbers of column `value` fall into equal bins."""
    return plot_table(charts.HISTOGRAM, table, {"value": value}, {"title": title}, split_table)
