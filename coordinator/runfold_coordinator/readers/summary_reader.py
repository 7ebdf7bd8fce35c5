"""Summaries of runs, folded up to what is committed when they are asked for, and kept so that little is left
to do.

In: a run. Out: the summary as nested dicts. A saved fold only saves work: the rows are the truth.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from runfold.protocol.errors import ProtocolError
from runfold.protocol.history.saved_values import pack_saved, unpack_saved
from runfold.protocol.history.summary import SummaryTree
from runfold_coordinator.edits.overlay import EditedSummaries
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.lane_summary import LaneSummary
from runfold_coordinator.readers.run_lanes import RunLanes
from runfold_coordinator.readers.writer_summary import TERMINAL_STATES, WriterSummary
from runfold_coordinator.store import tables
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Kinds of saved state: of a run with one writer, and of one with several.
ALONE, MANY = 1, 2
#: Version of the saved state; another one is folded anew.
STATE_VERSION = 3
#: A reader that has folded so many records itself saves the state; fewer are folded again by the next one.
SAVE_AFTER_RECORDS = 100_000
#: A run that goes on is saved at most so often in the background.
KEEP_EVERY_S = 10.0
#: A fold that took this long, seconds, is not an increment: rows come late, and each makes it start anew.
COSTLY_S = 0.5
#: Such a run gets at most this part of the background's time.
KEEP_SHARE = 0.05
#: Runs looked at in one background round, newest change first.
RUNS_A_ROUND = 200


class SummaryReader:
    """Folds summaries. Thread-safe: two folds of one run at once give the same, and either may be kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._edits = EditedSummaries(store)
        #: By run: the version that was saved last, and (monotonic seconds) when and how long that took.
        self._kept: dict[int, tuple[int, float, float]] = {}

    def summary(self, run: RunRow) -> dict[str, Any]:
        """Return the run's summary over everything that is committed now, nested as logged, keys sorted."""
        return self._fold(run, save_after=SAVE_AFTER_RECORDS)[0]

    def summary_until(self, run: RunRow, step: int) -> dict[str, Any]:
        """Return the summary that the run has once it was rewound to a step. Folds all rows up to there."""
        lanes = load_history(self._store, run).until(step)
        tree = LaneSummary(run.run_pk).catch_up(self._store, lanes).tree(self._store, lanes)
        return self._edits.edited(run.run_pk, tree.as_dict())

    def keep_up(self, mono_s: Callable[[], float], *, budget_s: float = 0.5) -> bool:
        """Fold and save runs that changed since they were saved; return whether some were left for later."""
        deadline_s = mono_s() + budget_s
        c = tables.runs.c
        for run in self._store.list_runs(order_by=[c.updated_unix_s.desc()], limit=RUNS_A_ROUND):
            version, at_s, took_s = self._kept.get(run.run_pk, (-1, -math.inf, 0.0))
            if version == run.version:
                continue
            pause_s = took_s / KEEP_SHARE if took_s >= COSTLY_S else 0.0
            if run.state not in TERMINAL_STATES:
                pause_s = max(pause_s, KEEP_EVERY_S)
            began_s = mono_s()
            if began_s - at_s < pause_s:
                continue
            if began_s >= deadline_s:
                return True
            _, is_saved = self._fold(run, save_after=0)
            now_s = mono_s()
            # Saving makes one more version.
            self._kept[run.run_pk] = (run.version + is_saved, now_s, now_s - began_s)
        if len(self._kept) > 100 * RUNS_A_ROUND:
            self._kept.clear()
        return False

    def _fold(self, run: RunRow, *, save_after: int) -> tuple[dict[str, Any], bool]:
        """Return the summary, and whether the fold was saved: it is when so many records more were folded."""
        lanes = load_history(self._store, run)
        if not lanes.lanes:
            return self._edits.edited(run.run_pk, {}), False
        packed_before = self._store.load_fold(run.run_pk)
        saved_said, saved = _unpack(packed_before)
        tree: SummaryTree
        state: list[Any]
        if _is_alone(lanes):
            (seat,) = lanes.seats
            alone = WriterSummary(run.run_pk, seat.writer.writer_pk, lanes.clock.zero[-1])
            if isinstance(saved, WriterSummary) and saved.is_of(alone):
                alone = saved
            alone = alone.catch_up(self._store, lanes, seat)
            tree, state = alone.tree, [ALONE, alone.to_state()]
        else:
            many = saved if isinstance(saved, LaneSummary) else LaneSummary(run.run_pk)
            many = many.catch_up(self._store, lanes)
            tree, state = many.tree(self._store, lanes), [MANY, many.to_state()]
        summary = self._edits.edited(run.run_pk, tree.as_dict())
        said = sum(seat.writer.last_seq for seat in lanes.seats)
        if said - saved_said < save_after:
            return summary, False
        packed = pack_saved([STATE_VERSION, said, *state])
        if packed == packed_before and summary == run.summary:
            return summary, False
        self._store.save_fold(run.run_pk, packed, summary=summary)
        return summary, True


def _unpack(packed: bytes | None) -> tuple[int, WriterSummary | LaneSummary | None]:
    """Return how many records a saved fold had taken, and the fold; a state that can't be read is none."""
    if packed is None:
        return 0, None
    try:
        version, said, kind, state = unpack_saved(packed)
        if version != STATE_VERSION:
            return 0, None
        return said, WriterSummary.from_state(state) if kind == ALONE else LaneSummary.from_state(state)
    except (ProtocolError, ValueError, TypeError, LookupError):
        logger.warning("a saved summary can't be read: folded anew", extra={"event": "fold_unreadable"})
        return 0, None


def _is_alone(lanes: RunLanes) -> bool:
    return len(lanes.seats) == 1
