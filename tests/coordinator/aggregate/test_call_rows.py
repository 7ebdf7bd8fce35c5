"""The vectorised step machine equals the one in the process, call by call."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runfold.protocol.history.rows import RowFold
from runfold_coordinator.aggregate.call_rows import NEVER, rows_of_calls

CALLS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 2, 3, 4, 5])), max_size=25)


@given(CALLS, st.integers(0, 25))
def test_rows_and_late_calls_are_those_of_the_row_fold(calls, cut):
    fold = RowFold()
    rows, late = [], []
    for seq, (step, flags) in enumerate(calls, 1):
        for row in fold.call(seq, step, flags, 0, [(("k",), seq)]):
            if row.late:
                late.append(row.seq)
            else:
                rows.append((row.step, row.commit_seq))
    if fold.pending is not None:
        rows.append((fold.pending.step, NEVER))

    def run(part, frontier):
        seq = np.array([c[0] for c in part], np.int64)
        step = np.array([c[1][0] for c in part], np.int64)
        flags = np.array([c[1][1] for c in part], np.uint8)
        return seq, rows_of_calls(seq, step, flags, frontier)

    numbered = list(enumerate(calls, 1))
    seq, whole = run(numbered, None)
    assert list(zip(whole.step.tolist(), whole.commit_seq.tolist(), strict=True)) == rows
    assert seq[whole.is_late].tolist() == late

    # in two pieces: the second begins at the row that is open after the first
    _, first = run(numbered[:cut], None)
    closed = first.commit_seq != NEVER
    frontier = int(first.step[closed][-1]) if closed.any() else None
    resume = int(first.first_seq[~closed][0]) if not closed.all() else len(numbered[:cut]) + 1
    if first.is_late[resume - 1 :].any():
        return  # late calls beside an open row: the reader folds such a run again
    _, second = run(numbered[resume - 1 :], frontier)
    joined = first.step[closed].tolist() + second.step.tolist()
    assert joined == whole.step.tolist()
    assert first.commit_seq[closed].tolist() + second.commit_seq.tolist() == whole.commit_seq.tolist()
