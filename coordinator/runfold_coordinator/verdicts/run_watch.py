"""One run under watch: what each of its writers did, and the verdicts that follow. No database.

In: stored batches, signs of life, facts of the catalogue. Out: the verdicts' map, and who is stalled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runfold_coordinator.aggregate.attempts import Placement
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.liveness import Sign
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.verdicts.catalogue import Known
from runfold_coordinator.verdicts.desync import Difference
from runfold_coordinator.verdicts.desync_watch import DesyncWatch, told_difference
from runfold_coordinator.verdicts.observe import newest_rows, timings_of
from runfold_coordinator.verdicts.progress import StallLimits
from runfold_coordinator.verdicts.run_pace import RunPace
from runfold_coordinator.verdicts.stacks import classify
from runfold_coordinator.verdicts.stall import Waited, waited_for
from runfold_coordinator.verdicts.stall_verdict import got_over, is_news, lasted_to_the_end, told_stall
from runfold_coordinator.verdicts.straggler_watch import StragglerWatch, are_news
from runfold_coordinator.verdicts.timings import Timings
from runfold_coordinator.verdicts.writer_watch import WriterWatch, member_of

#: A live rank without any row holds up the comparison of steps for so long, seconds.
SILENT_RANK_S = 60.0
#: Share of its patience after which a writer is judged together with one that has lost it.
NEARLY = 0.8


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
        #: What must be equal on all ranks.
        self.desync = DesyncWatch(self.verdicts)
        self._stragglers = StragglerWatch()
        self._pace = RunPace(self.verdicts)
        self.attempt = 1
        #: The verdicts changed since they were written.
        self.is_changed = False

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
            self._pace.longest_s = max(self._pace.longest_s, progress.longest_s)
            writer.is_flagged, writer.stack = False, None
        if (top_step := work.mark.step_max) is not None:
            progress.step = top_step
        for piece in timings_of(blocks, maps):
            writer.timings = writer.timings or Timings()
            writer.timings.add(piece)
        if self.desync.expected:
            self.desync.note(writer, work)
            if self.desync.is_full:
                self._take(self.desync.settle(self.settled_step(now_s)))

    def place(self, placements: Mapping[str, Placement]) -> None:
        """Take which attempt each writer belongs to, by id."""
        self.placements = dict(placements)
        for writer_id, writer in self.writers.items():
            writer.known = self.known.get(writer_id)
            writer.placement = placements.get(writer_id, writer.placement)
        self.attempt = max((placement.attempt for placement in placements.values()), default=1)
        self.desync.begin_attempt(self.attempt)

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
        return writer.progress.patience_s(self.limits, self._pace.pace, self._pace.longest_s)

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
        stall = told_stall(before, stalled, waited, self.writers.values())
        if is_news(before, stall):
            self._change({"stall": stall})
        return waited

    def _end_stall(self, before: dict[str, Any] | None, now_unix_s: float) -> None:
        if before is None:
            return
        if all(writer.has_ended for writer in self.of_newest_attempt()):
            self._change(lasted_to_the_end(before, now_unix_s))
        else:
            self._change(got_over(self.verdicts, before, now_unix_s))

    def _change(self, verdicts: Mapping[str, Any] | None) -> None:
        if verdicts:
            self.verdicts.update(verdicts)
            self.is_changed = True

    def add_stack(self, writer_id: str, tool: str, text: str) -> None:
        """A stack of a writer's process came."""
        if (writer := self.writers.get(writer_id)) is not None:
            writer.stack = (*classify(text), tool, text)

    # --- slow ranks -------------------------------------------------------------------------------------

    def look_for_stragglers(self, *, is_last: bool = False) -> bool:
        """Judge who is slow; return whether there was anything new to judge."""
        live = [w for w in self.of_newest_attempt() if is_last or not w.has_ended]
        slows = self._stragglers.look(live, is_last=is_last)
        if slows is None:
            return False
        if are_news(self.verdicts.get("stragglers") or [], slows):
            self._change({"stragglers": slows})
        return True

    # --- values that must be equal ----------------------------------------------------------------------

    def compare(self, now_s: float, *, is_last: bool = False) -> None:
        """Compare the steps that every live rank has passed."""
        if not self.desync.is_ready:
            return
        settled = self.settled_step(now_s)
        self._take(self.desync.settle(2**62 if is_last else settled))
        if is_last:
            steps = [writer.step for writer in self.of_newest_attempt() if writer.step is not None]
            settled = max(steps, default=settled)
        self.desync.note_checked(settled)

    def settle_stored(self, upto: int) -> None:
        """Compare what was stored, up to this step."""
        self._take(self.desync.settle(upto))

    def _take(self, found: Mapping[str, Difference]) -> None:
        for metric, difference in found.items():
            told = told_difference(metric, difference, self.known)
            self._change({"desync": [*(self.verdicts.get("desync") or ()), told]})

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

    # --- pace -------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Keep what the coordinator's next start has to know: the run's pace, what was compared."""
        checked = self.desync.checked
        if checked is not None and self.verdicts.get("checked") != checked:
            self._change({"checked": checked})
        self._change(self._pace.learn(self.writers.values()))

    def usual_s(self, writer_id: str) -> float | None:
        """Return what a row takes a writer that was there before this coordinator; None: unknown."""
        return self._pace.usual_s(writer_id)
