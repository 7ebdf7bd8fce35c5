"""One run under watch: what each of its writers did, and the verdicts that follow. No database.

In: stored batches, signs of life, facts of the catalogue. Out: the verdicts' map, and who is stalled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from runfold.protocol.keypath import KeyPath, display_name
from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.liveness import Sign
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store.model import I64
from runfold_coordinator.verdicts.catalogue import Known
from runfold_coordinator.verdicts.desync import Desync, Difference, Expectations
from runfold_coordinator.verdicts.observe import Equal, Values, equal_of, newest_rows, timings_of
from runfold_coordinator.verdicts.progress import Pace, StallLimits
from runfold_coordinator.verdicts.stacks import classify
from runfold_coordinator.verdicts.stall import Waited, waited_for
from runfold_coordinator.verdicts.stragglers import STEPS, find_behind, find_slow
from runfold_coordinator.verdicts.timings import Timings, side_by_side
from runfold_coordinator.verdicts.writer_watch import WriterWatch, member_of, who_is

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
#: Writers that log so much more seldom than the run's others (once an epoch) are remembered as such.
SLOW_RATIO = 3.0
KEPT_SLOW = 200
#: Before any step.
FIRST_STEP = -(2**62)


class RunWatch:
    """One run. Not thread-safe."""

    def __init__(self, run_pk: int, limits: StallLimits, verdicts: Mapping[str, Any]) -> None:
        """Go on from the verdicts that are in the catalogue."""
        self.run_pk = run_pk
        self.limits = limits
        self.verdicts: dict[str, Any] = dict(verdicts)
        self.writers: dict[str, WriterWatch] = {}
        #: What all writers of the run said of themselves, those that ended too, and where they stand.
        self.known: dict[str, Known] = {}
        self.placements: dict[str, Placement] = {}
        self.expected = Expectations()
        self._desync = Desync([str(found.get("metric")) for found in self.verdicts.get("desync") or ()])
        checked = self.verdicts.get("checked") or {}
        #: Up to which step of which attempt values were compared; what is stored beyond is read once more.
        self._checked, self._checked_attempt = (
            int(checked.get("step", FIRST_STEP)),
            int(checked.get("attempt", 0)),
        )
        #: First step of which stored values are to be read once more.
        self.recheck: int | None = None
        self._is_placed = False
        self._pace = Pace.from_map(self.verdicts.get("pace"))
        self._longest_s = 0.0 if self._pace is None else self._pace.longest_s
        self.attempt = 1
        #: The verdicts changed since they were written.
        self.is_changed = False
        self._behind_looks: dict[str, int] = {}
        #: Steps seen with timings when stragglers were looked for last.
        self._judged_step = -1

    # --- what comes in ----------------------------------------------------------------------------------

    def note(self, writer: WriterWatch, work: WriterBatch, now_s: float, now_unix_s: float,
             lease_s: float) -> None:  # fmt: skip
        """Rows of a writer were stored, if there are any in this batch."""
        blocks, maps = work.blocks, work.maps
        if not blocks and not maps:
            return
        progress = writer.progress
        if progress.is_learnt(now_s) and not writer.is_flagged:
            rows = sum([block.n for block in blocks]) + len(maps)
            progress.note_more(now_s, now_unix_s, rows)
        else:
            steps, t_ns = newest_rows(blocks, maps)
            progress.note(now_s, now_unix_s, lease_s, steps, t_ns, was_flagged=writer.is_flagged)
            self._longest_s = max(self._longest_s, progress.longest_s)
            writer.is_flagged, writer.stack = False, None
        if (top_step := work.mark.step_max) is not None:
            progress.step = top_step
        for piece in timings_of(blocks, maps):
            writer.timings = writer.timings or Timings()
            writer.timings.add(piece)
        if self.expected:
            self._note_equal(writer, equal_of(blocks, maps, self.expected), now_s)

    def _note_equal(self, writer: WriterWatch, equal: Iterable[Equal], now_s: float) -> None:
        for found in equal:
            tolerance = self.expected.of(found.path)
            if tolerance is not None:
                steps = found.steps + writer.placement.step_offset
                name = display_name(found.path)
                self._desync.add(name, tolerance, writer.writer_id, steps, found.values)
        if self._desync.is_full:
            self._take(self._desync.settle(self.settled_step(now_s)))

    def place(self, placements: Mapping[str, Placement]) -> None:
        """Take which attempt each writer belongs to, by id."""
        self.placements = dict(placements)
        for writer_id, writer in self.writers.items():
            writer.known = self.known.get(writer_id)
            writer.placement = placements.get(writer_id, writer.placement)
        newest = max((placement.attempt for placement in placements.values()), default=1)
        if newest == self.attempt and self._is_placed:
            return
        # What came before this was known is of another attempt, or has other steps.
        self._desync.drop()
        if newest != self._checked_attempt:
            self._checked = FIRST_STEP
        self.attempt, self._checked_attempt, self._is_placed = newest, newest, True
        if self.expected:
            self.recheck = self._checked + 1

    @property
    def has_ended(self) -> bool:
        """Whether all of its writers have."""
        return bool(self.writers) and all(writer.has_ended for writer in self.writers.values())

    def take_states(self, rows: Iterable[Any]) -> None:
        """Take writer_id, state, reason, unreachable as the catalogue has them."""
        for row in rows:
            if (writer := self.writers.get(row.writer_id)) is not None:
                writer.state, writer.reason, writer.unreachable = row.state, row.reason, row.unreachable
                writer.has_ended = row.state in TERMINAL

    def of_newest_attempt(self) -> list[WriterWatch]:
        """Return the writers that make the run now."""
        return [writer for writer in self.writers.values() if writer.placement.attempt == self.attempt]

    # --- hangs ------------------------------------------------------------------------------------------

    def hear(self, writer: WriterWatch, sign: Sign | None, now_s: float, *, is_heard: bool) -> None:
        """Take what the newest sign of life tells of its progress.

        Args:
            is_heard: It is heard of, and all that it said is stored: its silence means something.
        """
        progress = writer.progress
        if not is_heard:
            if not writer.is_flagged:
                progress.floor_s = max(progress.floor_s, now_s)
            return
        if sign is None or sign.beat is None or sign.beat_s == writer.beat_s:
            return
        writer.beat_s = sign.beat_s
        progress.note_phase(sign.beat.phase, sign.beat.phase_s, sign.beat_s)
        if writer.is_flagged and now_s - progress.floor_s < self.limits.min_s:
            writer.is_flagged = False

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
            and writer.placement.attempt == self.attempt
            and (
                writer.is_flagged
                or (
                    (still_s := writer.progress.still_s(now_s, lease_s)) >= share * self.limits.min_s
                    and (patience_s := self._patience_s(writer)) is not None
                    and still_s >= share * patience_s
                )
            )
        ]

    def _patience_s(self, writer: WriterWatch) -> float | None:
        return writer.progress.patience_s(self.limits, self._pace, self._longest_s)

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
            [member_of(writer, signs.get(writer.writer_id)) for writer in self.of_newest_attempt()]
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
            table = side_by_side([w.timings for w in timed if w.timings is not None], STEPS)
            reached = int(table.steps[-1]) if len(table.steps) else -1
            if reached == self._judged_step:
                return False
            self._judged_step = reached
            slows = [{**timed[table.members[slow.at]].who(), **slow.to_map()} for slow in find_slow(table)]
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
        if not self.expected or self.recheck is not None or not self._is_placed:
            return
        settled = self.settled_step(now_s)
        self._take(self._desync.settle(2**62 if is_last else settled))
        if is_last:
            steps = [writer.step for writer in self.of_newest_attempt() if writer.step is not None]
            settled = max(steps, default=settled)
        self._checked = max(self._checked, settled)

    def add_stored(self, key_path: KeyPath, writer_id: str, steps: I64, values: Values) -> None:
        """Take values that were stored before this coordinator was there, or that it has seen: all up to now.

        Args:
            steps: The run's.
        """
        tolerance = self.expected.of(key_path)
        if tolerance is not None:
            self._desync.add(display_name(key_path), tolerance, writer_id, steps, values)

    def settle_stored(self, upto: int) -> None:
        """Compare what was stored, up to this step."""
        self._take(self._desync.settle(upto))

    def _take(self, found: Mapping[str, Difference]) -> None:
        for metric, difference in found.items():
            self.verdicts["desync"] = [*(self.verdicts.get("desync") or ()), self._told(metric, difference)]
            self.is_changed = True

    def settled_step(self, now_s: float) -> int:
        """Return the last step that every live rank has passed; -1: there is none."""
        reached = 2**62
        live = [writer for writer in self.of_newest_attempt() if not writer.has_ended]
        # Of workers without ranks (Ray actors) all count.
        for writer in [writer for writer in live if writer.rank is not None] or live:
            if writer.step is not None:
                reached = min(reached, writer.step - 1)  # more of its last row may come
            elif now_s - writer.progress.progress_s < SILENT_RANK_S:
                return -1
        return reached if reached < 2**62 else -1

    def _told(self, metric: str, found: Difference) -> dict[str, Any]:
        whose = [who_is(name, self.known.get(name)) for name in found.writers]
        return {
            "metric": metric,
            "step": found.step,
            "ranks": [who.get("rank") for who in whose],
            "labels": [who.get("label") for who in whose],
            "values": list(found.values),
            "expected": found.expected,
        }

    # --- pace -------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Keep what the coordinator's next start has to know: the run's pace, what was compared."""
        checked = {"attempt": self.attempt, "step": self._checked}
        if self.expected and self.recheck is None and self.verdicts.get("checked") != checked:
            self.verdicts["checked"] = checked
            self.is_changed = True
        self._learn_pace()

    def usual_s(self, writer_id: str) -> float | None:
        """Return what a row takes a writer that was there before this coordinator; None: unknown."""
        if self._pace is None:
            return None
        slow = self.verdicts.get("slow") or {}
        return float(slow[writer_id]) or None if writer_id in slow else self._pace.step_s

    def _learn_pace(self) -> None:
        paces = [pace for w in list(self.writers.values())[:64] if (pace := w.progress.pace()) is not None]
        if not paces:
            return
        paces.sort(key=lambda pace: pace.step_s)
        middle = paces[len(paces) // 2]
        found = replace(middle, longest_s=self._longest_s)
        slow = {}
        for writer in self.writers.values():
            step_s = writer.progress.step_s
            if not writer.has_ended and (step_s is None or step_s > SLOW_RATIO * found.step_s):
                slow[writer.writer_id] = step_s or 0.0
        slow = dict(list(slow.items())[:KEPT_SLOW])
        if slow.keys() != (self.verdicts.get("slow") or {}).keys():
            self.verdicts["slow"] = slow
            self.is_changed = True
        told = self._pace
        if told is None or _differs(told.step_s, found.step_s) or _differs(told.longest_s, found.longest_s):
            self._pace = found
            self.verdicts["pace"] = found.to_map()
            self.is_changed = True


def _differs(told: float, found: float) -> bool:
    return abs(found - told) > 0.5 * told + 1e-6


def _gist(stall: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes a stall another one for its readers."""
    waiting = [(found.get("writer"), found.get("kind")) for found in stall.get("waiting_for") or ()]
    stacks = [found.get("writer") for found in stall.get("stacks") or ()]
    return waiting, stall.get("others"), stall.get("step"), stacks


def _who_and_where(slows: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(slow.get("writer"), slow.get("timer")) for slow in slows]


def _moved(told: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return abs(float(found["excess_s"]) - float(told["excess_s"])) > 0.25 * float(told["excess_s"])
