"""The timings of a writer's newest steps, as its rows said them, and of many writers side by side. Pure.

In: columns `timing/<name>` of stored rows. Out: seconds by (writer, step) and timer, over the steps that the
writers have in common. What comes is kept as the bytes that it came in, and decoded when somebody looks: it
comes far oftener.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runfold_coordinator.store.model import F64, I64

PREFIX = "timing/"
STEP, COLLECTIVE, BUSY = "step", "collective", "busy"
#: Steps kept of each writer: a writer may be behind the others by what is more than a verdict needs.
KEPT_STEPS = 128
#: Timers kept of a writer.
MAX_NAMES = 64
#: A writer that has fewer of the steps that most have is not compared with them: it logs something else.
MIN_COMMON = 10

Matrix = npt.NDArray[np.float64]
#: (timer, "d" or "q") of each column.
Names = tuple[tuple[str, str], ...]


class Piece(NamedTuple):
    """Rows of one key set: `steps` is int64[rows], each column float64[rows] or int64[rows], as bytes."""

    rows: int
    names: Names
    steps: bytes
    columns: tuple[bytes, ...]

    @classmethod
    def of(cls, rows: int, names: Names, steps: bytes, columns: Sequence[bytes]) -> Piece:
        """Return the newest KEPT_STEPS rows of these."""
        if rows <= KEPT_STEPS:
            return cls(rows, names, steps, tuple(columns))
        wide = -8 * KEPT_STEPS
        return cls(KEPT_STEPS, names, steps[wide:], tuple(column[wide:] for column in columns))

    @classmethod
    def from_arrays(cls, steps: I64, columns: Mapping[str, F64]) -> Piece:
        """Return rows that are at hand as arrays."""
        names = tuple((name, "d") for name in columns)
        data = [np.asarray(column, "<f8").tobytes() for column in columns.values()]
        return cls.of(len(steps), names, np.asarray(steps, "<i8").tobytes(), data)


@dataclass(frozen=True, slots=True)
class Table:
    """A writer's rows by step, ascending, each step once.

    `order`: their places in the piece; None: as they are.
    """

    steps: I64
    piece: Piece
    order: npt.NDArray[np.int64] | None

    def column(self, name: str) -> F64 | None:
        """Return the seconds of a timer, None where the writer has no such."""
        for (found, kind), data in zip(self.piece.names, self.piece.columns, strict=True):
            if found == name:
                values = np.frombuffer(data, "<f8" if kind == "d" else "<i8").astype(np.float64, copy=False)
                return values if self.order is None else values[self.order]
        return None


@dataclass(slots=True)
class Timings:
    """Newest pieces of one writer, oldest first."""

    _pieces: deque[Piece] = field(default_factory=deque)
    _row_count: int = 0
    _table: Table | None = None

    def add(self, piece: Piece) -> None:
        """Take rows, one at least."""
        self._table = None
        self._pieces.append(piece)
        self._row_count += piece.rows
        while self._row_count - self._pieces[0].rows >= KEPT_STEPS:
            self._row_count -= self._pieces.popleft().rows

    def table(self) -> Table | None:
        """Return what is kept; where a step is said twice the later row counts. None: nothing is."""
        if self._table is None and self._pieces:
            piece = _joined(list(self._pieces))
            self._pieces, self._row_count = deque([piece]), piece.rows
            steps = np.frombuffer(piece.steps, "<i8")
            if (steps[1:] > steps[:-1]).all():
                self._table = Table(steps, piece, None)
            else:
                unique, at = np.unique(steps[::-1], return_index=True)
                self._table = Table(unique, piece, len(steps) - 1 - at)
        return self._table


def _joined(pieces: Sequence[Piece]) -> Piece:
    """Return pieces as one; 0 where a row lacks a timer."""
    if len(pieces) == 1:
        return pieces[0]
    names = pieces[0].names
    if any(piece.names != names for piece in pieces):
        names = tuple((name, "d") for name in dict.fromkeys(n for piece in pieces for n, _ in piece.names))
        pieces = [_with_names(piece, names[:MAX_NAMES]) for piece in pieces]
        names = names[:MAX_NAMES]
    columns = tuple(b"".join(parts) for parts in zip(*(piece.columns for piece in pieces), strict=True))
    rows = sum(piece.rows for piece in pieces)
    return Piece(rows, names, b"".join(piece.steps for piece in pieces), columns)


def _with_names(piece: Piece, names: Names) -> Piece:
    table = Table(np.frombuffer(piece.steps, "<i8"), piece, None)
    columns = [table.column(name) for name, _ in names]
    blank = bytes(8 * piece.rows)
    return Piece(piece.rows, names, piece.steps, tuple(blank if c is None else c.tobytes() for c in columns))


class Seconds(Mapping[str, Matrix]):
    """Seconds by timer, (writers, steps); made when asked for: most looks need one or two timers."""

    def __init__(self, tables: Sequence[Table], common: I64) -> None:
        self._tables = tables
        self._common = common
        self._names = dict.fromkeys(name for table in tables for name, _ in table.piece.names)
        self._made: dict[str, Matrix] = {}

    def __getitem__(self, name: str) -> Matrix:
        if name not in self._names:
            raise KeyError(name)
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = np.zeros((len(self._tables), len(self._common)))
            for row, table in zip(made, self._tables, strict=True):
                column = table.column(name)
                if column is not None and len(row):
                    row[:] = column[_places(table.steps, self._common)]
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _places(steps: I64, common: I64) -> slice | npt.NDArray[np.int64]:
    """Return where the common steps are among a writer's."""
    if len(steps) >= len(common) and (steps[-len(common) :] == common).all():
        return slice(len(steps) - len(common), None)
    return np.searchsorted(steps, common)


@dataclass(frozen=True, slots=True)
class Timed:
    """Many writers over their common steps: `seconds[name]` is (writers, steps).

    `members` are the places of those writers among all that were asked about.
    """

    steps: I64
    seconds: Mapping[str, Matrix]
    members: Sequence[int] = ()


def side_by_side(writers: Sequence[Timings], most: int) -> Timed:
    """Return the newest `most` steps that the writers have in common.

    A writer that has next to none of the steps that most have is left out: it logs once an epoch, say.
    """
    tables = [(at, table) for at, writer in enumerate(writers) if (table := writer.table()) is not None]
    common = np.zeros(0, np.int64)
    if tables:
        tails = {table.steps[-most:].tobytes() for _, table in tables}
        if len(tails) == 1:
            common = tables[0][1].steps[-most:]
        else:
            tables, common = _with_common_steps(tables)
            common = common[-most:]
    return Timed(common, Seconds([table for _, table in tables], common), [at for at, _ in tables])


def _with_common_steps(tables: list[tuple[int, Table]]) -> tuple[list[tuple[int, Table]], I64]:
    every, counts = np.unique(np.concatenate([table.steps for _, table in tables]), return_counts=True)
    usual = every[counts >= max(2, (len(tables) + 1) // 2)]
    least = min(MIN_COMMON, len(usual))
    kept = [(at, table) for at, table in tables if np.isin(table.steps, usual).sum() >= least]
    if not kept:
        return [], usual[:0]
    every, counts = np.unique(np.concatenate([table.steps for _, table in kept]), return_counts=True)
    return kept, every[counts == len(kept)]
