"""`Runs`: the runs of a project that pass a filter, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from runfold.api.connection import Connection
from runfold.api.errors import RequestError
from runfold.api.run import Run


class Runs(Sequence[Run]):
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
        if isinstance(per_page, bool) or not isinstance(per_page, int) or per_page < 1:
            raise RequestError("per_page must be a whole number, 1 or more", field="per_page")
        self.entity = entity
        self.project = project
        self.filters = filters or {}
        self.order = order
        self._connection = connection
        self._parameters = {
            "entity": entity,
            "project": project,
            "filters": _json(self.filters),
            "order": order,
            "limit": min(per_page, 1000),
            "include": include,
        }
        self._found: list[Run] = []
        self._cursor: str | None = None
        self._total: int | None = None

    def __len__(self) -> int:
        if self._total is None:
            self._load_page()
        return self._total or 0

    def __iter__(self) -> Iterator[Run]:
        place = 0
        while self._has(place):
            yield self._found[place]
            place += 1

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> list[Run]: ...
    def __getitem__(self, place: int | slice) -> Run | list[Run]:
        if isinstance(place, slice):
            stop = place.stop
            if stop is None or stop < 0 or (place.start or 0) < 0:
                return list(self)[place]
            self._has(stop - 1)
            return self._found[place]
        if place < 0:
            return list(self)[place]
        if not self._has(place):
            raise IndexError(f"there are {len(self)} runs")
        return self._found[place]

    @property
    def length(self) -> int:
        """The same as `len()` (W&B's name)."""
        return len(self)

    @property
    def more(self) -> bool:
        """Whether there are runs that were not fetched yet."""
        return self._total is None or self._cursor is not None

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

    def _has(self, place: int) -> bool:
        while place >= len(self._found):
            if self._total is not None and self._cursor is None:
                return False
            self._load_page()
        return True

    def _load_page(self) -> None:
        answer = self._connection.get("/runs", {**self._parameters, "cursor": self._cursor})
        self._found.extend(Run(self._connection, document) for document in answer["runs"])
        self._cursor = answer["next_cursor"]
        self._total = answer["total"]


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
