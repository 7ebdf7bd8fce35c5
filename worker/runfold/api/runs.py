"""`Runs`: the runs of a project that pass a filter, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from runfold.api.connection import Connection, Parameters
from runfold.api.errors import RequestError
from runfold.api.pages import Pages
from runfold.api.run import Run


class Runs(Pages[Run]):
    """A lazy list: pages are fetched as they are reached, `len()` is the server's count. Not thread-safe."""

    def __init__(
        self,
        connection: Connection,
        entity: str | None,
        project: str | None,
        *,
        filters: dict[str, Any] | None,
        order: str,
        per_page: int,
        include: tuple[str, ...] = (),
    ) -> None:
        self.entity = entity
        self.project = project
        self.filters = filters or {}
        self.order = order
        parameters: Parameters = {
            "entity": entity,
            "project": project,
            "filters": _json(self.filters),
            "order": order,
            "include": include,
        }
        super().__init__(
            connection, "/runs", parameters, "runs", lambda each: Run(connection, each), per_page=per_page
        )

    @property
    def length(self) -> int:
        """The same as `len()` (W&B's name)."""
        return len(self)

    def histories(
        self,
        samples: int = 500,
        keys: list[str] | None = None,
        x_axis: str = "_step",
        format: str = "default",  # noqa: A002 - W&B's name
        stream: str = "default",
    ) -> Any:
        """Return the sampled history of all of these runs, with a `run_id` in each row.

        Args:
            samples: Rows of each run, about.
            keys: Only rows that have all of these, with `x_axis`; None: all keys.
            x_axis: "_step", "_timestamp", "_runtime" or a metric.
            format: "default" gives a list of dicts; "pandas" and "polars" a DataFrame, columns by name.
            stream: "default", or "system" for what the runs' nodes did meanwhile.

        Raises:
            RequestError: (a ValueError) Another format, or one whose library is not installed.
        """
        frame_of = _FORMATS.get(format)
        if frame_of is None:
            names = ", ".join(map(repr, _FORMATS))
            raise RequestError(f"Invalid format: {format}. Must be one of {names}", field="format")
        rows: list[dict[str, Any]] = []
        for run in self:
            found = run.history(samples=samples, keys=keys, x_axis=x_axis, pandas=False, stream=stream)
            rows += [{**row, "run_id": run.id} for row in found]
        return frame_of(rows)

    def upgrade_to_full(self) -> None:
        """Fetch config and summary of those that were fetched without, and of those to come with them."""
        self._parameters["include"] = ("config", "summary")
        for run in self._found:
            run.load()

    def __repr__(self) -> str:
        return f"<Runs {self.entity or '*'}/{self.project or '*'}>"


def _json(filters: object) -> str | None:
    if not isinstance(filters, dict):
        raise RequestError("filters must be a dict", field="filters")
    try:
        return json.dumps(filters) if filters else None
    except (TypeError, ValueError) as error:
        raise RequestError(f"filters can't be written as JSON: {error}", field="filters") from error


def _as_pandas(rows: list[dict[str, Any]]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise RequestError('format="pandas" needs pandas: pip install pandas', field="format") from error
    return pandas.DataFrame.from_records(rows, columns=_columns(rows))


def _as_polars(rows: list[dict[str, Any]]) -> Any:
    try:
        import polars  # type: ignore[import-not-found, unused-ignore]  # not one of our dependencies
    except ImportError as error:
        raise RequestError('format="polars" needs polars: pip install polars', field="format") from error
    return (
        polars.from_dicts(rows, infer_schema_length=None).select(_columns(rows))
        if rows
        else polars.DataFrame()
    )


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({name for row in rows for name in row})


_FORMATS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "default": lambda rows: rows,
    "pandas": _as_pandas,
    "polars": _as_polars,
}
