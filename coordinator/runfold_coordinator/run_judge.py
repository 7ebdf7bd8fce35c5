"""Judges a run: the evidence about its writers, and their signs of life, to the states in the rows.

In: the run, inside the transaction that brought what is new about it. Out: rows of its writers and its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.clock import Clock
from runfold_coordinator.evidence_table import EvidenceTable, elastic_traceback
from runfold_coordinator.failure_lines import FailureLines
from runfold_coordinator.ingest.open_rows import Ending as RowEnding
from runfold_coordinator.ingest.open_rows import OpenRows
from runfold_coordinator.liveness import Liveness
from runfold_coordinator.open_writers import OpenWriters
from runfold_coordinator.readers.run_lanes import facts_of
from runfold_coordinator.states import (
    TERMINAL,
    Life,
    Limits,
    Member,
    RunVerdict,
    Testimony,
    Verdict,
    run_state,
    verdict_on,
)
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored, writer_row
from runfold_coordinator.store.model import WriterRow
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.writes import Transaction
from runfold_coordinator.stored_verdicts import member_of, verdict_columns, verdict_of

logger = logging.getLogger(__name__)

#: Identities kept unpacked, and runs whose last verdict is kept.
CACHED = 20_000


class RunJudge:
    """Not thread-safe: for the ingest thread's transactions."""

    def __init__(
        self,
        liveness: Liveness,
        clock: Clock,
        limits: Limits,
        *,
        evidence: EvidenceTable,
        open_writers: OpenWriters,
        failure_lines: FailureLines,
    ) -> None:
        self._liveness = liveness
        self._clock = clock
        self._limits = limits
        self._evidence = evidence
        self._open = open_writers
        self._failure_lines = failure_lines
        self._open_rows = OpenRows()
        self._identities: dict[int, dict[str, Any]] = {}
        #: By run, its state as judged last, and a digest of all that was written of it.
        self._written: dict[int, tuple[str, bytes]] = {}

    def forget(self) -> None:
        """After a rollback: what was judged in it is not in the rows, and its ids will be given again."""
        self._identities.clear()
        self._written.clear()
        self._open_rows.forget()

    def state_of(self, run_pk: int) -> str | None:
        """Return the run's state as judged last; None when it was not, of late."""
        found = self._written.get(run_pk)
        return None if found is None else found[0]

    def silent_s(self, writer_id: str, *, unreachable: bool, is_lost: bool) -> float:
        """Return for how long a writer was silent.

        A fresh lease expires nobody, but calls nobody back either: who was flagged stays so until heard of.
        """
        silent_s = self._liveness.silent_s(writer_id)
        if not unreachable:
            return silent_s
        floor_s = self._limits.lost_s if is_lost else self._limits.unreachable_s
        since_s = self._liveness.since_heard_s(writer_id)
        return silent_s if since_s is not None and since_s < floor_s else max(silent_s, floor_s)

    def judge(self, tx: Transaction, run_pk: int) -> None:
        """Bring the rows of a run and its writers up to what is known."""
        self._evidence.claim(tx, run_pk)
        rows = tx.connection.execute(
            sa.select(t.writers).where(t.writers.c.run_pk == run_pk, t.writers.c.role == "process")
        ).all()
        writers = [writer_row(row, self._identity(row)) for row in rows]
        testimonies = self._evidence.testimonies(tx.connection, [writer.writer_id for writer in writers])
        self._open.load(tx.connection)
        try:
            verdicts = {w.writer_pk: self._judge_writer(w, testimonies[w.writer_id]) for w in writers}
            found, induced = self._judge_attempts(writers, verdicts)
        except Exception:
            # One run of which something odd is said must not keep all others from being stored and judged.
            logger.exception("a run could not be judged", extra={"event": "judge_failed", "run_pk": run_pk})
            return
        for writer in writers:
            is_gone = writer.alive is False or testimonies[writer.writer_id].end_ns is not None
            verdict = verdicts[writer.writer_pk]
            self._open.note(writer.writer_id, writer.writer_pk, run_pk, verdict, is_gone=is_gone)
        has_changed = _write_writers(tx, writers, verdicts, induced)
        self._open_rows.settle(
            tx,
            run_pk,
            [
                RowEnding(
                    row.writer_pk,
                    row.last_seq,
                    row.row_fold,
                    row.exit is None and verdicts[row.writer_pk].is_terminal,
                )
                for row in rows
                if row.row_fold is not None
            ],
        )
        newest_pk = max((writer.writer_pk for writer in writers), default=0)
        self._write_run(tx, run_pk, found, has_changed=has_changed, newest_pk=newest_pk)

    def _judge_writer(self, writer: WriterRow, testimony: Testimony) -> Verdict:
        sign = self._liveness.sign(writer.writer_id)
        head_seq = max(writer.head_seq, sign.head_seq if sign is not None else 0)
        said = None if sign is None else sign.alive
        alive = False if writer.alive is False else said if said is not None else writer.alive
        is_gone = alive is False or testimony.end_ns is not None
        is_lost = writer.unreachable and writer.state in TERMINAL
        seen_unix_s = writer.last_seen_unix_s if sign is None else sign.seen_unix_s
        verdict = verdict_on(
            testimony,
            Life(
                alive=alive,
                silent_s=self.silent_s(writer.writer_id, unreachable=writer.unreachable, is_lost=is_lost),
                stalled_s=self._liveness.stalled_s(writer.writer_id),
                gone_s=self._liveness.gone_s(writer.writer_id) if is_gone else 0.0,
                is_caught_up=writer.last_seq >= head_seq,
                last_seen_unix_ns=int(seen_unix_s * 1e9),
                last_record_unix_ns=writer.last_record_unix_ns,
                launcher_pid=_launcher_pid(writer),
            ),
            self._limits,
        )
        if writer.state in TERMINAL and not verdict.is_terminal and (is_gone or not is_lost):
            # Late records do not wake the dead: readers would see it run again, and end once more.
            return verdict_of(writer)
        if verdict.ended_unix_ns is None:
            return verdict
        if testimony.end_ns is None and verdict.state == writer.state and writer.ended_unix_ns is not None:
            # It ended when that was first known; being judged again does not move it.
            return replace(verdict, ended_unix_ns=writer.ended_unix_ns)
        return replace(verdict, ended_unix_ns=self._plausible_ns(writer, verdict.ended_unix_ns))

    def _plausible_ns(self, writer: WriterRow, t_ns: int) -> int:
        """Return a time of a clock that may be wild: not before the writer's start, nor in the future."""
        now_ns = int(self._clock.unix_s() * 1e9)
        latest_ns = max(now_ns, writer.last_record_unix_ns, writer.started_unix_ns)
        return min(max(t_ns, writer.started_unix_ns), latest_ns)

    def _judge_attempts(
        self, writers: Sequence[WriterRow], verdicts: Mapping[int, Verdict]
    ) -> tuple[RunVerdict, dict[str, str]]:
        """Return the verdict of the newest attempt, and of all attempts the reasons of induced deaths."""
        is_shared = any(writer.mode == "shared" for writer in writers)
        placements = place_writers([facts_of(writer) for writer in writers], is_shared=is_shared)
        by_attempt: dict[int, list[Member]] = {}
        for writer in writers:
            offset_ns = self._liveness.clock_offset_ns(writer.host, writer.boot_id)
            member = member_of(writer, verdicts[writer.writer_pk], clock_offset_ns=offset_ns)
            by_attempt.setdefault(placements[writer.writer_pk].attempt, []).append(member)
        found = {attempt: run_state(members) for attempt, members in by_attempt.items()}
        induced = {w: reason for verdict in found.values() for w, reason in verdict.induced.items()}
        return found[max(found)] if found else run_state([]), induced

    def _identity(self, row: Any) -> dict[str, Any]:
        found = self._identities.get(row.writer_pk)
        if found is None:
            found = unpack_stored(row.identity)
            if len(self._identities) >= CACHED:
                self._identities.clear()
            if found:
                self._identities[row.writer_pk] = found
        return found

    def _write_run(
        self, tx: Transaction, run_pk: int, verdict: RunVerdict, *, has_changed: bool, newest_pk: int
    ) -> None:
        failure = verdict.first_failure
        if failure is not None:
            failure["console"] = self._failure_lines.of(tx.connection, run_pk, failure["writer"])
            if failure["traceback"] is None and failure["signal"] is None:
                failure["traceback"] = elastic_traceback(tx.connection, failure["writer"])
        columns = {
            "state": verdict.state,
            "reason": clean_text(verdict.reason),
            "unreachable": verdict.unreachable,
            "ended_unix_ns": verdict.ended_unix_ns,
            "confidence": verdict.confidence,
            "first_failure": None if failure is None else pack_value(failure),
        }
        written = (verdict.state, hashlib.sha256(pack_value(columns)).digest())
        if self._written.get(run_pk) == written and not has_changed:
            return
        if len(self._written) >= CACHED:
            self._written.clear()
        self._written[run_pk] = written
        tx.touch(run_pk)
        c = t.runs.c
        # What somebody said of the state (RunEdits.set_state) stands until another process joins.
        stands = sa.and_(c.said_state.is_not(None), c.said_state_pk >= newest_pk)
        judged = {
            name: sa.case((stands, c[name]), else_=sa.literal(value, c[name].type))
            for name, value in columns.items()
        }
        tx.connection.execute(
            sa.update(t.runs).where(c.run_pk == run_pk).values(version=c.version + 1, **judged)
        )


def _launcher_pid(writer: WriterRow) -> int | None:
    pid = writer.launcher.get("launcher_pid")
    return pid if isinstance(pid, int) else None


def _write_writers(
    tx: Transaction,
    writers: Sequence[WriterRow],
    verdicts: Mapping[int, Verdict],
    induced: Mapping[str, str],
) -> bool:
    """Write the rows whose verdict has changed; return whether there are any."""
    changed = []
    for writer in writers:
        after = verdict_columns(verdicts[writer.writer_pk], induced.get(writer.writer_id))
        before = {name: getattr(writer, name) for name in after if name != "ending"}
        is_same = before == {name: after[name] for name in before}
        if not is_same or unpack_stored(after["ending"]) != writer.ending:
            changed.append({"writer_pk": writer.writer_pk} | after)
    tx.update_by_pk(t.writers, changed)
    return bool(changed)
