"""Columns of one key, a lane each, in run steps: of one run, or of many at once. In: lanes. Out: columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.merge import merge_cells, merge_columns
from runfold_coordinator.aggregate.rows import in_run_steps
from runfold_coordinator.readers.run_lanes import Lane, RunLanes
from runfold_coordinator.store.model import Cells
from runfold_coordinator.store.store import Store

#: Runs whose cells are asked for in one statement.
RUNS_AT_ONCE = 200


def read_lane_columns(
    store: Store, lanes: RunLanes, key: str, *, low: int | None = None, high: int | None = None
) -> list[Column]:
    """Return one column per lane, in run steps with low <= step < high, superseded rows left out."""
    return read_columns_of_runs(store, [lanes], key, low=low, high=high)[0]


def read_columns_of_runs(
    store: Store, runs: Sequence[RunLanes], key: str, *, low: int | None = None, high: int | None = None
) -> list[list[Column]]:
    """Return the columns of each run's lanes; runs whose steps are the writers' own are read together."""
    # A fork reads its base's writers up to where they end for it: they are in other runs' answers too.
    found: list[dict[int, list[Cells]]] = [{} for _ in runs]
    whole = [at for at, lanes in enumerate(runs) if _is_plain(lanes)]
    place = {seat.writer.writer_pk: at for at in whole for seat in runs[at].seats}
    for start in range(0, len(whole), RUNS_AT_ONCE):
        pks = [runs[at].run.run_pk for at in whole[start : start + RUNS_AT_ONCE]]
        for cells in _read(store, pks, key, None, low, high):
            if cells.writer_pk in place:  # a writer may have come since the lanes were read
                found[place[cells.writer_pk]].setdefault(cells.writer_pk, []).append(cells)
    for at, lanes in enumerate(runs):
        if _is_plain(lanes):
            continue
        for (run_pk, offset, limit), writer_pks in _reads_of(lanes).items():
            end = high if limit is None else limit if high is None else min(high, limit)
            for cells in _read(store, [run_pk], key, writer_pks, _minus(low, offset), _minus(end, offset)):
                found[at].setdefault(cells.writer_pk, []).append(cells)
    return [[_lane_column(lane, found[at]) for lane in lanes.lanes] for at, lanes in enumerate(runs)]


def _is_plain(lanes: RunLanes) -> bool:
    return lanes.is_whole and all(
        seat.placement.step_offset == 0 and seat.limit_step is None for seat in lanes.seats
    )


def _reads_of(lanes: RunLanes) -> dict[tuple[int, int, int | None], list[int]]:
    """Return the writers that are read alike: of one run, with the same offset and the same end."""
    alike: dict[tuple[int, int, int | None], list[int]] = {}
    for seat in lanes.seats:
        end = None if seat.limit_step is None else seat.placement.cut_step
        alike.setdefault((seat.writer.run_pk, seat.placement.step_offset, end), []).append(
            seat.writer.writer_pk
        )
    return alike


def _read(  # noqa: PLR0917 - one statement
    store: Store,
    run_pks: Collection[int],
    key: str,
    writer_pks: Collection[int] | None,
    low: int | None,
    high: int | None,
) -> Iterable[Cells]:
    return store.read_cells(
        run_pks, key, writer_pks=writer_pks, step_min=low, step_max=_minus(high, 1), times=False
    )


def _minus(step: int | None, off: int) -> int | None:
    return None if step is None else step - off


def _lane_column(lane: Lane, pieces: Mapping[int, list[Cells]]) -> Column:
    return merge_columns(
        [
            in_run_steps(merge_cells(pieces.get(seat.writer.writer_pk, [])), seat.placement)
            for seat in lane.seats
        ]
    )
