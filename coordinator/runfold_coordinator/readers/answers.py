"""The shapes in which readers answer: a page of rows, and a table of columns. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column: `rows` None where every row has a value, else the ascending row indices of `values`."""

    name: str
    values: npt.NDArray[Any] | Sequence[Any]
    rows: npt.NDArray[np.uint32] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns over the same `length` rows; the first one is the x axis."""

    length: int
    columns: Sequence[TableColumn]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Rows in order; `next_cursor` is None on the last page. A page may be empty without being the last."""

    rows: list[dict[str, Any]]
    next_cursor: str | None
