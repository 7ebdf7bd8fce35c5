"""What a process has to know of a run that it goes on with: how far it is, what it said, who still writes it.

In: a run, and who asks. Out: a document. Reads the catalogue, and of history the pieces that a cut goes
through; the config and the summary have limits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runfold.protocol.errors import ProtocolError
from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.aggregate.writer_facts import WriterFacts
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.lane_rows import read_lane
from runfold_coordinator.readers.run_lanes import (
    RunLanes,
    Seat,
    counter_of,
    ended_at,
    facts_of,
    machine_of,
)
from runfold_coordinator.readers.visible_top import visible_top
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.store import Store

#: Largest config, and largest summary, that an answer carries, in bytes.
MAX_PART_BYTES = 4 * 1024 * 1024
#: Writers that are named where many still live.
MAX_LIVE = 16
#: Cells of the longest run whose summary is folded anew for who rewinds it: about a second's work.
MAX_FOLDED_CELLS = 20_000_000
#: Runs of which the lanes are remembered.
REMEMBERED_RUNS = 32
_ASKER = -1


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the identity of its writer will say it. None: not said."""

    mode: str = "grouped"
    rank: int | None = None
    label: str | None = None
    job_id: str | None = None
    restart_hint: int | None = None
    launcher: str | None = None
    launcher_pid: int | None = None
    launcher_start: float | None = None
    host: str | None = None
    boot_id: str | None = None

    def facts(self, others: Sequence[WriterFacts]) -> WriterFacts:
        """Return the asker as the run's next writer."""
        begins = max((max(w.begins_unix_ns, w.last_record_unix_ns) for w in others), default=0) + 1
        return WriterFacts(
            writer_pk=_ASKER,
            writer_id="f" * 32,
            rank=self.rank,
            started_unix_ns=begins,
            label=self.label,
            job_id=self.job_id,
            restart_hint=self.restart_hint,
            launcher=counter_of(self.launcher, self.launcher_pid, self.launcher_start, self.host),
            machine=machine_of(self.host, self.boot_id),
        )


class Summaries(Protocol):
    """Summaries of runs, as they are and as they are once rewound."""

    def summary(self, run: RunRow) -> dict[str, Any]:
        """Return the summary as of now, nested as logged."""

    def summary_until(self, run: RunRow, step: int) -> dict[str, Any]:
        """Return the summary of a run that nothing was logged to after a step."""


