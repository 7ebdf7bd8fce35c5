"""A table in an artifact: its rows, the types of its columns, the media in its cells. Out again: a Table.

The JSON is W&B's `<name>.table.json`: dates in milliseconds, NaN as null, media as objects with a path.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from runfold.media.artifact_objects import media_json, media_of, read_json
from runfold.media.cell_types import DictOf
from runfold.media.media import Media, need
from runfold.media.table_cells import formed, milliseconds
from runfold.media.table_links import ForeignIndex, ForeignKey

if TYPE_CHECKING:
    from runfold.media.captured_table import CapturedTable
    from runfold.media.table import Table

#: `_type` of a table in an artifact, and the kind in the name of its file.
TABLE = "table"
_CHUNK_ROWS = 256


def is_artifact(value: Any) -> bool:
    """Return whether it is an artifact."""
    from runfold.artifacts.artifact import Artifact

    return isinstance(value, Artifact)


# -- in --


def write_table(artifact: Any, captured: CapturedTable, entry: str, *, overwrite: bool = False) -> None:
    """Write a table, and the media in it, into a draft. ValueError: another file has this name."""
    told = json.dumps({**_told(captured, artifact), "data": []}, sort_keys=True)
    before, mark, after = told.rpartition('"data": [')
    with artifact.new_file(entry, mode="w" if overwrite else "x", encoding="utf-8") as file:
        file.write(before + mark)
        file.writelines(_pieces(artifact, captured.rows))
        file.write(after)


def table_json(captured: CapturedTable, artifact: Any) -> dict[str, Any]:
    """Return what stands for a table in an artifact, rows and all; its media are put there."""
    return {**_told(captured, artifact), "data": _rows(artifact, captured.rows)}


def name_of(artifact: Any, table: Table) -> str | None:
    """Return the name of a table's file in a draft, None if it was not added there."""
    added = artifact._added_objects  # noqa: SLF001  # one product
    return next((entry for entry, each in added.items() if each is table), None)


def _told(captured: CapturedTable, artifact: Any) -> dict[str, Any]:
    types = _types_json(captured.types, artifact)
    return {"_type": TABLE, "column_types": types, "columns": list(captured.columns), **captured.size_facts}


def _types_json(types: DictOf, artifact: Any) -> dict[str, Any]:
    told = types.to_json()
    for name, kind in types.types.items():
        if isinstance(kind, (ForeignKey, ForeignIndex)):
            params = told["params"]["type_map"][str(name)].setdefault("params", {})
            params["table"] = name_of(artifact, kind.table)
    return told


def _pieces(artifact: Any, rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for at in range(0, len(rows), _CHUNK_ROWS):
        text = json.dumps(_rows(artifact, rows[at : at + _CHUNK_ROWS]))[1:-1]
        yield f", {text}" if at else text


def _rows(artifact: Any, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    def form(cell: Any) -> Any:
        if isinstance(cell, float):
            return None if math.isnan(cell) else cell
        if isinstance(cell, Media):
            return _medium_json(artifact, cell)
        if isinstance(cell, bytes):
            return cell.decode()
        return milliseconds(cell)

    return formed(rows, form)


def _medium_json(artifact: Any, cell: Media) -> dict[str, Any]:
    from runfold.media.table_snapshot import TableSnapshot

    return (
        table_json(cell.captured, artifact) if isinstance(cell, TableSnapshot) else media_json(artifact, cell)
    )


# -- out --


def read_table(artifact: Any, name: str) -> Table:
    """Return the table in a file of an artifact, with its media.

    Raises:
        KeyError: There is no such file. ValueError: It holds no table.
    """
    return table_of(read_json(artifact, name), artifact)


def table_of(told: dict[str, Any], artifact: Any) -> Table:
    """Return the table that a JSON object stands for. ValueError: it stands for none."""
    from runfold.media.table import Table

    columns, rows = told.get("columns"), told.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise ValueError("no table: it has neither columns nor data")  # noqa: TRY004  # it is the content
    try:
        kinds = told.get("column_types", {}).get("params", {}).get("type_map", {})
        reads = [_reader(kinds.get(str(name), {}), artifact) for name in columns]
        table = Table(columns=columns, allow_mixed_types=True, log_mode=told.get("log_mode", "IMMUTABLE"))
    except (AttributeError, TypeError, AssertionError) as error:
        raise ValueError(f"no table: what it says of its columns can't be read: {error}") from error
    for row in rows:
        if not isinstance(row, list) or len(row) != len(columns):
            raise ValueError("no table: a row has more or fewer cells than there are columns")
        table.data.append([read(cell) for read, cell in zip(reads, row, strict=True)])
    mixed = [name for name in columns if "any" in _names(kinds.get(str(name), {}))]
    table._take_types(mixed)  # noqa: SLF001  # one product
    return table


def _names(kind: dict[str, Any]) -> set[Any]:
    inner = kind.get("params", {}).get("allowed_types", ())
    return {kind.get("wb_type"), *(each.get("wb_type") for each in inner)}


def _reader(kind: dict[str, Any], artifact: Any) -> Callable[[Any], Any]:
    """Return what makes a cell of its JSON, by the type of its column."""
    names = _names(kind)
    if "timestamp" in names:
        return _moment
    if "ndarray" in names:
        return _as_array
    return lambda cell: _medium(cell, artifact)


def _moment(cell: Any) -> Any:
    if isinstance(cell, (int, float)):
        return datetime.datetime.fromtimestamp(cell / 1000, datetime.UTC)
    return cell


def _as_array(cell: Any) -> Any:
    return need("numpy", "an array in a table").array(cell) if isinstance(cell, list) else cell


def _medium(cell: Any, artifact: Any) -> Any:
    if isinstance(cell, dict) and cell.get("_type") == TABLE:
        return table_of(cell, artifact)
    if isinstance(cell, dict) and "_type" in cell:
        return media_of(artifact, cell)
    return [_medium(item, artifact) for item in cell] if isinstance(cell, list) else cell
