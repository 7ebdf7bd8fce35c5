"""A job as it stands now, in one small document: its run, a row a process of its newest attempt, its nodes.

In: catalogue rows, the newest rows' step times, what the ingest thread heard last, the nodes' newest samples.
Out: what `runfold top` shows and `/metrics` exports. Nothing of a run's history is read but its newest rows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from runfold_coordinator.clock import Clock
from runfold_coordinator.live_facts import Live
from runfold_coordinator.readers.kept_goodput import KeptGoodput
from runfold_coordinator.readers.nodes_now import GpuNow, NodeNow, NodesNow, Surroundings, UseNow
from runfold_coordinator.readers.run_lanes import Seat, seat_writers
from runfold_coordinator.readers.step_pace import StepPace
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: An answer is given again for so long, seconds: ten that look cost as much as one.
FRESH_S = 0.5
#: A sample that is older tells nothing of now; under load they are a minute apart.
STALE_S = 150.0
#: Stands for many runs at once where one's key is asked for.
_MANY_RUNS = 0
#: Answers kept.
MAX_ANSWERS = 32


class Facts(Protocol):
    """What was heard of all writers; may be asked from any thread."""

    def of(self, writer_id: str) -> Live | None:
        """Return what was heard of a writer (hex); None when nothing was since start."""


class NothingHeard:
    """Facts of a coordinator without ingest."""

    def of(self, writer_id: str) -> Live | None:  # noqa: ARG002 - of nobody
        return None


@dataclass(frozen=True, slots=True)
class LiveView:
    """A run now. Ages are seconds before `unix_s`, the coordinator's clock."""

    unix_s: float
    run: RunRow
    attempt: int
    #: Writers of all attempts, by state.
    states: Mapping[str, int]
    steps_per_s: float | None
    goodput_ratio: float | None
    #: Of the newest attempt, in the order of ranks.
    writers: tuple[LiveWriter, ...]
    nodes: tuple[NodeNow, ...]


@dataclass(frozen=True, slots=True)
class LiveWriter:
    """A process now. `step` counts as the run does; `step_s` is the median time of its newest steps."""

    writer: WriterRow
    attempt: int
    step: int | None
    step_lag: int | None
    step_s: float | None
    #: Since its newest record.
    log_age_s: float | None
    live: Live | None
    gpus: tuple[GpuNow, ...]
    use: UseNow


