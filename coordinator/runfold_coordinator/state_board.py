"""The states in the rows of writers and runs: judged when evidence comes, and when silence has grown long.

In: signs of life, evidence, marks of stored data. Out: updated rows, in the transaction that brought what is
new. How a run is judged is `run_judge.py`; this decides when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.evidence import NOT_WITNESSED, Evidence
from runfold_coordinator.clock import Clock
from runfold_coordinator.evidence_table import EvidenceTable, fresh_runs
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.ingest.watermarks import WriterMark
from runfold_coordinator.liveness import Liveness, Sign
from runfold_coordinator.open_writers import OpenWriter, OpenWriters
from runfold_coordinator.run_judge import RunJudge
from runfold_coordinator.states import RUNNING, Limits
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: How often last_seen is written for writers of which nothing else changed.
SEEN_EVERY_S = 10.0
#: A run with more open writers than this is judged once a tick, as its writers end: a judgement reads all.
JUDGED_AT_ONCE = 32
#: A run whose judgement takes longer than this, seconds, has at most this part of the time while its writers
#: end one by one; nobody waits longer than that for the next one, seconds.
COSTLY_S = 0.01
JUDGING_SHARE = 0.1
JUDGED_AT_LEAST_EVERY_S = 0.5
MAX_RESTING = 10_000
#: A process that is gone is looked at with every tick for so long, seconds, and then so often, while its last
#: records are on the way.
LOOK_OFTEN_S = 4.0
LOOK_SELDOM_S = 2.0
#: How often evidence is looked for that others have stored: threads of other partitions, requests to stop.
FRESH_EVERY_S = 1.0


class StateBoard:
    """States of one partition's writers. Not thread-safe: for the ingest thread."""

    def __init__(
        self,
        store: Store,
        liveness: Liveness,
        clock: Clock,
        limits: Limits,
        *,
        partition: int = 0,
        failure_lines: FailureLines | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            failure_lines: Keeps the last console lines of who is blamed; None: nobody reads any.
        """
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._limits = limits
        self._partition = partition
        self._open = OpenWriters(clock, partition)
        self.evidence = EvidenceTable()
        self._judge = RunJudge(
            liveness,
            clock,
            limits,
            evidence=self.evidence,
            open_writers=self._open,
            failure_lines=failure_lines or FailureLines(store, clock),
        )
        self._may_be_fresh = True
        self._next_fresh_s = 0.0
        #: Runs to be judged by the next tick.
        self._later: set[int] = set()
        #: By run, before when it is not judged again, monotonic seconds.
        self._rests_until_s: dict[int, float] = {}
        #: Raises FencedError where the partition is another's by now; a claim puts it in place.
        self.check_owner: Callable[[Transaction], object] = lambda _tx: None
        store.writing.on_rollback(self.forget)

    def forget(self) -> None:
        """After a rollback: what was judged in it is not in the rows, and its ids will be given again."""
        self._open.forget()
        self._judge.forget()
        self.evidence.forget()
        self._may_be_fresh = True

    def add_evidence(self, tx: Transaction, evidence: Sequence[Evidence]) -> None:
        """Keep evidence in the transaction that stores the records it came with; the next tick is due now."""
        if evidence:
            self.evidence.add(tx, evidence, self._clock.unix_s())
            self._liveness.is_urgent = self._may_be_fresh = True

    def note_data(
        self, tx: Transaction, marks: Sequence[WriterMark], testifying: Sequence[WriterMark]
    ) -> None:
        """Take that records of these writers are being stored; judge where that changes anything.

        Args:
            testifying: Those whose records tell about their end.
        """
        is_open = self._open.load(tx.connection)
        runs = self._ending(testifying)
        for mark in marks:
            if mark.role != "process":
                continue
            run_pk = mark.run.run_pk
            known, sign = is_open.get(mark.writer_id), self._liveness.sign(mark.writer_id)
            self._liveness.hear_data(mark.writer_id)
            is_gone = (sign is not None and sign.alive is False) or (known is not None and known.is_gone)
            if mark.is_new and not is_gone and self._judge.state_of(run_pk) == RUNNING:
                # One more writer of a run that runs anyway, and a thousand come at once: the tick sees to it.
                is_open.add(mark.writer_id, OpenWriter(mark.writer_pk, run_pk, unreachable=False))
                self._later.add(run_pk)
            elif mark.is_new or known is None or known.unreachable or is_gone:
                runs.add(run_pk)
            mark.is_new = False
        self._later |= self._judge_due(tx, runs)

    def _ending(self, testifying: Sequence[WriterMark]) -> set[int]:
        """Return the runs that this evidence may end; of larger ones the tick tells who has ended."""
        told = Counter(mark.run.run_pk for mark in testifying)
        if not told:
            return set()
        for mark in testifying:
            if (found := self._open.get(mark.writer_id)) is not None:
                found.has_testified = True
        left = self._open.silent_by_run(told.keys())
        large = {run_pk for run_pk in told if left[run_pk] > JUDGED_AT_ONCE}
        self._later |= large
        return told.keys() - large

    def tick(self, heard: Sequence[Evidence] = ()) -> None:
        """Write what was heard, and judge what that, or long silence, changes. Call every second or so.

        Args:
            heard: Evidence from control messages, which may be trimmed when this returns.
        """
        heard = [one for one in heard if one.source not in NOT_WITNESSED]
        if not self._open.is_loaded:
            # Not on a connection of the readers: they may have taken all.
            with self._store.writing.transaction() as tx:
                self._open.load(tx.connection)
        runs = self._overdue() | self._later
        signs = self._signs_to_write()
        now_s = self._clock.mono_s()
        has_news = bool(runs or signs or heard)
        if has_news or self._may_be_fresh or now_s >= self._next_fresh_s:
            with self._store.writing.transaction() as tx:
                # To look locks no row and writes nothing: while nothing happens, the disk may sleep.
                written: list[str] = []
                left: set[int] = set()
                if has_news or fresh_runs(tx.connection, self._partition):
                    written, left = self._write_news(tx, heard, signs, runs)
            self._liveness.clean(written)
            self._later = left
            self._may_be_fresh, self._next_fresh_s = False, now_s + FRESH_EVERY_S
        self._liveness.is_urgent = False

    def _write_news(
        self, tx: Transaction, heard: Sequence[Evidence], signs: Sequence[tuple[str, Sign]], runs: set[int]
    ) -> tuple[list[str], set[int]]:
        """Store all that is new, and judge these runs and those that it is about.

        Returns:
            Whose signs were written, and which runs are left for later.
        """
        self.check_owner(tx)
        if heard:
            self.evidence.add(tx, heard, self._clock.unix_s())
        runs |= fresh_runs(tx.connection, self._partition)
        written = self._write_signs(tx, signs, runs)
        return written, self._judge_due(tx, runs)

    def _overdue(self) -> set[int]:
        return {found.run_pk for writer_id, found in self._open.items() if self._is_overdue(writer_id, found)}

    def _is_overdue(self, writer_id: str, found: OpenWriter) -> bool:
        silent_s = self._judge.silent_s(writer_id, unreachable=found.unreachable, is_lost=found.is_lost)
        is_lost = silent_s >= self._limits.lost_s
        if is_lost != found.is_lost or (silent_s >= self._limits.unreachable_s) != found.unreachable:
            return True
        sign = self._liveness.sign(writer_id)
        if not found.is_gone and (sign is None or sign.alive is not False):
            return False
        # Time alone brings its verdict, once nothing more is waited for.
        now_s = self._clock.mono_s()
        if now_s < found.next_look_s:
            return False
        if self._liveness.gone_s(writer_id) > LOOK_OFTEN_S:
            found.next_look_s = now_s + LOOK_SELDOM_S
        return True

    def _signs_to_write(self) -> list[tuple[str, Sign]]:
        now_s = self._clock.mono_s()
        found = dict(self._liveness.dirty())
        for writer_id, known in self._open.items():
            sign = self._liveness.sign(writer_id)
            if sign is not None and sign.heard_s - known.seen_written_s >= SEEN_EVERY_S:
                found[writer_id] = sign
                known.seen_written_s = now_s
        return list(found.items())

    def _write_signs(self, tx: Transaction, signs: Sequence[tuple[str, Sign]], runs: set[int]) -> list[str]:
        """Write signs of known writers and return who they are; add the runs that have to be judged."""
        rows: list[dict[str, Any]] = []
        c = t.writers.c
        by_id = dict(signs)
        ids = list(by_id)
        for some in in_slices(ids):
            for row in tx.connection.execute(
                sa.select(c.writer_id, c.writer_pk, c.run_pk, c.head_seq, c.alive).where(
                    c.writer_id.in_(some)
                )
            ):
                sign = by_id.pop(row.writer_id)
                alive = row.alive if row.alive is False or sign.alive is None else sign.alive
                rows.append(
                    {
                        "writer_pk": row.writer_pk,
                        "head_seq": max(row.head_seq, min(sign.head_seq, 2**63 - 1)),
                        "alive": alive,
                        "last_seen_unix_s": sign.seen_unix_s,
                    }
                )
                if alive != row.alive:
                    runs.add(row.run_pk)
        tx.update_by_pk(t.writers, rows)
        return [writer_id for writer_id, _ in signs if writer_id not in by_id]

    def _judge_due(self, tx: Transaction, run_pks: Collection[int]) -> set[int]:
        """Judge these runs but for those that were judged a moment ago at great cost; return the latter."""
        left = set()
        for run_pk in sorted(run_pks):
            began_s = self._clock.mono_s()
            if began_s < self._rests_until_s.get(run_pk, 0.0):
                left.add(run_pk)
                continue
            self._judge.judge(tx, run_pk)
            now_s = self._clock.mono_s()
            self._rests_until_s.pop(run_pk, None)
            if now_s - began_s >= COSTLY_S:
                if len(self._rests_until_s) >= MAX_RESTING:
                    self._rests_until_s.clear()
                pause_s = (now_s - began_s) / JUDGING_SHARE
                self._rests_until_s[run_pk] = now_s + min(pause_s, JUDGED_AT_LEAST_EVERY_S)
        return left
