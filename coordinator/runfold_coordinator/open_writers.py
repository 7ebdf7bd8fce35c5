"""The writers that have not ended for certain, as their rows say: the board looks after them at each tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from runfold_coordinator.clock import Clock
from runfold_coordinator.states import TERMINAL, Verdict
from runfold_coordinator.store import tables as t

#: A writer lost for longer is taken up again when its data comes, no more by its heartbeat alone.
WATCH_LOST_S = 7 * 86400.0


@dataclass(slots=True)
class OpenWriter:
    """One of them."""

    writer_pk: int
    run_pk: int
    unreachable: bool
    #: Its row reads terminal, for silence only.
    is_lost: bool = False
    #: Its process is known to be gone; records of it, or how it ended, may be on the way.
    is_gone: bool = False
    #: Evidence of its end may wait for the next tick.
    has_testified: bool = False
    seen_written_s: float = 0.0
    #: When it is looked at again, monotonic seconds; of those that are gone.
    next_look_s: float = 0.0


class OpenWriters:
    """By writer id (hex); read from the database when first asked, and after `forget`."""

    def __init__(self, clock: Clock, partition: int) -> None:
        self._clock = clock
        self._partition = partition
        self._found: dict[str, OpenWriter] | None = None

    def forget(self) -> None:
        """After a rollback."""
        self._found = None

    @property
    def is_loaded(self) -> bool:
        return self._found is not None

    def load(self, connection: sa.Connection) -> OpenWriters:
        """Read them from the database unless they are known; return self."""
        if self._found is None:
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
            self._found = {
                row.writer_id: OpenWriter(
                    row.writer_pk,
                    row.run_pk,
                    row.unreachable,
                    is_lost=not row.runs,
                    is_gone=row.alive is False,
                )
                for row in rows
            }
        return self

    def get(self, writer_id: str) -> OpenWriter | None:
        return None if self._found is None else self._found.get(writer_id)

    def items(self) -> Iterator[tuple[str, OpenWriter]]:
        yield from (self._found or {}).items()

    def add(self, writer_id: str, found: OpenWriter) -> None:
        if self._found is not None:
            self._found[writer_id] = found

    def note(self, writer_id: str, writer_pk: int, run_pk: int, verdict: Verdict, *, is_gone: bool) -> None:
        """Take a verdict: who has ended for certain is no more looked after."""
        if self._found is None:
            return
        if verdict.is_terminal and not verdict.unreachable:
            self._found.pop(writer_id, None)
            return
        known = self._found.setdefault(writer_id, OpenWriter(writer_pk, run_pk, verdict.unreachable))
        known.unreachable, known.is_lost, known.is_gone = verdict.unreachable, verdict.is_terminal, is_gone

    def silent_by_run(self, run_pks: Collection[int]) -> Counter[int]:
        """Return how many writers of each of these runs have not testified about their end."""
        return Counter(o.run_pk for _, o in self.items() if o.run_pk in run_pks and not o.has_testified)
