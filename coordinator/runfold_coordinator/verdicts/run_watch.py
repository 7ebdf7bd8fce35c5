"""One run under watch: what each of its writers did, and the verdicts that follow. No database.

In: stored rows (`Seen`), signs of life, facts of the catalogue. Out: the verdicts' map, and who is stalled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runfold.protocol.keypath import display_name
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.liveness import Sign
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.verdicts.desync import Desync, Difference, Expectations
from runfold_coordinator.verdicts.observe import Seen
from runfold_coordinator.verdicts.progress import Pace, Progress, StallLimits
from runfold_coordinator.verdicts.stacks import classify
from runfold_coordinator.verdicts.stall import Member, Waited, waited_for
from runfold_coordinator.verdicts.stragglers import STEPS, find_behind, find_slow
from runfold_coordinator.verdicts.timings import Timings, side_by_side

#: A live rank without any row holds up the comparison of steps for so long, seconds.
SILENT_RANK_S = 60.0
#: Workers without timings are called slow after so many looks in a row that say so.
LOOKS = 3
#: Share of its patience after which a writer is judged together with one that has lost it.
NEARLY = 0.8
#: Stalls that ended which are listed; all are counted.
KEPT_STALLS = 20
#: Stacks kept in a verdict, and characters of each.
KEPT_STACKS = 8
STACK_TEXT = 8000


@dataclass(slots=True)
class WriterWatch:
    """One writer. `last_seq`: stored so far; `is_flagged`: taken to hang, until a row comes or it ends."""

    writer_id: str
    writer_pk: int
    progress: Progress
    last_seq: int = 0
    has_ended: bool = False
    is_flagged: bool = False
    #: As the row of the catalogue says it.
    told_flag: bool = False
    timings: Timings | None = None
    placement: Placement = field(default_factory=lambda: Placement(1))
    row: WriterRow | None = None
    state: str = "running"
    reason: str = ""
    unreachable: bool = False
    #: What its process's stack said: class, place for people, tool, text.
    stack: tuple[str, str, str, str] | None = None

    @property
    def rank(self) -> int | None:
        """The launcher's rank; None where unknown."""
        return None if self.row is None else self.row.rank

    @property
    def step(self) -> int | None:
        """The run's number of its last step."""
        step = self.progress.step
        return None if step is None else step + self.placement.step_offset

    def who(self) -> dict[str, Any]:
        """Return how findings name it."""
        row = self.row
        return {
            "rank": self.rank,
            "label": None if row is None else row.label,
            "writer": self.writer_id,
            "host": None if row is None else row.host,
        }


