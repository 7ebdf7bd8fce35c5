"""A run as its readers see it: lanes in rank order, their attempts, and the rule by which each key is
reduced.

In: catalogue rows of the store. Out: `RunLanes`, a value; columns of a key per lane, in run steps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runfold.protocol.branching import RESUME, REWIND, Branch
from runfold.protocol.history.definitions import MetricDefinition, MetricDefinitions
from runfold.protocol.keypath import decode_path, display_name, encode_path, parse_name
from runfold_coordinator.aggregate.attempts import Placement, WriterFacts, lanes_of, place_writers
from runfold_coordinator.aggregate.column import Column
from runfold_coordinator.aggregate.reduce import RULES, Reduction
from runfold_coordinator.aggregate.run_clock import RunClock
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: Launchers whose agents each count restarts for themselves.
COUNTS_PER_LAUNCHER = frozenset({"torchrun"})
#: Keys that rows have by themselves.
STEP, TIMESTAMP, RUNTIME = "_step", "_timestamp", "_runtime"


@dataclass(frozen=True, slots=True)
class Seat:
    """A writer and its place in the run; of a fork's base, `limit_step` is the run step from which its rows
    are not the fork's.
    """

    writer: WriterRow
    placement: Placement
    limit_step: int | None = None

    @property
    def top_step(self) -> int | None:
        """Highest run step that the writer has reached, superseded or not; None when it has no row."""
        return None if self.writer.step_max is None else self.writer.step_max + self.placement.step_offset


@dataclass(frozen=True, slots=True)
class Lane:
    """One rank over its attempts, oldest first. `name` is what argmin and argmax say: the rank, else the
    label.
    """

    name: int | str
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class RunLanes:
    """Everything of a run but its history."""

    run: RunRow
    lanes: tuple[Lane, ...]
    #: Index of the primary's lane; None while no writer is known.
    primary: int | None
    keys: dict[str, str]
    definitions: MetricDefinitions
    clock: RunClock
    #: False when some writers of the run were left out.
    is_whole: bool = True

    @property
    def seats(self) -> list[Seat]:
        """All writers, lane by lane; of a fork those of its base too."""
        return [seat for lane in self.lanes for seat in lane.seats]

    @property
    def own_seats(self) -> list[Seat]:
        """The run's own writers, lane by lane."""
        return [seat for seat in self.seats if seat.limit_step is None]

    @property
    def run_pks(self) -> list[int]:
        """The run, then the runs whose rows it begins with."""
        return list(dict.fromkeys([self.run.run_pk, *(seat.writer.run_pk for seat in self.seats)]))

    def only(
        self, *, rank: int | None = None, label: str | None = None, attempt: int | None = None
    ) -> RunLanes:
        """Return the run as if only these writers were in it; what supersedes what stays as it is."""
        kept = []
        for lane in self.lanes:
            seats = tuple(seat for seat in lane.seats if _matches(seat, rank, label, attempt))
            if seats:
                kept.append(replace(lane, seats=seats))
        return replace(self, lanes=tuple(kept), primary=primary_of(kept, self.run), is_whole=False)

    def with_superseded(self) -> RunLanes:
        """Return the run with nothing hidden: rows that a later attempt has overtaken count again."""
        lanes = []
        for lane in self.lanes:
            seats = [
                replace(seat, placement=replace(seat.placement, cut_step=seat.limit_step))
                for seat in lane.seats
            ]
            lanes.append(replace(lane, seats=tuple(seats)))
        return replace(self, lanes=tuple(lanes))

    def until(self, step: int) -> RunLanes:
        """Return the run as it is once it was rewound to a step: nothing lies after it, nobody adds to it."""
        lanes = [
            replace(lane, seats=tuple(ended_at(seat, step + 1) for seat in lane.seats)) for lane in self.lanes
        ]
        definitions = MetricDefinitions.from_state(self.definitions.to_state())  # asking them changes them
        return replace(self, lanes=tuple(lanes), definitions=definitions)

    def find_key(self, name: str) -> str | None:
        """Return the canonical key that a user's `name` means: nested "a.b" first, then the literal one."""
        for key in (encode_path(parse_name(name)), encode_path((name,)), name):
            if key in self.keys:
                return key
        return None

    def display_names(self) -> dict[str, str]:
        """Return each key's display name; of keys that share one, those with a literal dot keep theirs."""
        taken: set[str] = set()
        names = {}
        for key in sorted(self.keys, key=lambda key: ("\\" in key, key)):
            shown = display_name(decode_path(key))
            names[key] = key if shown in taken else shown
            taken.add(names[key])
        return names

    def definition(self, key: str) -> MetricDefinition:
        """Return what was defined for a key; the default where nothing was."""
        path = decode_path(key)
        self.definitions.see(path)
        return self.definitions.rule(path) or MetricDefinition()

    def weight_key(self, key: str) -> str | None:
        """Return the key whose values weigh this one's mean; None for a plain mean or another rule."""
        definition = self.definition(key)
        if not definition.weight or definition.reduce not in (None, "mean") or len(self.lanes) < 2:
            return None
        return self.find_key(definition.weight)

    def reduction(self, key: str, weights: Sequence[Column] | None = None) -> Reduction:
        """Return how the lanes of a key become one value."""
        rule = self.definition(key).reduce or "mean"
        return Reduction(rule if rule in RULES else "mean", self.primary, weights)


