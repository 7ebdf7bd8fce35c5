"""Table: rows of cells under named columns, a value of log(). In: lists, a DataFrame, rows one by one.

What is logged is a copy of what it holds at that moment (`table_snapshot.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from runfold import terminal
from runfold.media import table_frames
from runfold.media.cell_types import ANY, UNKNOWN, CellType, DictOf, Named, declared, explain_row
from runfold.media.cell_types import optional as optional_type
from runfold.media.cell_types import type_of as type_of_cell
from runfold.media.media import Media
from runfold.media.table_columns import TableColumns

if TYPE_CHECKING:
    from runfold.media.table_snapshot import TableSnapshot
    from runfold.protocol.keypath import KeyPath

LOG_MODES = ("IMMUTABLE", "MUTABLE", "INCREMENTAL")
_DEFAULT_COLUMNS = ("Input", "Output", "Expected")
#: Cells of these classes are of one type whatever their value is; NaN is a float and stands for nothing.
_PLAIN_NAMES = ("boolean", "number", "string")


class Table(TableColumns, Media):
    """Rows under named columns; each column holds one type of cell, and None unless told otherwise.

    Attributes:
        columns: Names of the columns: texts or ints.
        data: The rows, a list of cells each. Change them by the methods only: they check and keep track.

    Not thread-safe while it is filled.
    """

    TYPE: ClassVar[str] = "table-file"
    FOLDER: ClassVar[str] = "media/table"
    #: Rows in the file of a table that was logged: what pages show.
    MAX_ROWS: ClassVar[int] = 10_000
    #: Rows in its artifact: what programs read.
    MAX_ARTIFACT_ROWS: ClassVar[int] = 200_000

    def __init__(  # noqa: PLR0917  # W&B's signature
        self,
        columns: list[str | int] | list[str] | list[int] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,
        optional: bool | list[bool] = True,
        allow_mixed_types: bool = False,
        log_mode: Literal["IMMUTABLE", "MUTABLE", "INCREMENTAL"] | None = "IMMUTABLE",
    ) -> None:
        """Make a table.

        Args:
            columns: Their names; "Input", "Output" and "Expected" by default.
            data: A list of rows, a 2-d array of NumPy, or a DataFrame, whose columns are taken.
            rows: The same as `data`, W&B's older name.
            dataframe: A DataFrame of pandas; its index is left out.
            dtype: What the columns hold: a class, a list or a dict of such, for all or a list for each; by
                default what their first cells are.
            optional: Whether cells may be None, for all columns or for each.
            allow_mixed_types: Take cells of any type.
            log_mode: What logging it again does: "IMMUTABLE": nothing; "MUTABLE": keep all of it anew;
                "INCREMENTAL": keep the rows that were added since.

        Raises:
            TypeError: A cell does not fit into its column.
            ValueError: A row has more or fewer cells than there are columns.
            AssertionError: An argument is none of the above.
        """
        super().__init__()
        if log_mode not in LOG_MODES:
            raise AssertionError(f"Invalid log_mode: {log_mode}. Must be one of {list(LOG_MODES)}")
        self.log_mode: str = log_mode
        self.columns: list[Any] = []
        self.data: list[list[Any]] = []
        self._types: dict[Any, CellType] = {}
        self.pk_col: Any = None
        self.fk_cols: set[Any] = set()
        self._accepted = []
        self._links = {}
        #: What was logged of it last; `_is_changed` since then.
        self._logged: TableSnapshot | None = None
        self._is_changed = False
        if allow_mixed_types:
            dtype = ANY
        given = data if data is not None else rows
        if dataframe is not None:
            if not table_frames.is_frame(dataframe):
                raise AssertionError("dataframe argument expects a `pandas.core.frame.DataFrame` object")
            given = dataframe
        names, rows_given = _columns_and_rows(columns, given)
        self._begin(names, dtype, optional)
        for row in rows_given:
            self.add_data(*row)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_logged": None, "_is_changed": False}

    def _begin(self, names: list[Any], dtype: Any, is_optional: bool | list[bool]) -> None:
        self.columns = names
        kinds = dtype if isinstance(dtype, list) else [UNKNOWN if dtype is None else dtype] * len(names)
        optionals = is_optional if isinstance(is_optional, list) else [is_optional] * len(names)
        self._types = {
            name: optional_type(declared(kind)) if may_be_none else declared(kind)
            for name, kind, may_be_none in zip(names, kinds, optionals, strict=False)
        }
        self._reset_checks()

    @property
    def _column_types(self) -> DictOf:
        return DictOf(dict(self._types))

    # -- rows --

    def add_data(self, *data: Any) -> None:
        """Add a row.

        Raises:
            ValueError: It has more or fewer cells than there are columns.
            TypeError: A cell does not fit into its column; the text says which, and why.
        """
        if len(data) != len(self.columns):
            raise ValueError(
                f"This table expects {len(self.columns)} columns: {self.columns}, found {len(data)}"
            )
        for accepted, cell in zip(self._accepted, data, strict=False):
            if type(cell) not in accepted:
                self._check_row(data)
                break
        row = list(data)
        if self._links:
            self._link(row)
        self.data.append(row)
        self._note_change()

    def add_row(self, *row: Any) -> None:
        """Add a row. Deprecated: use `add_data`."""
        terminal.warn_once("Table.add_row is deprecated, use add_data")
        self.add_data(*row)

    def _check_row(self, cells: Sequence[Any]) -> None:
        row = dict(zip(self.columns, cells, strict=True))
        whole = self._column_types
        taken = whole.taking(row)
        if taken is None:
            raise TypeError(explain_row(whole, row).rstrip("\n"))
        assert isinstance(taken, DictOf), "a row's type is one of dicts"
        if taken.types != self._types:
            self._types = dict(taken.types)
        self._accepted = [
            accepted | {type(cell)} if _is_plain(kind, cell) else accepted
            for accepted, kind, cell in zip(self._accepted, self._types.values(), cells, strict=False)
        ]

    def _note_change(self) -> None:
        if self._logged is not None and not self._is_changed:
            self._is_changed = True
            if self.log_mode == "IMMUTABLE":
                terminal.warn(
                    "You are mutating a Table with log_mode='IMMUTABLE' that has been logged already. "
                    "Subsequent log() calls will have no effect. Set log_mode='MUTABLE' to enable re-logging "
                    "after mutations"
                )

    # -- as a value of log() --

    def logged_at(self, path: KeyPath) -> tuple[KeyPath, Media]:
        """Return what a row keeps of it: a copy as it is now, or the one that was logged before.

        Raises:
            TypeError: A cell has no form in JSON.
        """
        return path, self._snapshot()

    def _snapshot(self) -> TableSnapshot:
        from runfold.media.table_snapshot import LaterView, take

        self._logged = take(self, self._logged, is_changed=self._is_changed)
        if self._is_changed and self.log_mode == "IMMUTABLE":
            return LaterView(self, self._logged)
        self._is_changed = False
        return self._logged

    def has_been_logged(self) -> bool:
        """Return whether it was logged."""
        return self._logged is not None

    def to_json(self, run: Any) -> dict[str, Any]:
        """Return the JSON object that stands for it in a run or an artifact; store it there if it is not yet.

        Raises:
            TypeError: It is neither a run nor an artifact, or a cell has no form in JSON.
        """
        if hasattr(run, "_store_media"):
            stored: dict[str, Any] = run._store_media(self._snapshot())  # noqa: SLF001  # one product
            return stored
        from runfold.media.captured_table import CapturedTable
        from runfold.media.table_artifact import is_artifact, table_json

        if not is_artifact(run):
            raise TypeError("to_json accepts wandb_run.Run or wandb_artifact.Artifact")
        return table_json(CapturedTable.of(self), run)

    def _cell_type(self) -> CellType:
        return TableType(self._column_types)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table) or self.columns != other.columns or len(self.data) != len(other.data):
            return False
        same_types = {name: repr(kind) for name, kind in self._types.items()} == {
            name: repr(kind) for name, kind in other._types.items()
        }
        return same_types and all(
            table_frames.is_same(mine, theirs)
            for one, another in zip(self.data, other.data, strict=True)
            for mine, theirs in zip(one, another, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # as W&B: what can change is no key


class TableType(CellType):
    """A table inside of a table, by the types of its columns."""

    NAME = "table"

    def __init__(self, columns: DictOf) -> None:
        self._columns = columns

    def taking(self, value: Any) -> CellType | None:
        """Return itself for a table of the same columns."""
        same = isinstance(value, Table) and repr(value._column_types) == repr(self._columns)  # noqa: SLF001  # ours
        return self if same else None

    def params(self) -> dict[str, Any]:
        """Return the types of its columns."""
        return {"column_types": self._columns.to_json()}

    def __repr__(self) -> str:
        return f"Table(column_types:{self._columns!r})"


def _columns_and_rows(columns: Any, given: Any) -> tuple[list[Any], Iterable[Any]]:
    """Return the names of the columns and the rows.

    Raises:
        AssertionError: They are given as something else.
    """
    if table_frames.is_frame(given):
        return _checked(list(given.columns)), table_frames.rows_of(given)
    names = _checked(list(_DEFAULT_COLUMNS) if columns is None else columns)
    if given is None:
        return names, ()
    if type(given).__module__ == "numpy" and hasattr(given, "ndim"):
        return names, list(given)
    if not isinstance(given, list):
        raise AssertionError("data argument expects a `list` object")  # noqa: TRY004  # as W&B
    return names, given


def _checked(columns: Any) -> list[Any]:
    if not isinstance(columns, list):
        raise AssertionError("columns argument expects a `list` object")  # noqa: TRY004  # as W&B
    if not all(isinstance(name, (str, int)) for name in columns):
        raise AssertionError("columns argument expects list of strings or ints")
    return list(columns)


def _is_plain(kind: CellType, cell: Any) -> bool:
    """Return whether a column takes every value of the cell's class, whatever it is."""
    if cell is None:
        return kind.taking(None) is kind
    own = type_of_cell(cell)
    takes_nan = type(cell) is not float or kind.taking(None) is not None
    return isinstance(own, Named) and own.name in _PLAIN_NAMES and kind.taking(cell) is kind and takes_nan
