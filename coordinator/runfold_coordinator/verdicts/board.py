"""The verdicts of one partition: fed by what ingest stored, judged every second, written when they change.

In: committed batches, signs of life. Out: `runs.verdicts`, `runs.stalled`, `writers.stalled`, requests for
stacks. All in the ingest thread; what it holds of a run is bounded, and nothing of it has to survive.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from runfold.protocol.evidence import STACK
from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.clock import Clock
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.liveness import Liveness
from runfold_coordinator.readers.run_lanes import facts_of
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction
from runfold_coordinator.verdicts.observe import rows_of, said
from runfold_coordinator.verdicts.progress import Progress, StallLimits
from runfold_coordinator.verdicts.run_watch import RunWatch, WriterWatch
from runfold_coordinator.verdicts.stall import Waited

logger = logging.getLogger(__name__)

JUDGE_EVERY_S = 1.0
#: Stragglers are looked for this often, and so much rarer than a look takes.
SLOW_EVERY_S = 5.0
REST_RATIO = 100.0
#: A run of which nothing came for so long is asked for whether it has ended; a stalled one this often. With
#: many runs rarer: so many runs watched make it one second more.
QUIET_S = 10.0
STALLED_S = 3.0
RUNS_A_SECOND = 50
PACE_EVERY_S = 60.0
#: Runs watched; those heard of longest ago go first.
MAX_RUNS = 5_000
#: Stacks asked for in one stall: of those waited for, of others; all where nobody stands out.
ASK_WAITED, ASK_OTHERS, ASK_ALL = 8, 3, 16
#: For so long after it was asked, stacks of a stall are looked for, seconds.
STACKS_WITHIN_S = 60.0
#: Longest value of runs.verdicts.
MAX_BYTES = 1024 * 1024


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
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._limits = limits
        self._partition = partition
        self._unreachable_s = unreachable_s
        self._ask_stacks = ask_stacks
        self._runs: OrderedDict[int, RunWatch] = OrderedDict()
        self._turns: dict[int, _Turns] = {}
        self._is_loaded = False
        self._judged_s = self._pace_s = -1e9
        self._complained = False
        #: Raises FencedError where the partition is another's by now.
        self.check_owner: Callable[[Transaction], object] = lambda _tx: None

    # --- what is stored ---------------------------------------------------------------------------------

    def note(self, works: Sequence[WriterBatch]) -> None:
        """These batches are committed. A fault of ours must not make ingest take them for lost."""
        try:
            now_s, now_unix_s = self._clock.mono_s(), self._clock.unix_s()
            for work in works:
                if work.mark.role == "process":
                    self._note(work, now_s, now_unix_s)
        except Exception:
            if not self._complained:
                logger.exception("a fault in the verdicts", extra={"event": "verdict_fault"})
            self._complained = True

    def _note(self, work: WriterBatch, now_s: float, now_unix_s: float) -> None:
        mark = work.mark
        run = self._watch(mark.run.run_pk)
        turns = self._turns[run.run_pk]
        turns.heard_s = now_s
        writer = run.writers.get(mark.writer_id)
        if writer is None:
            progress = Progress(now_s, now_unix_s)
            writer = run.writers[mark.writer_id] = WriterWatch(mark.writer_id, mark.writer_pk, progress)
            turns.wants_place = True
        writer.last_seq = mark.last_seq
        metrics, has_exit = said(work.payloads)
        for metric in metrics:
            run.expected.apply(metric)
        seen = rows_of(work.blocks, work.maps, run.expected)
        if seen is not None:
            run.note(writer, seen, now_s=now_s, now_unix_s=now_unix_s, lease_s=self._liveness.lease_s)
        writer.has_ended = writer.has_ended or has_exit

    def _watch(self, run_pk: int) -> RunWatch:
        run = self._runs.get(run_pk)
        if run is not None:
            self._runs.move_to_end(run_pk)
            return run
        c = t.runs.c
        rows = self._store.fetch(sa.select(c.verdicts, c.projection).where(c.run_pk == run_pk))
        stored = unpack_stored(rows[0].verdicts) if rows else {}
        run = self._runs[run_pk] = RunWatch(run_pk, self._limits, stored)
        self._turns[run_pk] = _Turns()
        for metric in (unpack_stored(rows[0].projection) if rows else {}).get("definitions") or ():
            run.expected.apply(metric)
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
        if not self._is_loaded:
            self._load(now_s)
        learns = now_s - self._pace_s >= PACE_EVERY_S
        if learns:
            self._pace_s = now_s
        for run_pk, run in list(self._runs.items()):
            self._judge(run, self._turns[run_pk], now_s, learns=learns)
        self._write([run for run in self._runs.values() if run.is_changed or _flags_changed(run)])
        for run_pk, run in list(self._runs.items()):
            if run.writers and all(writer.has_ended for writer in run.writers.values()):
                self._forget(run_pk)

    def _load(self, now_s: float) -> None:
        """Take up the writers that go on, as a coordinator that was just started finds them."""
        c = t.writers.c
        self._clear_ended()
        rows = self._store.fetch(
            sa.select(
                c.writer_id, c.writer_pk, c.run_pk, c.last_seq, c.stalled, c.given_step_max, c.auto_step_max
            ).where(c.partition == self._partition, c.role == "process", c.state.not_in(sorted(TERMINAL)))
        )
        for row in rows[-100_000:]:
            run = self._watch(row.run_pk)
            if row.writer_id in run.writers:
                continue
            progress = Progress(now_s, self._clock.unix_s())
            progress.step = max(
                (step for step in (row.given_step_max, row.auto_step_max) if step is not None), default=None
            )
            writer = WriterWatch(row.writer_id, row.writer_pk, progress, last_seq=row.last_seq)
            writer.is_flagged = writer.told_flag = row.stalled
            run.writers[row.writer_id] = writer
        self._is_loaded = True

    def _clear_ended(self) -> None:
        """Take the flag from those that ended while no coordinator was there."""
        c, r = t.writers.c, t.runs.c
        of_ended = sa.and_(c.partition == self._partition, c.stalled, c.state.in_(sorted(TERMINAL)))
        rows = self._store.fetch(sa.select(c.writer_pk, c.run_pk).where(of_ended))
        if not rows:
            return
        with self._store.writing.transaction() as tx:
            self.check_owner(tx)
            tx.update_by_pk(t.writers, [{"writer_pk": row.writer_pk, "stalled": False} for row in rows])
            still = sa.select(c.run_pk).where(c.stalled)
            tx.connection.execute(
                sa.update(t.runs)
                .where(r.run_pk.in_({row.run_pk for row in rows}), r.run_pk.not_in(still))
                .values(stalled=False, version=r.version + 1)
            )

    def _judge(self, run: RunWatch, turns: _Turns, now_s: float, *, learns: bool) -> None:
        if turns.wants_place and now_s >= turns.placed_s:
            self._place(run, turns, now_s)
        lease_s = self._liveness.lease_s
        suspects = run.suspects(now_s, lease_s)
        rest_s = len(self._runs) / RUNS_A_SECOND
        is_new = any(not writer.is_flagged for writer in suspects)
        is_stalled = bool(suspects) or run.verdicts.get("stall") is not None
        is_quiet = now_s - turns.heard_s >= QUIET_S
        every_s = STALLED_S if is_stalled else QUIET_S
        if (is_stalled or is_quiet) and (is_new or now_s - turns.states_s >= every_s + rest_s):
            turns.states_s = now_s
            self._read_states(run)
        stalled = [w for w in suspects if not w.has_ended and (w.is_flagged or self._is_heard(w))]
        if stalled or run.verdicts.get("stall") is not None:
            self._judge_stall(run, turns, stalled, now_s)
        has_ended = bool(run.writers) and all(writer.has_ended for writer in run.writers.values())
        if has_ended or now_s >= turns.slow_s:
            began_s = time.perf_counter()
            run.look_for_stragglers(is_last=has_ended)
            took_s = time.perf_counter() - began_s
            turns.slow_s = now_s + max(SLOW_EVERY_S, REST_RATIO * took_s)
        run.compare(now_s, is_last=has_ended)
        if learns or has_ended:
            run.learn_pace()

    def _is_heard(self, writer: WriterWatch) -> bool:
        """Return whether it lives, was just heard of, and all that it said is stored."""
        sign = self._liveness.sign(writer.writer_id)
        return (
            sign is not None
            and sign.alive is not False
            and self._liveness.silent_s(writer.writer_id) < self._unreachable_s
            and sign.head_seq <= writer.last_seq
        )

    def _judge_stall(self, run: RunWatch, turns: _Turns, stalled: list[WriterWatch], now_s: float) -> None:
        if turns.asked and now_s - turns.asked_s < STACKS_WITHIN_S:
            self._read_stacks(run, turns)
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
        rows = self._store.writers(run.run_pk)
        is_shared = any(row.mode == "shared" for row in rows)
        placements = place_writers([facts_of(row) for row in rows], is_shared=is_shared)
        run.place({row.writer_id: row for row in rows}, placements)
        turns.wants_place = any(writer.row is None for writer in run.writers.values())
        turns.placed_s = now_s + REST_RATIO * (time.perf_counter() - began_s)

    def _read_states(self, run: RunWatch) -> None:
        c = t.writers.c
        rows = self._store.fetch(
            sa.select(c.writer_id, c.state, c.reason, c.unreachable).where(c.run_pk == run.run_pk)
        )
        for row in rows:
            if (writer := run.writers.get(row.writer_id)) is not None:
                writer.state, writer.reason, writer.unreachable = row.state, row.reason, row.unreachable
                writer.has_ended = row.state in TERMINAL

    def _read_stacks(self, run: RunWatch, turns: _Turns) -> None:
        c = t.evidence.c
        since_ns = int(((run.verdicts.get("stall") or {}).get("since_unix_s") or 0) * 1e9)
        rows = self._store.fetch(
            sa.select(c.writer_id, c.facts)
            .where(c.writer_id.in_(sorted(turns.asked)), c.source == STACK, c.t_ns >= since_ns)
            .order_by(c.t_ns)
        )
        for row in rows:
            facts = unpack_stored(row.facts)
            run.add_stack(row.writer_id, str(facts.get("tool") or ""), str(facts.get("text") or ""))

    def _write(self, runs: Sequence[RunWatch]) -> None:
        if not runs:
            return
        with self._store.writing.transaction() as tx:
            self.check_owner(tx)
            c = t.runs.c
            for run in runs:
                flags = [w for w in run.writers.values() if _flag(w) != w.told_flag]
                tx.update_by_pk(t.writers, [{"writer_pk": w.writer_pk, "stalled": _flag(w)} for w in flags])
                tx.touch(run.run_pk)
                tx.connection.execute(
                    sa.update(t.runs)
                    .where(c.run_pk == run.run_pk)
                    .values(
                        verdicts=pack_value(run.verdicts, max_bytes=MAX_BYTES),
                        stalled=any(_flag(writer) for writer in run.writers.values()),
                        version=c.version + 1,
                    )
                )
        for run in runs:
            run.is_changed = False
            for writer in run.writers.values():
                writer.told_flag = _flag(writer)


def _flag(writer: WriterWatch) -> bool:
    return writer.is_flagged and not writer.has_ended


def _flags_changed(run: RunWatch) -> bool:
    return any(_flag(writer) != writer.told_flag for writer in run.writers.values())
