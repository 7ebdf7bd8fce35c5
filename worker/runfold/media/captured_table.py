"""CapturedTable: columns and rows of a table as they were, which nobody changes any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from runfold.media.cell_types import DictOf
from runfold.media.table_cells import captured_rows

if TYPE_CHECKING:
    from runfold.media.table import Table

#: What a cell that is no text holds, roughly.
_CELL_BYTES = 32


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """A table, or its last rows.

    Attributes:
        rows: As `table_cells.captured_rows` gives them; at most Table.MAX_ARTIFACT_ROWS.
        row_count: Of the whole table.
    """

    columns: tuple[Any, ...]
    types: DictOf
    rows: list[Sequence[Any]]
    row_count: int
    log_mode: str

    @classmethod
    def of(cls, table: Table, *, first: int = 0) -> Self:
        """Copy the rows from `first` on. TypeError: a cell has no form in JSON."""
        return cls(
            columns=tuple(table.columns),
            types=table._column_types,  # noqa: SLF001  # one product
            rows=captured_rows(table.data[first : first + table.MAX_ARTIFACT_ROWS]),
            row_count=len(table.data),
            log_mode=table.log_mode,
        )

    @property
    def held_bytes(self) -> int:
        """What it holds in memory, roughly."""
        texts = sum(
            len(cell) for row in self.rows for cell in row if type(cell) is str or type(cell) is bytes
        )
        return len(self.rows) * len(self.columns) * _CELL_BYTES + texts

    @property
    def size_facts(self) -> dict[str, Any]:
        """What its JSON says of its size."""
        return {"ncols": len(self.columns), "nrows": self.row_count, "log_mode": self.log_mode}
