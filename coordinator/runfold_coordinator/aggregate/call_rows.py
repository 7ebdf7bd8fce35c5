"""One writer's log() calls in seq order -> which of them came late, and which call closed each row.

The vectorised form of `runfold.protocol.history.rows.RowFold`; tested to be equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runfold.protocol.rows import COMMIT_FALSE, COMMIT_TRUE, STEP_GIVEN
from runfold_coordinator.aggregate.column import Bools, Ints

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class CallRows:
    """Rows that a run of calls makes, in the order of their steps and of their commits at once.

    Attributes:
        step: (n,) of the rows, strictly increasing.
        first_seq: (n,) of each row's first call.
        commit_seq: (n,) of the call that closed it; NEVER for the last row while it is open.
        is_late: (calls,) below the writer's step of that time: merges into a row that was closed before.
    """

    step: Ints
    first_seq: Ints
    commit_seq: Ints
    is_late: Bools

    def head(self, count: int) -> CallRows:
        """Return the first rows; all calls keep their mark."""
        return CallRows(self.step[:count], self.first_seq[:count], self.commit_seq[:count], self.is_late)


def rows_of_calls(seq: Ints, step: Ints, flags: NDArray[np.uint8], frontier: int | None) -> CallRows:
    """Find the rows of calls ascending in seq.

    Args:
        frontier: Step of the newest row that was closed before; None when there is none.
    """
    commits = (flags & COMMIT_TRUE != 0) | (flags & (COMMIT_FALSE | STEP_GIVEN) == 0)
    highest = np.maximum.accumulate(step if frontier is None else np.maximum(step, frontier))
    is_late = step < highest
    if frontier is not None:
        is_late |= step <= frontier
    on_time = np.flatnonzero(~is_late)
    if not len(on_time):
        return CallRows(step[:0], step[:0], step[:0], is_late)
    # Calls at one step belong to one row until one of them commits; those after it are late.
    begins = np.ones(len(on_time), np.bool_)
    begins[1:] = step[on_time[1:]] != step[on_time[:-1]]
    if not begins.all():
        row = np.cumsum(begins) - 1
        committed = np.cumsum(commits[on_time])
        before = committed - commits[on_time]
        after_commit = before > before[np.flatnonzero(begins)][row]
        is_late[on_time[after_commit]] = True
        on_time, begins = on_time[~after_commit], begins[~after_commit]
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(on_time)) - 1
    first_seq, last_seq = seq[on_time[firsts]], seq[on_time[lasts]]
    closed_by_next = np.append(first_seq[1:], NEVER)
    commit_seq = np.where(commits[on_time[lasts]], last_seq, closed_by_next)
    return CallRows(step[on_time[firsts]], first_seq, commit_seq, is_late)