class ResumeReader:
    """Answers who goes on with a run. Thread-safe.

    All ranks of a job ask at the same moment: what they are answered from is read once for all of them.
    """

    def __init__(self, store: Store, summaries: Summaries) -> None:
        self._store = store
        self._summaries = summaries
        self._lock = threading.Lock()
        #: By run, the lanes as of a version, the one asked for last at the end.
        self._lanes: OrderedDict[int, RunLanes] = OrderedDict()

    def read(
        self, run: RunRow, asker: Asker | None, *, step: int | None = None, with_summary: bool = True
    ) -> dict[str, Any]:
        """Return the document; ranks that were launched together get the same, as far as they can be told.

        exists: processes before the asker's own generation have written the run. joined: others of the
        asker's generation already write it. last_step: of those before, that counts (-1: none). runtime_s:
        how long the run had gone on by then; with `step` by that step. after_unix_ns: when the newest of
        those before began. pending: records of theirs, of ended ones, that are known to be on the way. live:
        those of them that are not known to have ended. left_out: what is too large to be told. The rest is
        the run's own.

        Args:
            asker: None for who will write another run: a fork.
            step: The last step that is to be kept, for a rewind or a fork. A rewind's summary is that of the
                run up to there; a fork has none, as it has a summary of its own.
        """
        lanes = self._load(run)
        attempt, joined = _attempt_of(asker, lanes)
        before = [s for s in lanes.seats if s.limit_step is not None or s.placement.attempt < attempt]
        own = [seat for seat in before if seat.limit_step is None]
        kept = before if step is None else [ended_at(seat, step + 1) for seat in before]
        last_step = visible_top(self._store, kept)
        left_out: list[str] = []
        answer: dict[str, Any] = {
            "exists": bool(own),
            "joined": joined,
            "last_step": last_step,
            "runtime_s": self._runtime_s(lanes, kept, last_step, whole=step is None),
            "after_unix_ns": max((facts_of(seat.writer).begins_unix_ns for seat in own), default=0),
            "pending": sum(_pending(seat) for seat in own),
            "live": [_who(seat) for seat in own if seat.writer.state not in TERMINAL][:MAX_LIVE],
            "fork": None if run.fork is None else {key: run.fork[key] for key in ("run_id", "step")},
            "state": run.state,
            "reason": run.reason,
            "name": run.name,
            "notes": run.notes,
            "tags": list(run.tags),
            "group": run.group,
            "job_type": run.job_type,
            "left_out": left_out,
        }
        parts = {"config": run.config}
        if own and with_summary:
            if step is None:
                parts["summary"] = self._summaries.summary(run)
            elif (asker is not None) and run.row_count * len(lanes.keys) <= MAX_FOLDED_CELLS:
                parts["summary"] = self._summaries.summary_until(run, step)
            elif asker is not None:
                left_out.append("summary")
        for name, part in parts.items():
            if _fits(part):
                answer[name] = part
            else:
                left_out.append(name)
        return answer

    def _load(self, run: RunRow) -> RunLanes:
        with self._lock:
            known = self._lanes.get(run.run_pk)
            if known is None or known.run.version < run.version:
                known = load_history(self._store, run)
                if not any(seat.writer.state not in TERMINAL for seat in known.own_seats):
                    return known  # of an ended run the records on their way change without a version
                self._lanes[run.run_pk] = known
            self._lanes.move_to_end(run.run_pk)
            while len(self._lanes) > REMEMBERED_RUNS:
                self._lanes.popitem(last=False)
            return known

    def _runtime_s(self, lanes: RunLanes, kept: Sequence[Seat], last_step: int, *, whole: bool) -> float:
        if whole:
            times = [s.writer.last_record_unix_ns for s in kept if s.limit_step is None]
        else:
            wanted = {seat.writer.writer_pk: seat for seat in kept}
            times = []
            for lane in lanes.lanes if last_step >= 0 else ():
                seats = tuple(
                    wanted[seat.writer.writer_pk] for seat in lane.seats if seat.writer.writer_pk in wanted
                )
                rows = read_lane(self._store, replace(lane, seats=seats), low=last_step, high=last_step + 1)
                times += rows.t_ns.tolist()
        return max((lanes.clock.runtime_s(int(t_ns)) for t_ns in times if t_ns), default=0.0)


def _attempt_of(asker: Asker | None, lanes: RunLanes) -> tuple[int, bool]:
    """Return the attempt that the asker would be of, and whether others of it are there already.

    Where nobody of the newest attempt lives, it is over: who comes now belongs to the next one, but for
    another rank of the same launcher, in the same round.
    """
    if asker is None:
        return 1 + max((seat.placement.attempt for seat in lanes.own_seats), default=0), False
    facts = [facts_of(seat.writer) for seat in lanes.own_seats]
    is_shared = "shared" in (asker.mode, lanes.run.mode)
    placed = place_writers([*facts, asker.facts(facts)], is_shared=is_shared)
    attempt = placed[_ASKER].attempt
    beside = [seat for seat in lanes.own_seats if seat.placement.attempt >= attempt]
    if beside and not any(s.writer.state not in TERMINAL or _is_beside(s.writer, asker) for s in beside):
        return max(seat.placement.attempt for seat in beside) + 1, False
    return attempt, bool(beside)


def _is_beside(writer: WriterRow, asker: Asker) -> bool:
    launcher = writer.launcher
    names = ("launcher_pid", "launcher_start", "restart_hint")
    return (
        asker.launcher_pid is not None
        and asker.rank is not None
        and writer.host == asker.host
        and all(launcher.get(name) == getattr(asker, name) for name in names)
    )


def _pending(seat: Seat) -> int:
    writer = seat.writer
    return max(0, writer.head_seq - writer.last_seq) if writer.state in TERMINAL else 0


def _who(seat: Seat) -> dict[str, Any]:
    writer = seat.writer
    return {
        "rank": writer.rank,
        "label": writer.label,
        "host": writer.host,
        "pid": writer.pid,
        "state": writer.state,
        "unreachable": writer.unreachable,
        "last_seen": writer.last_seen_unix_s,
    }


def _fits(part: Any) -> bool:
    try:
        pack_value(part, max_bytes=MAX_PART_BYTES, max_elements=200_000)
    except (ProtocolError, ValueError):
        return False
    return True
