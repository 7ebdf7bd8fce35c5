"""The timings of a writer's newest steps, as its rows said them, and of many writers side by side. Pure.

In: columns `timing/<name>` of stored rows. Out: seconds by (writer, step) and timer, over the steps that all
writers have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from runfold_coordinator.store.model import F64, I64

PREFIX = "timing/"
STEP, COLLECTIVE, BUSY = "step", "collective", "busy"
#: Steps kept of each writer: a writer may be behind the others by what is more than a verdict needs.
KEPT_STEPS = 128
#: Timers kept of a writer.
MAX_NAMES = 64


@dataclass(slots=True)
class Timings:
    """Newest pieces of one writer, oldest first."""

    _pieces: deque[tuple[I64, Mapping[str, F64]]] = field(default_factory=deque)
    _row_count: int = 0
    last_step: int = -1

    def add(self, steps: I64, columns: Mapping[str, F64]) -> None:
        """Take rows of one key set; `columns` by timer name."""
        steps = steps[-KEPT_STEPS:].copy()
        names = list(columns)[:MAX_NAMES]
        # Copies: a view would keep the frame alive that it came in.
        self._pieces.append((steps, {name: columns[name][-KEPT_STEPS:].copy() for name in names}))
        self._row_count += len(steps)
        self.last_step = max(self.last_step, int(steps[-1]))
        while self._row_count - len(self._pieces[0][0]) >= KEPT_STEPS:
            self._row_count -= len(self._pieces.popleft()[0])

    def table(self) -> tuple[I64, dict[str, F64]]:
        """Return the steps, ascending, each once, and seconds by timer; 0 where a row lacks it.

        Only rows that say `timing/step` begin a step; where a step is said twice the later row counts.
        """
        timed = [(steps, columns) for steps, columns in self._pieces if STEP in columns]
        if not timed:
            return np.zeros(0, np.int64), {}
        if len(timed) > 1:
            names = list(dict.fromkeys(name for _, columns in timed for name in columns))
            merged = np.concatenate([steps for steps, _ in timed])
            table = {
                name: np.concatenate([columns.get(name, np.zeros(len(steps))) for steps, columns in timed])
                for name in names
            }
            self._pieces, self._row_count = deque([(merged, table)]), len(merged)
            timed = [(merged, table)]
        steps, columns = timed[0]
        unique, at = np.unique(steps[::-1], return_index=True)
        rows = len(steps) - 1 - at
        return unique, {name: values[rows] for name, values in columns.items()}


@dataclass(frozen=True, slots=True)
class Timed:
    """Many writers over their common steps: `seconds[name]` is (writers, steps)."""

    steps: I64
    seconds: dict[str, npt.NDArray[np.float64]]


def side_by_side(writers: Sequence[Timings], most: int) -> Timed:
    """Return the newest `most` steps that all of them have."""
    tables = [writer.table() for writer in writers]
    common = tables[0][0]
    for steps, _ in tables[1:]:
        common = np.intersect1d(common, steps, assume_unique=True)
    common = common[-most:]
    names = dict.fromkeys(name for _, columns in tables for name in columns)
    seconds = {}
    for name in names:
        rows = np.zeros((len(tables), len(common)))
        for row, (steps, columns) in zip(rows, tables, strict=True):
            if name in columns:
                row[:] = columns[name][np.searchsorted(steps, common)]
        seconds[name] = rows
    return Timed(common, seconds)
