"""The verdicts of one partition: fed by what ingest stored, judged every second, written when they change.

In: committed batches, signs of life. Out: `runs.verdicts`, `runs.stalled`, `writers.stalled`, requests for
stacks. All in the ingest thread; what it holds of a run is bounded, and nothing of it has to survive.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from runfold_coordinator.clock import Clock
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.liveness import Liveness, Sign
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction
from runfold_coordinator.verdicts.catalogue import Change, Known, VerdictCatalogue
from runfold_coordinator.verdicts.desync_watch import FIRST_STEP
from runfold_coordinator.verdicts.observe import words_of
from runfold_coordinator.verdicts.progress import Progress, StallLimits
from runfold_coordinator.verdicts.run_watch import RunWatch
from runfold_coordinator.verdicts.stall import Waited
from runfold_coordinator.verdicts.writer_watch import WriterWatch

logger = logging.getLogger(__name__)

JUDGE_EVERY_S = 1.0
#: A judgement that took so much of the processor, seconds, leaves what costs for the next one: ingest waits.
SLICE_S = 0.015
#: Stragglers are looked for this often, and so much rarer than a look takes.
SLOW_EVERY_S = 5.0
REST_RATIO = 100.0
#: A run of which nothing came for so long is asked for whether it has ended; a stalled one this often. With
#: many runs rarer: so many runs watched make it one second more.
QUIET_S = 10.0
STALLED_S = 3.0
RUNS_A_SECOND = 50
LEARN_EVERY_S = 60.0
#: Whose last row is younger has no need to be looked at, seconds.
LIVELY_S = 2.0
#: A writer with more rows that is met for the first time was there before this coordinator.
KNOWN_ROWS = 20
#: Stored values that are read at once to be compared.
READ_VALUES = 20_000
#: Runs watched; those heard of longest ago go first.
MAX_RUNS = 5_000
#: Stacks asked for in one stall: of those waited for, of others; all where nobody stands out.
ASK_WAITED, ASK_OTHERS, ASK_ALL = 8, 3, 16
#: For so long after it was asked, stacks of a stall are looked for, seconds.
STACKS_WITHIN_S = 60.0


class _Turns:
    """When what is due of a run: times of the monotonic clock."""

    __slots__ = ("asked", "asked_s", "heard_s", "placed_s", "slow_s", "states_s", "wants_place")

    def __init__(self) -> None:
        self.heard_s = self.slow_s = self.placed_s = self.states_s = self.asked_s = -1e9
        self.wants_place = True
        self.asked: set[str] = set()


class VerdictBoard:
    """Verdicts of one partition. Not thread-safe: for the ingest thread. Never raises from `note`."""

    def __init__(
        self,
        store: Store,
        liveness: Liveness,
        clock: Clock,
        limits: StallLimits,
        *,
        partition: int = 0,
        unreachable_s: float = 15.0,
        ask_stacks: Callable[[Sequence[bytes], str], None] = lambda _writers, _why: None,
    ) -> None:
        """Prepare; what the catalogue says is read with the first judgement.

        Args:
            unreachable_s: A writer that was not heard of for so long is not judged.
            ask_stacks: Asks the agents of these writers for stacks, and why.
        """
        self._catalogue = VerdictCatalogue(store, partition)
        self._liveness = liveness
        self._clock = clock
        self._limits = limits
        self._unreachable_s = unreachable_s
        self._ask_stacks = ask_stacks
        self._runs: OrderedDict[int, RunWatch] = OrderedDict()
        self._turns: dict[int, _Turns] = {}
        self._is_loaded = False
        self._judged_s = self._learnt_s = -1e9
        #: Until when what costs may be begun in this judgement (thread_time), and whose was not.
        self._until_s = 0.0
        self._left: list[int] = []
        self._complained = False

    @property
    def check_owner(self) -> Callable[[Transaction], object]:
        """Raises FencedError where the partition is another's by now."""
        return self._catalogue.check_owner

    @check_owner.setter
    def check_owner(self, check: Callable[[Transaction], object]) -> None:
        self._catalogue.check_owner = check

    # --- what is stored ---------------------------------------------------------------------------------

    def note(self, works: Sequence[WriterBatch]) -> None:
        """These batches are committed. A fault of ours must not make ingest take them for lost."""
        heard_s, now_unix_s = self._liveness.heard_upto_s, self._clock.unix_s()
        for work in works:
            if work.mark.role != "process":
                continue
            try:
                self._note(work, heard_s, now_unix_s)
            except Exception:
                if not self._complained:
                    logger.exception("a fault in the verdicts", extra={"event": "verdict_fault"})
                self._complained = True

    def _note(self, work: WriterBatch, heard_s: float, now_unix_s: float) -> None:
        mark = work.mark
        run_pk = mark.run.run_pk
        run = self._runs.get(run_pk) or self._watch(run_pk)
        turns = self._turns[run_pk]
        if turns.heard_s != heard_s:
            turns.heard_s = heard_s
            self._runs.move_to_end(run_pk)
        writer = run.writers.get(mark.writer_id)
        if writer is None:
            progress = Progress(heard_s, now_unix_s)
            if mark.row_count > KNOWN_ROWS:
                progress.usual_s = run.usual_s(mark.writer_id)
            writer = run.writers[mark.writer_id] = WriterWatch(mark.writer_id, mark.writer_pk, progress)
            turns.wants_place = True
        writer.last_seq = mark.last_seq
        has_exit = False
        if work.payloads:
            words = words_of(work.payloads)
            has_exit = words.has_exit
            for metric in words.metrics:
                run.desync.expected.apply(metric)
            if words.identity is not None:
                known = Known.from_record(mark.writer_pk, mark.writer_id, words.identity)
                writer.known = run.known[mark.writer_id] = known
        run.note(writer, work, heard_s, now_unix_s, self._liveness.lease_s)
        if has_exit:
            writer.has_ended = True

    def _watch(self, run_pk: int) -> RunWatch:
        run = self._runs.get(run_pk)
        if run is not None:
            return run
        verdicts, definitions = self._catalogue.run(run_pk)
        run = self._runs[run_pk] = RunWatch(run_pk, self._limits, verdicts)
        self._turns[run_pk] = _Turns()
        for metric in definitions:
            run.desync.expected.apply(metric)
        while len(self._runs) > MAX_RUNS:
            self._forget(next(iter(self._runs)))
        return run

    def _forget(self, run_pk: int) -> None:
        self._runs.pop(run_pk, None)
        self._turns.pop(run_pk, None)

    # --- judging ----------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Judge all runs; call once a tick.

        Raises:
            StoreError: The database is away: what changed is written by the next call.
        """
        now_s = self._clock.mono_s()
        if now_s - self._judged_s < JUDGE_EVERY_S:
            return
        self._judged_s = now_s
        self._until_s = time.thread_time() + SLICE_S
        if not self._is_loaded:
            self._load()
        learns = now_s - self._learnt_s >= LEARN_EVERY_S
        if learns:
            self._learnt_s = now_s
        left, self._left = self._left, []
        for run_pk in dict.fromkeys((*left, *self._runs)):
            if (run := self._runs.get(run_pk)) is not None:
                self._judge(run, self._turns[run_pk], now_s, learns=learns)
        self._catalogue.write([_change(run) for run in self._runs.values() if _is_news(run)])
        for run in self._runs.values():
            run.is_changed = False
            for writer in run.writers.values():
                writer.told_flag = _flag(writer)
        for run_pk, run in list(self._runs.items()):
            if run.has_ended and run_pk not in self._left and run.desync.recheck is None:
                self._forget(run_pk)

    def _may(self, run: RunWatch) -> bool:
        """Return whether there is time for what costs; otherwise the run comes first the next time."""
        if time.thread_time() < self._until_s:
            return True
        if run.run_pk not in self._left[-1:]:
            self._left.append(run.run_pk)
        return False

    def _load(self) -> None:
        """Take up the writers that go on, as a coordinator that was just started finds them."""
        self._catalogue.clear_ended()
        heard_s, now_unix_s = self._liveness.heard_upto_s, self._clock.unix_s()
        for row in self._catalogue.open_writers():
            run = self._watch(row.run_pk)
            if row.writer_id in run.writers:
                continue
            progress = Progress(heard_s, now_unix_s)
            progress.step = max(
                (step for step in (row.given_step_max, row.auto_step_max) if step is not None), default=None
            )
            progress.usual_s = run.usual_s(row.writer_id)
            writer = WriterWatch(row.writer_id, row.writer_pk, progress, last_seq=row.last_seq)
            writer.is_flagged = writer.told_flag = row.stalled
            run.writers[row.writer_id] = writer
        self._is_loaded = True

    def _judge(self, run: RunWatch, turns: _Turns, now_s: float, *, learns: bool) -> None:
        if turns.wants_place and now_s >= turns.placed_s and self._may(run):
            self._place(run, turns, now_s)
        heard_s, lease_s = self._liveness.heard_upto_s, self._liveness.lease_s
        for writer in run.writers.values():
            if heard_s - writer.progress.progress_s >= LIVELY_S and not writer.has_ended:
                self._hear(run, writer, heard_s)
        suspects = run.suspects(heard_s, lease_s)
        rest_s = len(self._runs) / RUNS_A_SECOND
        is_new = any(not writer.is_flagged for writer in suspects)
        is_stalled = bool(suspects) or run.verdicts.get("stall") is not None
        is_quiet = now_s - turns.heard_s >= QUIET_S
        every_s = STALLED_S if is_stalled else QUIET_S
        is_due = is_new or now_s - turns.states_s >= every_s + rest_s
        if (is_stalled or is_quiet) and is_due and (is_new or self._may(run)):
            turns.states_s = now_s
            run.take_states(self._catalogue.states(run.run_pk))
        stalled = [writer for writer in suspects if not writer.has_ended]
        if stalled or run.verdicts.get("stall") is not None:
            self._judge_stall(run, turns, stalled, now_s)
        has_ended = run.has_ended
        if (has_ended or now_s >= turns.slow_s) and self._may(run):
            began_s = time.perf_counter()
            run.look_for_stragglers(is_last=has_ended)
            took_s = time.perf_counter() - began_s
            turns.slow_s = now_s + max(SLOW_EVERY_S, REST_RATIO * took_s)
        if run.desync.recheck is not None and self._may(run):
            self._recheck(run, heard_s)
        run.compare(heard_s, is_last=has_ended)
        if learns or has_ended:
            run.learn()

    def _hear(self, run: RunWatch, writer: WriterWatch, heard_s: float) -> None:
        sign = self._liveness.sign(writer.writer_id)
        is_silent = self._liveness.silent_s(writer.writer_id) >= self._unreachable_s
        run.hear(writer, sign, heard_s, is_heard=not is_silent and _has_said_all(writer, sign))

    def _judge_stall(self, run: RunWatch, turns: _Turns, stalled: list[WriterWatch], now_s: float) -> None:
        if turns.asked and now_s - turns.asked_s < STACKS_WITHIN_S:
            since_s = (run.verdicts.get("stall") or {}).get("since_unix_s") or 0.0
            for writer_id, tool, text in self._catalogue.stacks(turns.asked, since_s):
                run.add_stack(writer_id, tool, text)
        signs = {writer_id: self._liveness.sign(writer_id) for writer_id in run.writers}
        waited = run.judge_stall(stalled, signs, self._clock.unix_s())
        if not stalled:
            turns.asked.clear()
        elif len(turns.asked) < ASK_ALL:
            self._ask(run, turns, waited, stalled, now_s)

    def _ask(
        self, run: RunWatch, turns: _Turns, waited: list[Waited], stalled: list[WriterWatch], now_s: float
    ) -> None:
        named = [found.member.writer for found in waited if found.member.is_live][:ASK_WAITED]
        others = [w.writer_id for w in stalled if w.writer_id not in named]
        wanted = named + others[: ASK_OTHERS if named else ASK_ALL]
        new = [writer for writer in wanted if writer not in turns.asked]
        if not new or (turns.asked and not set(named) - turns.asked):
            return  # the others of a stall were asked for once
        turns.asked.update(new)
        turns.asked_s = now_s
        step = (run.verdicts.get("stall") or {}).get("step")
        self._ask_stacks([bytes.fromhex(writer) for writer in new], f"no progress at step {step}")

    # --- the catalogue ----------------------------------------------------------------------------------

    def _place(self, run: RunWatch, turns: _Turns, now_s: float) -> None:
        began_s = time.perf_counter()
        placements = self._catalogue.place(run.run_pk, run.known)
        if placements is None:
            return
        run.place(placements)
        turns.wants_place = any(writer.known is None for writer in run.writers.values())
        turns.placed_s = now_s + REST_RATIO * (time.perf_counter() - began_s)

    def _recheck(self, run: RunWatch, heard_s: float) -> None:
        """Compare some more of what was stored before this coordinator was there."""
        assert run.desync.recheck is not None, "asked for by the caller"
        keys = [
            (key, path)
            for key, path in self._catalogue.keys(run.run_pk)
            if run.desync.expected.of(path) is not None
        ]
        by_offset: dict[int, dict[int, str]] = {}
        for writer_id, placement in run.placements.items():
            if placement.attempt == run.attempt:
                writer_pk = run.known[writer_id].facts.writer_pk
                by_offset.setdefault(placement.step_offset, {})[writer_pk] = writer_id
        low = run.desync.recheck
        if low <= FIRST_STEP + 1:
            low = max(low, self._catalogue.first_step(run.run_pk))
        cells_a_step = max(1, len(keys) * sum(len(writers) for writers in by_offset.values()))
        high: int | None = low + max(1, READ_VALUES // cells_a_step) - 1
        if high is not None and high >= run.settled_step(heard_s):
            high = None  # all that there is
        for offset, writers in by_offset.items():
            for key, path in keys:
                upto = None if high is None else high - offset
                for cells in self._catalogue.cells(run.run_pk, key, writers, low - offset, upto):
                    values = cells.values if isinstance(cells.values, list) else np.array(cells.values)
                    run.desync.add(path, writers[cells.writer_pk], np.array(cells.step) + offset, values)
        if high is None:
            run.desync.recheck = None
        else:
            run.settle_stored(high)
            run.desync.recheck = high + 1


def _has_said_all(writer: WriterWatch, sign: Sign | None) -> bool:
    """Return whether it lives, and all that it is known to have said is stored."""
    return sign is not None and sign.alive is not False and sign.head_seq <= writer.last_seq


def _flag(writer: WriterWatch) -> bool:
    return writer.is_flagged and not writer.has_ended


def _is_news(run: RunWatch) -> bool:
    return run.is_changed or any(_flag(writer) != writer.told_flag for writer in run.writers.values())


def _change(run: RunWatch) -> Change:
    writers = run.writers.values()
    flags = {w.writer_pk: _flag(w) for w in writers if _flag(w) != w.told_flag}
    return Change(run.run_pk, run.verdicts, flags, any(_flag(writer) for writer in writers))
