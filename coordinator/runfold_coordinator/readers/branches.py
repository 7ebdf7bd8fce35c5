"""A fork's history begins with its base's: the lanes of both as one run's, for everybody who reads rows.

In: a run. Out: its `RunLanes`, with the writers of its base in front, as they stood when it was forked. A
base that is not known, or not known yet, leaves the fork with what it logged itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runfold.protocol.history.definitions import MetricDefinitions
from runfold_coordinator.readers.run_lanes import (
    Lane,
    RunLanes,
    Seat,
    facts_of,
    load_lanes,
    load_many,
    primary_of,
    seat_writers,
)
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.store import Store

#: Forks of forks that are followed: nobody makes more, and nobody may make a read endless.
MAX_DEPTH = 32
_KINDS = "dq?o"


def load_history(store: Store, run: RunRow) -> RunLanes:
    """Read the run's writers, keys and definitions; of a fork its base's too."""
    return _with_base(store, load_lanes(store, run))


def load_histories(store: Store, runs: Sequence[RunRow]) -> list[RunLanes]:
    """Read many runs at once, in their order."""
    return [_with_base(store, lanes) for lanes in load_many(store, runs)]


def history_keys(store: Store, run: RunRow) -> dict[str, str]:
    """Return the keys of a run's history with their kinds, ordered by key."""
    if run.fork is not None:
        return load_history(store, run).keys
    return {row.key: row.kinds for row in store.keys(run.run_pk)}


def find_base(store: Store, run: RunRow) -> RunRow | None:
    """Return the run that this one was forked from, deleted or not; None: it is no fork, or of none that is
    known.
    """
    if run.fork is None:
        return None
    path = (run.entity, run.project, run.fork["run_id"])
    return store.find_run(*path) or store.find_run(*path, deleted=True)


def _with_base(store: Store, lanes: RunLanes) -> RunLanes:
    chain = [lanes]
    seen = {lanes.run.run_pk}
    while (
        len(chain) <= MAX_DEPTH
        and (fork := chain[-1].run.fork) is not None
        and (base := find_base(store, chain[-1].run)) is not None
        and base.run_pk not in seen
    ):
        seen.add(base.run_pk)
        chain.append(_as_of(store, base, fork["begins_unix_ns"]))
    found = chain.pop()
    definitions = list(found.run.definitions)
    while chain:
        above = chain.pop()
        definitions += above.run.definitions
        found = _inherit(above, found, definitions)
    return found


def _as_of(store: Store, base: RunRow, begins_unix_ns: int) -> RunLanes:
    """Return a base with the writers that began before its fork: what it did later is none of the fork's."""
    writers = [
        writer for writer in store.writers(base.run_pk) if facts_of(writer).begins_unix_ns < begins_unix_ns
    ]
    return seat_writers(base, writers, {row.key: row.kinds for row in store.keys(base.run_pk)})


def _inherit(lanes: RunLanes, base: RunLanes, said: Sequence[dict[str, Any]]) -> RunLanes:
    """Return a fork with its base's writers in front of its own, lane by lane."""
    fork = lanes.run.fork
    assert fork is not None, "a base has a fork"
    limit = fork["step"] + 1
    own_cut = _taken_back(lanes)
    left = [
        replace(lane, seats=tuple(_ended(seat, limit, own_cut) for seat in lane.seats)) for lane in base.lanes
    ]
    joined: list[Lane] = []
    for lane in lanes.lanes:
        before = next((one for one in left if one.name == lane.name), None)
        if before is not None:
            left.remove(before)
            lane = replace(lane, seats=(*before.seats, *lane.seats))  # noqa: PLW2901 - the same lane, longer
        joined.append(lane)
    joined += left
    joined.sort(key=lambda lane: (isinstance(lane.name, str), lane.name if isinstance(lane.name, int) else 0))
    definitions = MetricDefinitions()
    for payload in said:
        definitions.apply(payload)
    return replace(
        lanes,
        lanes=tuple(joined),
        primary=primary_of(joined, lanes.run),
        keys=_merge_kinds(base.keys, lanes.keys),
        definitions=definitions,
        clock=lanes.clock.after(base.clock, fork["begins_unix_ns"]),
    )


def _ended(seat: Seat, limit: int, own_cut: int | None) -> Seat:
    """Return a base's writer as its fork sees it."""
    placement = seat.placement
    limits = [step for step in (limit, seat.limit_step) if step is not None]
    end = min(limits)
    cuts = [step for step in (end, own_cut, placement.cut_step) if step is not None]
    rewinds = [step for step in (end, own_cut, placement.rewound_step) if step is not None]
    return replace(
        seat,
        placement=replace(placement, cut_step=min(cuts), rewound_step=min(rewinds)),
        limit_step=end,
    )


def _taken_back(lanes: RunLanes) -> int | None:
    """Return the step from which a fork's own writers have superseded what came before all of them."""
    found = [seat.placement.cut_step for seat in lanes.own_seats if seat.placement.attempt == 1]
    for seat in lanes.own_seats:
        branch = facts_of(seat.writer).goes_on
        if branch is not None and branch.supersedes:
            found.append(branch.next_step)
    return min((step for step in found if step is not None), default=None)


def _merge_kinds(*parts: dict[str, str]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for part in parts:
        for key, kinds in part.items():
            merged[key] = "".join(kind for kind in _KINDS if kind in kinds or kind in merged.get(key, ""))
    return dict(sorted(merged.items()))
