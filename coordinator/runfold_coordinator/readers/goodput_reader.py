"""Goodput of a run: the times of its attempts, from a few rows each; `aggregate.goodput` does the sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.aggregate.goodput import AttemptTimes, measure_goodput
from runfold_coordinator.clock import Clock
from runfold_coordinator.readers.attempts_reader import attempts_of, failed_in, lost_steps_of
from runfold_coordinator.readers.run_lanes import Seat, load_lanes
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store


class GoodputReader:
    """Reads goodput. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def goodput(self, run: RunRow) -> dict[str, Any]:
        """Return what `measure_goodput` says of the run, as of now; `as_of_unix_s` beside it.

        Reads at most three chunks' row times an attempt, however long the run is.
        """
        now_unix_s = self._clock.unix_s()
        found = attempts_of(load_lanes(self._store, run))
        newest = max(found, default=0)
        times = [
            self._times(run, attempt, seats, now_unix_s, is_newest=attempt == newest)
            for attempt, seats in found.items()
        ]
        return measure_goodput(times) | {"as_of_unix_s": now_unix_s}

    def _times(
        self, run: RunRow, attempt: int, seats: Sequence[Seat], now_unix_s: float, *, is_newest: bool
    ) -> AttemptTimes:
        lead = _lead(seats)
        # Other machines' clocks are not asked: a minute off, and a step's time would be negative.
        beside = [seat for seat in seats if _machine(seat) == _machine(lead)]
        heard_unix_s = max(_ended_unix_s(seat) for seat in beside)
        is_running = is_newest and any(seat.writer.state not in TERMINAL for seat in seats)
        ended_unix_s = max(heard_unix_s, now_unix_s) if is_running else heard_unix_s
        cut, offset = lead.placement.cut_step, lead.placement.step_offset
        cut_at = None if cut is None else cut - offset
        writer_pk = lead.writer.writer_pk
        return AttemptTimes(
            attempt=attempt,
            started_unix_s=min(seat.writer.started_unix_ns for seat in beside) / 1e9,
            ended_unix_s=ended_unix_s,
            first_row_unix_s=self._first_row_unix_s(run.run_pk, writer_pk),
            kept_until_unix_s=self._last_row_unix_s(run.run_pk, writer_pk, cut_at),
            is_cut=any(map(_is_cut, seats)),
            lost_steps=lost_steps_of(seats),
            stalls=_stalls(run, ended_unix_s),
            has_failed=failed_in(seats) is not None,
        )

    def _first_row_unix_s(self, run_pk: int, writer_pk: int) -> float | None:
        c = t.chunks.c
        [[low]] = self._store.fetch(
            sa.select(sa.func.min(c.seq_lo)).where(c.run_pk == run_pk, c.writer_pk == writer_pk)
        )
        if low is None:
            return None
        found = self._store.read_row_times(run_pk, writer_pk, seq_max=low)
        return min((int(piece.t_ns.min()) for piece in found), default=0) / 1e9

    def _last_row_unix_s(self, run_pk: int, writer_pk: int, cut_at: int | None) -> float | None:
        """Return the time of the newest row, of those below the writer's step `cut_at` where given."""
        c = t.chunks.c
        of_writer = [c.run_pk == run_pk, c.writer_pk == writer_pk]
        if cut_at is None:
            [[high]] = self._store.fetch(sa.select(sa.func.max(c.seq_hi)).where(*of_writer))
            if high is None:
                return None
            found = list(self._store.read_row_times(run_pk, writer_pk, seq_after=high - 1))
        else:
            # From where the newest piece below the cut begins: not the whole history up to it.
            [[low]] = self._store.fetch(
                sa.select(sa.func.max(c.step_min)).where(*of_writer, c.step_min < cut_at)
            )
            if low is None:
                return None
            found = list(self._store.read_row_times(run_pk, writer_pk, step_min=low, step_max=cut_at - 1))
        return max((int(piece.t_ns.max()) for piece in found), default=0) / 1e9


def _is_cut(seat: Seat) -> bool:
    """Return whether rows of it are superseded; its peers may have been ended before they came so far."""
    cut, top = seat.placement.cut_step, seat.writer.step_max
    return cut is not None and top is not None and top + seat.placement.step_offset >= cut


def _lead(seats: Sequence[Seat]) -> Seat:
    """Return the lowest rank that has rows, else the lowest rank; of two the one that started first."""

    def place(seat: Seat) -> tuple[bool, bool, int, int, str]:
        writer = seat.writer
        return (
            writer.step_max is None,
            writer.rank is None,
            writer.rank or 0,
            writer.started_unix_ns,
            writer.writer_id,
        )

    return min(seats, key=place)


def _machine(seat: Seat) -> tuple[str | None, str | None]:
    return seat.writer.host, seat.writer.boot_id


def _ended_unix_s(seat: Seat) -> float:
    writer = seat.writer
    ended_ns = writer.ended_unix_ns if writer.state in TERMINAL else None
    return max(writer.last_record_unix_ns, writer.started_unix_ns, ended_ns or 0) / 1e9


def _stalls(run: RunRow, until_unix_s: float) -> tuple[tuple[float, float], ...]:
    """Return when the run stalled, as its verdicts tell: the last ones, and the one that lasts."""
    told = [*(run.verdicts.get("stalls") or ()), run.verdicts.get("stall")]
    found = []
    for stall in told:
        since = stall.get("since_unix_s") if isinstance(stall, dict) else None
        until = stall.get("until_unix_s", until_unix_s) if isinstance(stall, dict) else None
        if isinstance(since, int | float) and isinstance(until, int | float) and until > since:
            found.append((float(since), float(until)))
    return tuple(found)