class RunWatch:
    """One run. Not thread-safe."""

    def __init__(self, run_pk: int, limits: StallLimits, verdicts: Mapping[str, Any]) -> None:
        """Go on from the verdicts that are in the catalogue."""
        self.run_pk = run_pk
        self.limits = limits
        self.verdicts: dict[str, Any] = dict(verdicts)
        self.writers: dict[str, WriterWatch] = {}
        self.expected = Expectations()
        self._desync = Desync([str(found.get("metric")) for found in self.verdicts.get("desync") or ()])
        self._pace = Pace.from_map(self.verdicts.get("pace"))
        self._longest_s = 0.0 if self._pace is None else self._pace.longest_s
        self.attempt = 1
        #: The verdicts changed since they were written.
        self.is_changed = False
        self._behind_looks: dict[str, int] = {}
        #: Steps seen with timings when stragglers were looked for last.
        self._judged_step = -1

    # --- what comes in ----------------------------------------------------------------------------------

    def note(
        self, writer: WriterWatch, seen: Seen, *, now_s: float, now_unix_s: float, lease_s: float
    ) -> None:
        """Rows of a writer were stored."""
        progress = writer.progress
        progress.note(now_s, now_unix_s, lease_s, seen.steps, seen.t_ns, was_flagged=writer.is_flagged)
        self._longest_s = max(self._longest_s, progress.longest_s)
        writer.is_flagged, writer.stack = False, None
        if seen.timings:
            writer.timings = writer.timings or Timings()
            for steps, columns in seen.timings:
                writer.timings.add(steps, columns)
        for found in seen.equal:
            tolerance = self.expected.of(found.path)
            if tolerance is not None:
                steps = found.steps + writer.placement.step_offset
                name = display_name(found.path)
                self._desync.add(name, tolerance, writer.writer_id, steps, found.values)
        if self._desync.is_full:
            self.compare(now_s)

    def place(self, rows: Mapping[str, WriterRow], placements: Mapping[int, Placement]) -> None:
        """Take who the writers are, and which attempt each belongs to."""
        for writer_id, row in rows.items():
            if (writer := self.writers.get(writer_id)) is not None:
                writer.row = row
                writer.placement = placements.get(row.writer_pk, Placement(1))
        newest = max((placement.attempt for placement in placements.values()), default=1)
        if newest != self.attempt:
            if self.attempt < newest:
                self._desync.drop()
            self.attempt = newest

    def of_newest_attempt(self) -> list[WriterWatch]:
        """Return the writers that make the run now."""
        return [writer for writer in self.writers.values() if writer.placement.attempt == self.attempt]

    # --- hangs ------------------------------------------------------------------------------------------

    def suspects(self, now_s: float, lease_s: float) -> list[WriterWatch]:
        """Return the writers without progress for longer than they ever needed: those to be looked at.

        Where there is one, also those that are nearly as long without: ranks that wait for each other say
        their last rows one after another, and are judged together.
        """
        found = self._without_progress(now_s, lease_s, 1.0)
        return self._without_progress(now_s, lease_s, NEARLY) if found else []

    def _without_progress(self, now_s: float, lease_s: float, share: float) -> list[WriterWatch]:
        return [
            writer
            for writer in self.writers.values()
            if not writer.has_ended
            and (
                writer.is_flagged
                or (
                    (still_s := writer.progress.still_s(now_s, lease_s)) >= share * self.limits.min_s
                    and writer.placement.attempt == self.attempt
                    and (patience_s := self._patience_s(writer)) is not None
                    and still_s >= share * patience_s
                )
            )
        ]

    def _patience_s(self, writer: WriterWatch) -> float | None:
        pace = writer.progress.pace() or self._pace
        if pace is None or writer.progress.step is None:
            return None
        return replace(pace, longest_s=max(pace.longest_s, self._longest_s)).patience_s(self.limits)

    def judge_stall(
        self, stalled: list[WriterWatch], signs: Mapping[str, Sign | None], now_unix_s: float
    ) -> list[Waited]:
        """Take who is stalled now; return whom they wait for."""
        for writer in self.writers.values():
            writer.is_flagged = writer in stalled
        before = self.verdicts.get("stall")
        if not stalled:
            self._end_stall(before, now_unix_s)
            return []
        waited = waited_for(
            [_member(writer, signs.get(writer.writer_id)) for writer in self.of_newest_attempt()]
        )
        steps = [writer.step for writer in stalled if writer.step is not None]
        names = {found.member.writer for found in waited}
        since_s = (before or {}).get("since_unix_s")
        stall = {
            "since_unix_s": since_s or max(writer.progress.progress_unix_s for writer in stalled),
            "step": max(steps, default=None),
            "waiting_for": [found.to_map() for found in waited],
            "others": sum(writer.writer_id not in names for writer in stalled),
            "stacks": self._stacks(names),
        }
        # How long a phase lasts is told as it was when it was judged: it changes by the second.
        if before is None or _gist(before) != _gist(stall):
            self.verdicts["stall"] = stall
            self.is_changed = True
        return waited

    def _end_stall(self, before: dict[str, Any] | None, now_unix_s: float) -> None:
        if before is None:
            return
        is_over = all(writer.has_ended for writer in self.of_newest_attempt())
        if is_over:  # it lasted to the end, and goes on being told
            if "until_unix_s" not in before:
                self.verdicts["stall"] = {**before, "until_unix_s": now_unix_s}
                self.is_changed = True
            return
        until_s = before.get("until_unix_s") or now_unix_s
        since_s = before.get("since_unix_s") or until_s
        self.verdicts["stall"] = None
        ended = {"since_unix_s": since_s, "until_unix_s": until_s, "step": before.get("step")}
        self.verdicts["stalls"] = [*(self.verdicts.get("stalls") or ()), ended][-KEPT_STALLS:]
        self.verdicts["stall_count"] = int(self.verdicts.get("stall_count") or 0) + 1
        self.verdicts["stalled_s"] = float(self.verdicts.get("stalled_s") or 0.0) + max(
            0.0, until_s - since_s
        )
        self.is_changed = True

    def _stacks(self, names: set[str]) -> list[dict[str, Any]]:
        """Return the stacks at hand, of those that are waited for first."""
        found = [writer for writer in self.writers.values() if writer.stack is not None]
        found.sort(key=lambda writer: (writer.writer_id not in names, writer.rank or 0, writer.writer_id))
        return [
            {**writer.who(), "tool": writer.stack[2], "text": writer.stack[3][:STACK_TEXT]}
            for writer in found[:KEPT_STACKS]
            if writer.stack is not None
        ]

    def add_stack(self, writer_id: str, tool: str, text: str) -> None:
        """A stack of a writer's process came."""
        if (writer := self.writers.get(writer_id)) is not None:
            writer.stack = (*classify(text), tool, text)

    # --- slow ranks -------------------------------------------------------------------------------------

    def look_for_stragglers(self, *, is_last: bool = False) -> bool:
        """Judge who is slow; return whether there was anything new to judge."""
        live = [w for w in self.of_newest_attempt() if is_last or not w.has_ended]
        timed = [writer for writer in live if writer.timings is not None]
        if len(timed) >= 2:
            reached = min(writer.timings.last_step for writer in timed if writer.timings is not None)
            if reached == self._judged_step:
                return False
            self._judged_step = reached
            table = side_by_side([w.timings for w in timed if w.timings is not None], STEPS)
            slows = [{**timed[slow.at].who(), **slow.to_map()} for slow in find_slow(table)]
        elif is_last:  # of workers that end one after another, the last is not slow for that
            return False
        else:
            ranked = [writer for writer in live if writer.rank is not None and not writer.is_flagged]
            paced = [(w, pace, w.step or 0) for w in ranked if (pace := w.progress.pace()) is not None]
            behind = find_behind([(pace, step) for _, pace, step in paced])
            looks = {paced[slow.at][0].writer_id: slow for slow in behind}
            self._behind_looks = {name: self._behind_looks.get(name, 0) + 1 for name in looks}
            slows = [
                {**self.writers[name].who(), **slow.to_map()}
                for name, slow in looks.items()
                if self._behind_looks[name] >= LOOKS
            ]
        before = self.verdicts.get("stragglers") or []
        if _who_and_where(before) != _who_and_where(slows) or any(
            _moved(a, b) for a, b in zip(before, slows, strict=True)
        ):
            self.verdicts["stragglers"] = slows
            self.is_changed = True
        return True

    # --- values that must be equal ----------------------------------------------------------------------

    def compare(self, now_s: float, *, is_last: bool = False) -> None:
        """Compare the steps that every live rank has passed."""
        if not self._desync.is_waiting:
            return
        upto = 2**62 if is_last else self._settled_step(now_s)
        for metric, found in self._desync.settle(upto).items():
            self.verdicts["desync"] = [*(self.verdicts.get("desync") or ()), self._told(metric, found)]
            self.is_changed = True

    def _settled_step(self, now_s: float) -> int:
        reached = 2**62
        for writer in self.of_newest_attempt():
            if writer.has_ended or writer.rank is None:
                continue
            if writer.step is not None:
                reached = min(reached, writer.step - 1)  # more of its last row may come
            elif now_s - writer.progress.progress_s < SILENT_RANK_S:
                return -1
        return reached

    def _told(self, metric: str, found: Difference) -> dict[str, Any]:
        whose = [self.writers[name].who() if name in self.writers else {} for name in found.writers]
        return {
            "metric": metric,
            "step": found.step,
            "ranks": [who.get("rank") for who in whose],
            "labels": [who.get("label") for who in whose],
            "values": list(found.values),
            "expected": found.expected,
        }

    # --- pace -------------------------------------------------------------------------------------------

    def learn_pace(self) -> None:
        """Keep what is known of the run's pace, for its next attempt and the coordinator's next start."""
        paces = [pace for w in list(self.writers.values())[:64] if (pace := w.progress.pace()) is not None]
        if not paces:
            return
        paces.sort(key=lambda pace: pace.step_s)
        middle = paces[len(paces) // 2]
        found = replace(middle, longest_s=self._longest_s)
        told = self._pace
        if told is None or _differs(told.step_s, found.step_s) or _differs(told.longest_s, found.longest_s):
            self._pace = found
            self.verdicts["pace"] = found.to_map()
            self.is_changed = True


def _differs(told: float, found: float) -> bool:
    return abs(found - told) > 0.5 * told + 1e-6


def _member(writer: WriterWatch, sign: Sign | None) -> Member:
    about, row = writer.stack, writer.row
    beat = None if sign is None else sign.beat
    is_live = not writer.has_ended and writer.state not in TERMINAL
    return Member(
        writer=writer.writer_id,
        rank=writer.rank,
        label=None if row is None else row.label,
        host=None if row is None else row.host,
        step=writer.step,
        state=writer.state,
        reason=writer.reason,
        is_live=is_live,
        is_stalled=writer.is_flagged and is_live,
        is_unreachable=writer.unreachable,
        is_stopped=beat is not None and beat.is_stopped,
        phase=None if beat is None else beat.phase,
        phase_s=None if beat is None else beat.phase_s,
        is_collective=beat is not None and beat.is_collective,
        stack=None if about is None else about[0],
        stack_place="" if about is None else about[1],
    )


def _gist(stall: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes a stall another one for its readers."""
    waiting = [(found.get("writer"), found.get("kind")) for found in stall.get("waiting_for") or ()]
    stacks = [found.get("writer") for found in stall.get("stacks") or ()]
    return waiting, stall.get("others"), stall.get("step"), stacks


def _who_and_where(slows: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(slow.get("writer"), slow.get("timer")) for slow in slows]


def _moved(told: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return abs(float(found["excess_s"]) - float(told["excess_s"])) > 0.25 * float(told["excess_s"])
