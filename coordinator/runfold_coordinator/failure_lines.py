"""The last console lines of the writer that is blamed, kept in its run's `first_failure`.

They are often still on the way when the death is told: they are looked for again, a few times. A board says
whom it blames; the lines are read and written by the thread for work that can wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from runfold.protocol.values import pack_value
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

#: Seconds after the verdict at which the lines are read, at the soonest.
READ_AFTER_S = (0.0, 2.0, 10.0, 60.0)
#: Failures that are followed at a time.
MAX_FOLLOWED = 1000
#: Failures whose lines are read in one turn.
MAX_READ_AT_ONCE = 8
MAX_LINE_CHARS = 2000

#: Returns the newest console lines of a writer (id in hex), the last one last.
LastLines = Callable[[str], list[str]]


@dataclass(slots=True)
class _Followed:
    writer_id: str
    lines: list[str]
    due_s: list[float] = field(default_factory=list)


class FailureLines:
    """Lines by run. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, last_lines: LastLines = lambda _writer_id: []) -> None:
        self._store = store
        self._clock = clock
        self._last_lines = last_lines
        self._lock = threading.Lock()
        self._followed: dict[int, _Followed] = {}

    def of(self, connection: sa.Connection, run_pk: int, writer_id: str) -> list[str]:
        """Return the lines that are known of the writer that this run's failure is blamed on; follow it."""
        with self._lock:
            followed = self._followed.get(run_pk)
            if followed is None or followed.writer_id != writer_id:
                now_s = self._clock.mono_s()
                lines = _stored_lines(connection, run_pk, writer_id)
                followed = _Followed(writer_id, lines, [now_s + after_s for after_s in READ_AFTER_S])
                if len(self._followed) >= MAX_FOLLOWED:
                    self._followed.pop(next(iter(self._followed)))
                self._followed[run_pk] = followed
            return followed.lines

    def turn(self) -> bool:
        """Read what is due, and write what has changed; return whether there is more to do at once.

        Raises:
            StoreError: The database is away; what was due is tried once less.
        """
        now_s = self._clock.mono_s()
        with self._lock:
            due = [(pk, f) for pk, f in self._followed.items() if f.due_s and f.due_s[0] <= now_s]
            for _, followed in due[:MAX_READ_AT_ONCE]:
                followed.due_s = [due_s for due_s in followed.due_s if due_s > now_s]
        for run_pk, followed in due[:MAX_READ_AT_ONCE]:
            try:
                lines = [line[:MAX_LINE_CHARS] for line in self._last_lines(followed.writer_id)]
            except StoreError:
                raise
            except Exception:
                # They are a help to whoever reads of the failure, no condition for telling it.
                logger.exception("console lines could not be read", extra={"event": "failure_lines"})
                continue
            if lines != followed.lines:
                with self._store.writing.transaction() as tx:
                    _write(tx, run_pk, followed.writer_id, lines)
                followed.lines = lines
        return len(due) > MAX_READ_AT_ONCE


def _write(tx: Transaction, run_pk: int, writer_id: str, lines: list[str]) -> None:
    """Put the lines into the run's row, if it still blames this writer."""
    c = t.runs.c
    packed = tx.connection.execute(sa.select(c.first_failure).where(c.run_pk == run_pk)).scalar_one_or_none()
    failure = unpack_stored(packed)
    if failure.get("writer") != writer_id:
        return
    failure["console"] = lines
    tx.touch(run_pk)
    tx.connection.execute(
        sa.update(t.runs)
        .where(c.run_pk == run_pk)
        .values(first_failure=pack_value(failure), version=c.version + 1)
    )


def _stored_lines(connection: sa.Connection, run_pk: int, writer_id: str) -> list[str]:
    c = t.runs.c
    packed = connection.execute(sa.select(c.first_failure).where(c.run_pk == run_pk)).scalar_one_or_none()
    failure = unpack_stored(packed)
    return list(failure.get("console") or ()) if failure.get("writer") == writer_id else []
