"""The states in the rows of writers and runs: judged when evidence comes, and when silence has grown long.

In: signs of life, marks of stored data. Out: updated rows, in the transaction that brought the evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.clock import Clock
from runfold_coordinator.ingest.open_rows import Ending, OpenRows
from runfold_coordinator.ingest.watermarks import WriterMark
from runfold_coordinator.liveness import Liveness, Sign
from runfold_coordinator.readers.run_lanes import facts_of
from runfold_coordinator.states import (
    RUNNING,
    TERMINAL,
    Evidence,
    Limits,
    Member,
    RunVerdict,
    Verdict,
    run_state,
    writer_state,
)
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored, writer_row
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: How often last_seen is written for writers of which nothing else changed.
SEEN_EVERY_S = 10.0

#: A run with more open writers than this is judged once a tick, as its writers end: a judgement reads all.
JUDGED_AT_ONCE = 32
#: A writer lost for longer is taken up again when its data comes, no more by its heartbeat alone.
WATCH_LOST_S = 7 * 86400.0
#: Identities kept unpacked.
CACHED_IDENTITIES = 20_000


@dataclass(slots=True)
class _Open:
    """A writer that has not ended for certain, as its row says."""

    writer_pk: int
    run_pk: int
    unreachable: bool
    #: Its row reads crashed, for silence only.
    is_lost: bool = False
    #: Its row says that the process is gone; records of it may be on the way.
    is_gone: bool = False
    #: Evidence of its end may wait for the next tick.
    has_testified: bool = False
    seen_written_s: float = 0.0


class StateBoard:
    """States of one partition's writers. Not thread-safe: for the ingest thread."""

    def __init__(
        self, store: Store, liveness: Liveness, clock: Clock, limits: Limits, *, partition: int = 0
    ) -> None:
        self._store = store
        self._liveness = liveness
        self._clock = clock
        self._limits = limits
        self._partition = partition
        #: By writer id; None: to be read from the database.
        self._open: dict[str, _Open] | None = None
        self._identities: dict[int, dict[str, Any]] = {}
        #: State by run, as judged last.
        self._run_states: dict[int, str] = {}
        #: Runs to be judged by the next tick.
        self._later: set[int] = set()
        self._open_rows = OpenRows()
        #: Raises FencedError where the partition is another's by now; a claim puts it in place.
        self.check_owner: Callable[[Transaction], object] = lambda _tx: None
        store.writing.on_rollback(self.forget)

    def forget(self) -> None:
        """After a rollback: what was judged in it is not in the rows, and its ids will be given again."""
        self._open = None
        self._identities.clear()
        self._run_states.clear()
        self._open_rows.forget()

    def note_data(
        self, tx: Transaction, marks: Sequence[WriterMark], testifying: Sequence[WriterMark]
    ) -> None:
        """Take that records of these writers are being stored; judge where that changes anything.

        Args:
            testifying: Those whose records tell about their end.
        """
        is_open = self._load(tx.connection)
        runs = self._ending(is_open, testifying)
        for mark in marks:
            if mark.role != "process":
                continue
            run_pk = mark.run.run_pk
            known, sign = is_open.get(mark.writer_id), self._liveness.sign(mark.writer_id)
            self._liveness.hear_data(mark.writer_id)
            is_gone = (sign is not None and sign.alive is False) or (known is not None and known.is_gone)
            if mark.is_new and not is_gone and self._run_states.get(run_pk) == RUNNING:
                # One more writer of a run that runs anyway, and a thousand come at once: the tick sees to it.
                is_open[mark.writer_id] = _Open(mark.writer_pk, run_pk, unreachable=False)
                self._later.add(run_pk)
            elif known is None or known.unreachable or is_gone:
                runs.add(run_pk)
            mark.is_new = False
        self._judge(tx, runs)

    def _ending(self, is_open: dict[str, _Open], testifying: Sequence[WriterMark]) -> set[int]:
        """Return the runs that this evidence may end; of larger ones the tick tells who has ended."""
        told = Counter(mark.run.run_pk for mark in testifying)
        if not told:
            return set()
        for mark in testifying:
            if (found := is_open.get(mark.writer_id)) is not None:
                found.has_testified = True
        left = Counter(o.run_pk for o in is_open.values() if o.run_pk in told and not o.has_testified)
        large = {run_pk for run_pk in told if left[run_pk] > JUDGED_AT_ONCE}
        self._later |= large
        return told.keys() - large

    def tick(self) -> None:
        """Write what was heard, and judge writers that were silent for long. Call every second or so."""
        if self._open is None:
            with self._store.snapshot() as connection:
                self._load(connection)
        is_open = self._open or {}
        runs = {found.run_pk for writer_id, found in is_open.items() if self._is_overdue(writer_id, found)}
        runs |= self._later
        signs = self._signs_to_write(is_open)
        if runs or signs:
            with self._store.writing.transaction() as tx:
                self.check_owner(tx)
                written = self._write_signs(tx, signs, runs)
                self._judge(tx, runs)
            self._liveness.clean(written)
            self._later -= runs

    def _is_overdue(self, writer_id: str, found: _Open) -> bool:
        silent_s = self._silent_s(writer_id, unreachable=found.unreachable, is_lost=found.is_lost)
        is_lost = silent_s >= self._limits.lost_s
        if is_lost != found.is_lost or (silent_s >= self._limits.unreachable_s) != found.unreachable:
            return True
        sign = self._liveness.sign(writer_id)
        is_gone = found.is_gone or (sign is not None and sign.alive is False)
        return is_gone and self._liveness.stalled_s(writer_id) >= self._limits.late_records_s

    def _silent_s(self, writer_id: str, *, unreachable: bool, is_lost: bool) -> float:
        """Return for how long a writer was silent.

        A fresh lease expires nobody, but calls nobody back either: who was flagged stays so until heard of.
        """
        silent_s = self._liveness.silent_s(writer_id)
        if not unreachable:
            return silent_s
        floor_s = self._limits.lost_s if is_lost else self._limits.unreachable_s
        since_s = self._liveness.since_heard_s(writer_id)
        return silent_s if since_s is not None and since_s < floor_s else max(silent_s, floor_s)

    def _signs_to_write(self, is_open: dict[str, _Open]) -> list[tuple[str, Sign]]:
        now_s = self._clock.mono_s()
        found = dict(self._liveness.dirty())
        for writer_id, known in is_open.items():
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
        for at in range(0, len(ids), 500):
            for row in tx.connection.execute(
                sa.select(c.writer_id, c.writer_pk, c.run_pk, c.head_seq, c.alive).where(
                    c.writer_id.in_(ids[at : at + 500])
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

    def _load(self, connection: sa.Connection) -> dict[str, _Open]:
        if self._open is None:
            c = t.writers.c
            is_running = c.state.not_in(sorted(TERMINAL))
            watched_from_s = self._clock.unix_s() - WATCH_LOST_S
            rows = connection.execute(
                sa.select(
                    c.writer_id, c.writer_pk, c.run_pk, c.unreachable, c.alive, is_running.label("runs")
                ).where(
                    c.partition == self._partition,
                    c.role == "process",
                    sa.or_(is_running, sa.and_(c.unreachable, c.last_seen_unix_s > watched_from_s)),
                )
            )
            self._open = {
                row.writer_id: _Open(
                    row.writer_pk,
                    row.run_pk,
                    row.unreachable,
                    is_lost=not row.runs,
                    is_gone=row.alive is False,
                )
                for row in rows
            }
        return self._open

    def _judge(self, tx: Transaction, run_pks: Collection[int]) -> None:
        for run_pk in sorted(run_pks):
            self._judge_run(tx, run_pk)

    def _judge_run(self, tx: Transaction, run_pk: int) -> None:
        rows = tx.connection.execute(
            sa.select(t.writers).where(t.writers.c.run_pk == run_pk, t.writers.c.role == "process")
        ).all()
        writers = [(writer_row(row, self._identity(row)), row.preempting) for row in rows]
        is_open = self._load(tx.connection)
        verdicts, changed = {}, []
        for writer, is_preempting in writers:
            verdict = verdicts[writer.writer_pk] = self._judge_writer(writer, is_preempting)
            is_ended = verdict.state in TERMINAL
            if is_ended and not verdict.unreachable:
                is_open.pop(writer.writer_id, None)
            else:
                known = is_open.setdefault(
                    writer.writer_id, _Open(writer.writer_pk, run_pk, verdict.unreachable)
                )
                known.unreachable, known.is_lost = verdict.unreachable, is_ended
                known.is_gone = writer.alive is False
            after = {
                "state": verdict.state,
                "reason": clean_text(verdict.reason),
                "unreachable": verdict.unreachable,
                "ended_unix_ns": verdict.ended_unix_ns,
            }
            if any(getattr(writer, name) != value for name, value in after.items()):
                changed.append({"writer_pk": writer.writer_pk} | after)
        tx.update_by_pk(t.writers, changed)
        self._open_rows.settle(
            tx,
            run_pk,
            [
                Ending(
                    row.writer_pk,
                    row.last_seq,
                    row.row_fold,
                    row.exit is None and verdicts[row.writer_pk].state in TERMINAL,
                )
                for row in rows
                if row.row_fold is not None
            ],
        )
        found = run_state(_newest_attempt([writer for writer, _ in writers], verdicts))
        if len(self._run_states) >= CACHED_IDENTITIES:
            self._run_states.clear()
        self._run_states[run_pk] = found.state
        _write_run(tx, run_pk, found)

    def _identity(self, row: Any) -> dict[str, Any]:
        found = self._identities.get(row.writer_pk)
        if found is None:
            found = unpack_stored(row.identity)
            if len(self._identities) >= CACHED_IDENTITIES:
                self._identities.clear()
            if found:
                self._identities[row.writer_pk] = found
        return found

    def _judge_writer(self, writer: WriterRow, is_preempting: bool) -> Verdict:
        sign = self._liveness.sign(writer.writer_id)
        head_seq = max(writer.head_seq, sign.head_seq if sign is not None else 0)
        said = None if sign is None else sign.alive
        seen_unix_s = writer.last_seen_unix_s if sign is None else sign.seen_unix_s
        verdict = writer_state(
            Evidence(
                exit=writer.exit,
                signal=writer.signal,
                preempting=is_preempting,
                alive=False if writer.alive is False else said if said is not None else writer.alive,
                silent_s=self._silent_s(
                    writer.writer_id,
                    unreachable=writer.unreachable,
                    is_lost=writer.unreachable and writer.state in TERMINAL,
                ),
                stalled_s=self._liveness.stalled_s(writer.writer_id),
                is_caught_up=writer.last_seq >= head_seq,
                last_seen_unix_ns=int(seen_unix_s * 1e9),
                last_record_unix_ns=writer.last_record_unix_ns,
            ),
            self._limits,
        )
        is_gone = writer.alive is False or said is False
        if is_gone and verdict.state == RUNNING and writer.state in TERMINAL and not writer.unreachable:
            # Its late records do not wake the dead: readers would see it run again, and end once more.
            return Verdict(writer.state, writer.reason, ended_unix_ns=writer.ended_unix_ns)
        if writer.exit is None and verdict.state == writer.state and writer.ended_unix_ns is not None:
            # It ended when that was first known; being judged again does not move it.
            return replace(verdict, ended_unix_ns=writer.ended_unix_ns)
        return verdict


def _newest_attempt(writers: Sequence[WriterRow], verdicts: dict[int, Verdict]) -> list[Member]:
    is_shared = any(writer.mode == "shared" for writer in writers)
    placements = place_writers([facts_of(writer) for writer in writers], is_shared=is_shared)
    newest = max((place.attempt for place in placements.values()), default=1)
    return [
        Member(
            verdict=verdicts[writer.writer_pk],
            decides=writer.update_finish_state,
            rank=writer.rank,
            label=writer.label,
            host=writer.host,
            writer_id=writer.writer_id,
            traceback=(writer.exit or {}).get("traceback"),
        )
        for writer in writers
        if placements[writer.writer_pk].attempt == newest
    ]


def _write_run(tx: Transaction, run_pk: int, verdict: RunVerdict) -> None:
    tx.touch(run_pk)
    c = t.runs.c
    tx.connection.execute(
        sa.update(t.runs)
        .where(c.run_pk == run_pk)
        .values(
            state=verdict.state,
            reason=clean_text(verdict.reason),
            unreachable=verdict.unreachable,
            ended_unix_ns=verdict.ended_unix_ns,
            first_failure=None if verdict.first_failure is None else pack_value(verdict.first_failure),
            version=c.version + 1,
        )
    )
