"""Links between tables: indices of rows, and keys by which one table's rows name another's.

An index is an int and a key a str: they are written as such, and know the table that they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runfold.media.cell_types import STRING, CellType

if TYPE_CHECKING:
    from runfold.media.table import Table


class TableIndex(int):
    """Number of a row of a table."""

    _table: Table

    @classmethod
    def of(cls, table: Table, index: int) -> TableIndex:
        """Return the index of a row."""
        made = cls(index)
        made._table = table
        return made

    def get_row(self) -> dict[Any, Any]:
        """Return the row's cells by column."""
        return dict(zip(self._table.columns, self._table.data[self], strict=True))

    def _cell_type(self) -> CellType:
        return ForeignIndex(self._table)


class TableKey(str):
    """Key of a row of a table: a cell of its column of keys."""

    __slots__ = ("_col_name", "_table")
    _table: Table
    _col_name: Any

    @classmethod
    def of(cls, table: Table, column: Any, key: str) -> TableKey:
        """Return a key of a table."""
        made = cls(key)
        made._table, made._col_name = table, column
        return made

    def _cell_type(self) -> CellType:
        return STRING


@dataclass(frozen=True, repr=False, slots=True)
class PrimaryKey(CellType):
    """Texts by which other tables name the rows of this one."""

    NAME = "primaryKey"

    def taking(self, value: Any) -> CellType | None:
        """Return itself for a text."""
        return self if isinstance(value, str) else None


@dataclass(frozen=True, repr=False, slots=True)
class ForeignKey(CellType):
    """Keys of another table's rows."""

    NAME = "foreignKey"
    table: Table
    column: Any

    def taking(self, value: Any) -> CellType | None:
        """Return itself for a text, or for nothing."""
        return self if isinstance(value, str) or value is None else None

    def params(self) -> dict[str, Any]:
        """Return the column; which table it is, is said where tables have names: in an artifact."""
        return {"col_name": self.column}

    def __repr__(self) -> str:
        return f"Foreignkey(table:{self.table!r}, col_name:{self.column})"


@dataclass(frozen=True, repr=False, slots=True)
class ForeignIndex(CellType):
    """Numbers of a table's rows."""

    NAME = "foreignIndex"
    table: Table

    def taking(self, value: Any) -> CellType | None:
        """Return itself for a number of a row, or for nothing."""
        return self if (isinstance(value, int) and type(value) is not bool) or value is None else None

    def __repr__(self) -> str:
        return f"Foreignindex(table:{self.table!r})"