def ended_at(seat: Seat, end: int) -> Seat:
    """Return a writer whose rows count below a run step only."""
    placement = seat.placement
    cut, rewound = (
        end if step is None else min(step, end) for step in (placement.cut_step, placement.rewound_step)
    )
    return replace(seat, placement=replace(placement, cut_step=cut, rewound_step=rewound))


def load_lanes(store: Store, run: RunRow) -> RunLanes:
    """Read the run's writers, keys and definitions, and seat the writers."""
    keys = {row.key: row.kinds for row in store.keys(run.run_pk)}
    return seat_writers(run, store.writers(run.run_pk), keys)


def load_many(store: Store, runs: Sequence[RunRow]) -> list[RunLanes]:
    """Read many runs at once, in their order."""
    pks = [run.run_pk for run in runs]
    writers, keys = store.writers_of(pks), store.keys_of(pks)
    return [seat_writers(run, writers[run.run_pk], keys[run.run_pk]) for run in runs]


def seat_writers(run: RunRow, writers: Collection[WriterRow], keys: dict[str, str]) -> RunLanes:
    """Return the run with every writer in its lane."""
    by_pk = {writer.writer_pk: writer for writer in writers}
    facts = [facts_of(writer) for writer in writers]
    is_shared = run.mode == "shared"
    placements = place_writers(facts, is_shared=is_shared)
    lanes = []
    for members in lanes_of(facts, placements, is_shared=is_shared):
        seats = tuple(Seat(by_pk[fact.writer_pk], placements[fact.writer_pk]) for fact in members)
        newest = members[-1]
        name = newest.rank if newest.rank is not None else newest.label or newest.writer_id[:8]
        lanes.append(Lane(0 if not is_shared and newest.rank is None else name, seats))
    primary = primary_of(lanes, run)
    definitions = MetricDefinitions()
    for payload in run.definitions:
        definitions.apply(payload)
    return RunLanes(run, tuple(lanes), primary, keys, definitions, _clock_of(run, lanes))


def _clock_of(run: RunRow, lanes: Iterable[Lane]) -> RunClock:
    """Return the run's clock; where the ranks of an attempt resumed it, the first one's word counts."""
    resumed: dict[int, tuple[int, float | None]] = {}
    for seat in (seat for lane in lanes for seat in lane.seats):
        branch = branch_of(seat.writer.identity)
        if branch is not None and branch.kind in (RESUME, REWIND) and branch.runtime_s is not None:
            said = (seat.writer.started_unix_ns, branch.runtime_s)
            resumed[seat.placement.attempt] = min(said, resumed.get(seat.placement.attempt, said))
    return RunClock.of(run.started_unix_ns, resumed.values())


def facts_of(writer: WriterRow) -> WriterFacts:
    """Return what attempts are made from."""
    launcher = writer.launcher
    return WriterFacts(
        writer_pk=writer.writer_pk,
        writer_id=writer.writer_id,
        rank=writer.rank,
        started_unix_ns=writer.started_unix_ns,
        primary=writer.primary,
        label=writer.label,
        job_id=launcher.get("job_id"),
        restart_hint=launcher.get("restart_hint"),
        launcher=counter_of(
            launcher.get("source"),
            launcher.get("launcher_pid"),
            launcher.get("launcher_start"),
            writer.host,
        ),
        machine=machine_of(writer.host, writer.boot_id),
        last_record_unix_ns=writer.last_record_unix_ns,
        start_step=writer.start_step,
        forked_from=writer.identity.get("forked_from"),
        is_finished=(writer.exit or {}).get("code") == 0,
        given_step_min=writer.given_step_min,
        step_max=writer.step_max,
        branch=branch_of(writer.identity),
    )


def branch_of(identity: Mapping[str, Any]) -> Branch | None:
    """Return where a writer goes on from, by its identity map."""
    said = identity.get("branch")
    return None if said is None else Branch.from_map(said)


def counter_of(
    source: str | None, launcher_pid: int | None, launcher_start: float | None, host: str | None
) -> str | None:
    """Return who counts restarts, by what an identity says of its launcher; None: it counts for the job."""
    if source not in COUNTS_PER_LAUNCHER or launcher_pid is None:
        return None
    return f"{host}:{launcher_pid}:{launcher_start}"


def machine_of(host: str | None, boot_id: str | None) -> str | None:
    """Return the name of one boot of one host; None where it is unknown."""
    return None if boot_id is None else f"{host}:{boot_id}"


def _matches(seat: Seat, rank: int | None, label: str | None, attempt: int | None) -> bool:
    return (
        (rank is None or seat.writer.rank == rank)
        and (label is None or seat.writer.label == label)
        and (attempt is None or seat.placement.attempt == attempt)
    )


def primary_of(lanes: Sequence[Lane], run: RunRow) -> int | None:
    """Return the index of the primary's lane, else the first; None where there is none."""
    for at, lane in enumerate(lanes):
        if any(seat.writer.writer_pk == run.primary_writer_pk for seat in lane.seats):
            return at
    return 0 if lanes else None


def top_step(seats: Iterable[Seat]) -> int:
    """Return a step above which some writers have no row that counts, -1 when they have no row; the highest
    that has one where nothing is cut off (else see visible_top.py).
    """
    tops = []
    for seat in seats:
        if seat.top_step is not None:
            cut = seat.placement.cut_step
            tops.append(seat.top_step if cut is None else min(seat.top_step, cut - 1))
    return max(tops, default=-1)
