"""TableColumns: a table column by column: reading, adding, computing, casting, linking. Part of Table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from runfold.errors import Error
from runfold.media import table_frames
from runfold.media.cell_types import ANY, UNKNOWN, CellType, declared, optional
from runfold.media.cell_types import type_of as type_of_cell
from runfold.media.table_links import ForeignKey, PrimaryKey, TableIndex, TableKey

if TYPE_CHECKING:
    from runfold.media.table import Table


class TableColumns:
    """What rows and columns are, and all that is done to whole columns."""

    log_mode: str
    columns: list[Any]
    data: list[list[Any]]
    _types: dict[Any, CellType]
    #: The column by which other tables name rows, and those that name rows of others.
    pk_col: Any
    fk_cols: set[Any]
    #: Classes of cells that a column takes without a look, by place.
    _accepted: list[frozenset[type]]
    #: Columns of keys: the table and the column that they name.
    _links: dict[Any, tuple[Any, Any]]

    def _note_change(self) -> None:
        """The rows or columns are others now."""
        raise NotImplementedError

    def iterrows(self) -> Iterator[tuple[TableIndex, list[Any]]]:
        """Yield (index, cells) of each row."""
        for number, row in enumerate(self.data):
            yield TableIndex.of(self._me(), number), row

    def get_index(self) -> list[TableIndex]:
        """Return the indices of all rows, for links from other tables."""
        return [TableIndex.of(self._me(), number) for number in range(len(self.data))]

    def index_ref(self, index: int) -> TableIndex:
        """Return the index of one row. AssertionError: there is no such row."""
        if not 0 <= index < len(self.data):
            raise AssertionError(f"there is no row {index} in a table of {len(self.data)}")
        return TableIndex.of(self._me(), index)

    def add_column(self, name: str, data: Any, optional: bool = False) -> None:
        """Add a column.

        Args:
            data: A list or an array of NumPy, a cell for each row.
            optional: Whether cells may be None.

        Raises:
            AssertionError: The name is no text or taken, or there are more or fewer cells than rows.
            TypeError: The cells are of different types.
            Error: The table is incremental.
        """
        self._refuse_if_incremental("add_column")
        if not isinstance(name, str) or name in self.columns:
            raise AssertionError(f"a new column needs a name of its own that is a text, not {name!r}")
        if not (isinstance(data, list) or hasattr(data, "tolist")):
            raise AssertionError("the cells of a column are given as a list or as an array of NumPy")
        if self.columns and len(data) != len(self.data):
            raise AssertionError(f"Expected length {len(self.data)}, found {len(data)}")
        cells = list(data)
        kind = self._holding(UNKNOWN, cells, is_optional=optional)
        if not self.columns:
            self.data = [[] for _ in cells]
        for row, cell in zip(self.data, cells, strict=True):
            row.append(cell)
        self.columns.append(name)
        self._types[name] = kind
        self._reset_checks()
        self._note_change()

    def add_computed_columns(self, fn: Callable[[int, dict[Any, Any]], dict[str, Any]]) -> None:
        """Add columns that a function computes, row by row.

        Args:
            fn: Gets a row's index and its cells by column; returns the new cells by column.

        Raises:
            AssertionError: It does not return a dict, or not the same columns for each row.
            TypeError: As `add_column`. Error: The table is incremental.
        """
        self._refuse_if_incremental("add_computed_columns")
        new: dict[str, list[Any]] = {}
        for index, row in self.iterrows():
            computed = fn(index, dict(zip(self.columns, row, strict=True)))
            if not isinstance(computed, dict):
                raise AssertionError(  # noqa: TRY004  # as W&B
                    f"a computed row is a dict of new columns, not {type(computed).__name__}"
                )
            for name, cell in computed.items():
                new.setdefault(name, []).append(cell)
        for name, cells in new.items():
            self.add_column(name, cells)

    def get_column(self, name: Any, convert_to: Literal["numpy"] | None = None) -> Any:
        """Return the cells of a column, as a list or (convert_to="numpy") as an array.

        Raises:
            AssertionError: There is no such column, or `convert_to` is something else.
            NotImplementedError: Cells are media that are no arrays.
        """
        if name not in self.columns:
            raise AssertionError(f"there is no column {name!r}: the columns are {self.columns}")
        if convert_to not in (None, "numpy"):
            raise AssertionError(f"convert_to is None or 'numpy', not {convert_to!r}")
        place = self.columns.index(name)
        cells = [row[place] for row in self.data]
        return cells if convert_to is None else table_frames.to_array(cells)

    def get_dataframe(self) -> Any:
        """Return a DataFrame of pandas. Error: pandas is not installed."""
        return table_frames.to_frame(self.columns, self.data)

    def cast(self, col_name: Any, dtype: Any, optional: bool = False) -> CellType:
        """Have a column hold another type, and return it.

        Raises:
            AssertionError: There is no such column.
            TypeError: A cell that is there can't be one of that type.
        """
        if col_name not in self.columns:
            raise AssertionError(f"there is no column {col_name!r}: the columns are {self.columns}")
        cells = self.get_column(col_name)
        kind = self._types[col_name] = self._holding(declared(dtype), cells, is_optional=optional)
        self._reset_checks()
        return kind

    def set_pk(self, col_name: Any) -> None:
        """Make a column of texts the one by which other tables name rows. AssertionError: no such column."""
        self.cast(col_name, PrimaryKey())
        self.pk_col = col_name
        self._link_all()

    def set_fk(self, col_name: Any, table: Table, table_col: Any) -> None:
        """Say that a column of texts names rows of another table, by its column of keys."""
        if table_col != table.pk_col:
            raise AssertionError(f"{table_col!r} is not the column of keys of that table: {table.pk_col!r}")
        self.cast(col_name, ForeignKey(table, table_col))
        self.fk_cols.add(col_name)
        self._link_all()

    def _link_all(self) -> None:
        for row in self.data:
            self._link(row)

    def _take_types(self, mixed: Sequence[Any]) -> None:
        """Find the types of columns whose cells are there; those of `mixed` take anything."""
        for name in self.columns:
            kind = optional(ANY if name in mixed else UNKNOWN)
            try:
                self._types[name] = self._holding(kind, self.get_column(name), is_optional=False)
            except TypeError:
                self._types[name] = optional(ANY)
        self._reset_checks()

    @staticmethod
    def _holding(kind: CellType, cells: Iterable[Any], *, is_optional: bool) -> CellType:
        """Return the type that holds all of the cells too; TypeError where one does not fit."""
        held = optional(kind) if is_optional else kind
        for cell in cells:
            taken = held.taking(cell)
            if taken is None:
                raise TypeError(
                    f"Existing data {cell}, of type {type_of_cell(cell)!r} cannot be cast to {held!r}"
                )
            held = taken
        return held

    def _refuse_if_incremental(self, call: str) -> None:
        if self.log_mode == "INCREMENTAL":
            raise Error(
                f"Operation '{call}' is not supported for tables with log_mode='INCREMENTAL'. "
                "Use a different log mode like 'MUTABLE' or 'IMMUTABLE'."
            )

    def _reset_checks(self) -> None:
        """Look at every cell again: the columns have other types now."""
        self._accepted = [frozenset()] * len(self.columns)
        self._links = {
            name: (kind.table, kind.column) if isinstance(kind, ForeignKey) else (self._me(), name)
            for name, kind in self._types.items()
            if isinstance(kind, (ForeignKey, PrimaryKey))
        }

    def _link(self, row: list[Any]) -> None:
        for place, name in enumerate(self.columns):
            if name in self._links and isinstance(row[place], str):
                table, column = self._links[name]
                row[place] = TableKey.of(table, column, row[place])

    def _me(self) -> Table:
        from runfold.media.table import Table

        assert isinstance(self, Table), "this is a part of Table"
        return self