class LiveReader:
    """Looks at runs as they are now. Thread-safe."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        facts: Facts,
        goodput: Callable[[RunRow], dict[str, Any]] = lambda _run: {"ratio": None},
    ) -> None:
        """Prepare.

        Args:
            goodput: Measures a run (GoodputReader.goodput); asked now and then.
        """
        self._store = store
        self._clock = clock
        self.facts = facts
        self._pace = StepPace(store)
        self._nodes = NodesNow(store, clock)
        self.goodput = KeptGoodput(goodput, clock)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, bool], tuple[float, LiveView]] = OrderedDict()

    def look(self, run: RunRow, *, every_attempt: bool = False) -> LiveView:
        """Return the run as it stands, at most half a second old.

        Args:
            every_attempt: Also the processes of earlier attempts.
        """
        now_s, asked = self._clock.mono_s(), (run.run_pk, every_attempt)
        with self._lock:
            kept = self._kept.get(asked)
        if kept is not None and 0 <= now_s - kept[0] < FRESH_S and kept[1].run.version == run.version:
            return kept[1]
        writers = self._store.writers(run.run_pk)
        around = self._nodes.around(run.run_pk, _going_on(writers))
        goodput = self.goodput.ratio(run)
        view = self._look(run, writers, around, goodput, every_attempt=every_attempt)
        with self._lock:
            self._kept[asked] = (now_s, view)
            self._kept.move_to_end(asked)
            while len(self._kept) > MAX_ANSWERS:
                self._kept.popitem(last=False)
        return view

    def look_at_all(self, runs: Sequence[RunRow]) -> list[LiveView]:
        """Return many runs as they stand, in their order; each has the nodes of all of them.

        Their goodput is what was measured of it last: `goodput.ratio` measures.
        """
        writers = self._store.writers_of([run.run_pk for run in runs])
        around = self._nodes.around(
            _MANY_RUNS, _going_on([writer for run in runs for writer in writers[run.run_pk]])
        )
        # Read together: what is new of all of them at once, then each finds its own at hand.
        self._pace.step_times(_going_on([writer for run in runs for writer in writers[run.run_pk]]))
        return [
            self._look(run, writers[run.run_pk], around, self.goodput.known(run), every_attempt=False)
            for run in runs
        ]

    def _look(
        self,
        run: RunRow,
        writers: Sequence[WriterRow],
        around: Surroundings,
        goodput_ratio: float | None,
        *,
        every_attempt: bool,
    ) -> LiveView:
        seats = seat_writers(run, writers, {}).seats
        newest = max((seat.placement.attempt for seat in seats), default=1)
        shown = [seat for seat in seats if every_attempt or seat.placement.attempt == newest]
        paces = self._pace.step_times([s.writer for s in shown if s.writer.state not in TERMINAL])
        tops = [seat.top_step for seat in shown if seat.placement.attempt == newest]
        front = max((top for top in tops if top is not None), default=None)
        states: dict[str, int] = {}
        for writer in writers:
            states[writer.state] = states.get(writer.state, 0) + 1
        step_s = median(paces.values()) if paces else None
        unix_s = self._clock.unix_s()
        beside = _Beside(around, unix_s)
        return LiveView(
            unix_s=unix_s,
            run=run,
            attempt=newest,
            states=states,
            steps_per_s=1.0 / step_s if step_s else None,
            goodput_ratio=goodput_ratio,
            writers=tuple(
                self._writer(seat, front if seat.placement.attempt == newest else None, paces, beside)
                for seat in sorted(shown, key=_by_rank)
            ),
            nodes=around.nodes,
        )

    def _writer(
        self, seat: Seat, front: int | None, paces: Mapping[int, float], beside: _Beside
    ) -> LiveWriter:
        writer, step = seat.writer, seat.top_step
        live = self.facts.of(writer.writer_id)
        goes_on = writer.state not in TERMINAL
        return LiveWriter(
            writer=writer,
            attempt=seat.placement.attempt,
            step=step,
            step_lag=None if front is None or step is None else front - step,
            step_s=paces.get(writer.writer_pk),
            log_age_s=log_age_s(writer, live, beside.unix_s),
            live=live,
            gpus=beside.gpus(writer) if goes_on else (),
            use=beside.use(writer) if goes_on else UseNow(),
        )


class _Beside:
    """What samples say of each process. Those of some time ago say nothing of now."""

    def __init__(self, around: Surroundings, unix_s: float) -> None:
        self.unix_s = unix_s
        self._devices = around.devices
        fresh = [node for node in around.nodes if is_fresh(node, unix_s)]
        self._gpus = {gpu.uuid: gpu for node in fresh for gpu in node.gpus}
        self._uses = {writer_id: use for node in fresh for writer_id, use in node.uses.items()}
        self._named = {gpu.uuid: gpu for node in around.nodes for gpu in node.gpus}

    def gpus(self, writer: WriterRow) -> tuple[GpuNow, ...]:
        """Return its devices, with values where there are any of now."""
        return tuple(
            self._gpus.get(uuid) or _without_values(self._named.get(uuid), uuid)
            for uuid in self._devices.get(writer.writer_id, ())
        )

    def use(self, writer: WriterRow) -> UseNow:
        """Return what it uses."""
        return self._uses.get(writer.writer_id, UseNow())


def is_fresh(node: NodeNow, unix_s: float) -> bool:
    """Tell whether a node's sample tells of now; its clock may be some seconds off."""
    return node.sampled_unix_s is not None and abs(unix_s - node.sampled_unix_s) < STALE_S


def _without_values(gpu: GpuNow | None, uuid: str) -> GpuNow:
    return GpuNow(uuid, None, None) if gpu is None else GpuNow(uuid, gpu.index, gpu.name)


def _going_on(writers: Sequence[WriterRow]) -> list[WriterRow]:
    return [writer for writer in writers if writer.state not in TERMINAL]


def log_age_s(writer: WriterRow, live: Live | None, unix_s: float) -> float | None:
    """Return seconds since the writer's newest record was stored, by the coordinator's clock.

    Where none was since the coordinator began, by what the writer's own clock said of it.
    """
    if live is not None and live.logged_s is not None:
        return live.logged_s
    if not writer.last_record_unix_ns:
        return None
    return max(0.0, unix_s - writer.last_record_unix_ns / 1e9)


def _by_rank(seat: Seat) -> tuple[int, bool, int, str, str]:
    writer = seat.writer
    rank = writer.rank
    return (-seat.placement.attempt, rank is None, rank or 0, writer.label or "", writer.writer_id)
