"""CapturedTable: columns and rows of a table as they were, which nobody changes any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from runfold.media.cell_types import BOOLEAN, NUMBER, TIMESTAMP, CellType, DictOf, optional
from runfold.media.table_cells import captured_rows

if TYPE_CHECKING:
    from runfold.media.table import Table

#: What a cell that is no text holds in memory, roughly.
_CELL_BYTES = 32
#: Columns that hold no text.
_SMALL: Final = frozenset(
    repr(each) for kind in (BOOLEAN, NUMBER, TIMESTAMP) for each in (kind, optional(kind))
)


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """A table, or its last rows.

    Attributes:
        rows: As `table_cells.captured_rows` gives them; at most Table.MAX_ARTIFACT_ROWS.
        row_count: Of the whole table.
        held_bytes: What it holds in memory, roughly.
    """

    columns: tuple[Any, ...]
    types: DictOf
    rows: list[Sequence[Any]]
    row_count: int
    log_mode: str
    held_bytes: int

    @classmethod
    def of(cls, table: Table, *, first: int = 0) -> Self:
        """Copy the rows from `first` on. TypeError: a cell has no form in JSON."""
        types = table._column_types  # noqa: SLF001  # one product
        rows = captured_rows(table.data[first : first + table.MAX_ARTIFACT_ROWS])
        return cls(
            columns=tuple(table.columns),
            types=types,
            rows=rows,
            row_count=len(table.data),
            log_mode=table.log_mode,
            held_bytes=_held_bytes(table.columns, types.types, rows),
        )

    @property
    def size_facts(self) -> dict[str, Any]:
        """What its JSON says of its size."""
        return {"ncols": len(self.columns), "nrows": self.row_count, "log_mode": self.log_mode}


def _held_bytes(columns: Sequence[Any], types: Any, rows: Sequence[Sequence[Any]]) -> int:
    texts = 0
    for place, name in enumerate(columns):
        kind: CellType = types[name]
        if repr(kind) not in _SMALL:
            texts += sum(len(row[place]) for row in rows if type(row[place]) in (str, bytes))
    return len(rows) * len(columns) * _CELL_BYTES + texts
