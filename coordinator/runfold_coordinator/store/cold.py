"""Cold history: Parquet files that hold the columns of chunks, one row group a chunk, one key set a file.

The chunk's row stays in the database, with its rollups and where its columns are. Files are never changed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from runfold.protocol.values import pack_value, unpack_value
from runfold_coordinator.store.chunks import Chunk
from runfold_coordinator.store.folders import sync_folder
from runfold_coordinator.store.merging import MergedRows
from runfold_coordinator.store.model import Column, ColumnKind

ROW_FIELDS = ("_seq", "_step", "_t_ns", "_flags")
_ROW_TYPES = (pa.uint64(), pa.int64(), pa.uint64(), pa.uint8())
_TYPES: dict[str, Any] = {"d": pa.float64(), "q": pa.int64(), "?": pa.bool_(), "o": pa.binary()}
#: Footers of files that stay parsed.
CACHED_FOOTERS = 128


class ColdFiles:
    """The files of one store. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._is_local = "file" in (
            self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        )
        self._lock = threading.Lock()
        self._footers: OrderedDict[str, Any] = OrderedDict()

    def write(self, run_pk: int, names: dict[int, str], groups: Sequence[MergedRows]) -> tuple[str, int]:
        """Write one file, a row group for each group, durably; return its name and size in bytes.

        Args:
            names: The text of each key_pk.
        """
        fields = {
            (column.key_pk, column.kind): field_name(names[column.key_pk], column.kind)
            for group in groups
            for column in group.columns
        }
        schema = pa.schema(
            [
                *(pa.field(name, kind) for name, kind in zip(ROW_FIELDS, _ROW_TYPES, strict=True)),
                *(
                    pa.field(name, _TYPES[kind], metadata={"key": names[key_pk], "kind": kind})
                    for (key_pk, kind), name in fields.items()
                ),
            ]
        )
        name = f"{run_pk}/{uuid.uuid4().hex}.parquet"
        path = self._path(name)
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with self._fs.open(path, "wb") as sink:
            with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer:
                for group in groups:
                    writer.write_table(_to_table(group, schema, fields), row_group_size=len(group.seq))
            sink.flush()
            if self._is_local:
                os.fsync(sink.fileno())
        if self._is_local:
            self._sync_folders(Path(path).parent)
        return name, int(self._fs.size(path))

    def _sync_folders(self, folder: Path) -> None:
        """Bring a run's folder to disk, which may be new, and so may ours."""
        for each in (folder, folder.parent):
            sync_folder(each)
        with contextlib.suppress(PermissionError):  # the folder above ours may be closed to us
            sync_folder(folder.parent.parent)

    def remove(self, name: str) -> None:
        """Delete a file; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def names(self) -> list[str]:
        """Return the names of all files, registered or not."""
        with contextlib.suppress(FileNotFoundError):
            return [
                path[len(self._root) :].lstrip("/")
                for path in self._fs.find(self._root)
                if path.endswith(".parquet")
            ]
        return []

    def open_chunk(self, name: str, row_group: int, directory: bytes, fetch: Callable[[int], bytes]) -> Chunk:
        """Return the chunk whose columns are in a row group of a file."""

        def read(columns: list[str]) -> Any:
            with self._fs.open(self._path(name), "rb") as source:
                file = pq.ParquetFile(source, metadata=self._footer(name))
                return file.read_row_group(row_group, columns=columns)

        return ColdChunk(directory, fetch, read)

    def _footer(self, name: str) -> Any:
        with self._lock:
            if name in self._footers:
                self._footers.move_to_end(name)
                return self._footers[name]
        with self._fs.open(self._path(name), "rb") as source:
            footer = pq.read_metadata(source)
        with self._lock:
            self._footers[name] = footer
            while len(self._footers) > CACHED_FOOTERS:
                self._footers.popitem(last=False)
        return footer

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class ColdChunk(Chunk):
    """A chunk in a file: columns are read from it, rollups come from the database."""

    def __init__(
        self, directory: bytes, fetch: Callable[[int], bytes], read: Callable[[list[str]], Any]
    ) -> None:
        super().__init__(directory, fetch)
        self._read = read
        self._rows: dict[str, npt.NDArray[Any]] = {}

    def _row_field(self, at: int) -> npt.NDArray[Any]:
        if not self._rows:
            table = self._read(list(ROW_FIELDS))
            self._rows = {name: table.column(name).to_numpy() for name in ROW_FIELDS}
        return self._rows[ROW_FIELDS[at]]

    def slots(self, key_pk: int | None, *, times: bool = True, rollups: bool = False) -> set[int]:
        """Only rollups are in parts; rows and columns are in the file."""
        return super().slots(key_pk, times=times, rollups=True) if rollups else set()

    def columns(self, key_pk: int) -> list[Column]:
        """Return the key's columns, one per kind."""
        places = self._places.get(key_pk, ())
        table = self._read([place[2] for place in places])
        return [_from_arrow(place[1], table.column(place[2]).combine_chunks()) for place in places]

    def _values(self, place: list[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint32] | None]:
        column = _from_arrow(place[1], self._read([place[2]]).column(place[2]).combine_chunks())
        assert not isinstance(column.values, list), "numeric columns are arrays"
        return column.values, column.rows


def field_name(key: str, kind: ColumnKind) -> str:
    """Return the file's column of a key: the key, with its kind where that is not a float."""
    return key if kind == "d" else f"{key}#{ {'q': 'int', '?': 'bool', 'o': 'object'}[kind] }"


def _to_table(group: MergedRows, schema: pa.Schema, fields: dict[tuple[int, ColumnKind], str]) -> pa.Table:
    n = len(group.seq)
    arrays: dict[str, Any] = dict(
        zip(ROW_FIELDS, (group.seq, group.step, group.t_ns, group.flags), strict=True)
    )
    for column in group.columns:
        name = fields[column.key_pk, column.kind]
        values: Any = column.values
        if isinstance(values, list):
            values = [pack_value(value) for value in values]
        if column.rows is None:
            arrays[name] = values
        elif isinstance(values, list):
            spread: list[Any] = [None] * n
            for at, value in zip(column.rows.tolist(), values, strict=True):
                spread[at] = value
            arrays[name] = spread
        else:
            wide = np.zeros(n, dtype=values.dtype)
            missing = np.ones(n, dtype=np.bool_)
            wide[column.rows] = values
            missing[column.rows] = False
            arrays[name] = pa.array(wide, mask=missing)
    filled = [
        pa.array(arrays[field.name], type=field.type) if field.name in arrays else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(filled, schema=schema)


def _from_arrow(kind: ColumnKind, array: Any) -> Column:
    rows = None
    if array.null_count:
        rows = np.flatnonzero(np.asarray(array.is_valid())).astype(np.uint32)
        array = array.drop_null()
    if kind == "o":
        return Column(kind, [unpack_value(value) for value in array.to_pylist()], rows)
    return Column(kind, array.to_numpy(zero_copy_only=False), rows)
