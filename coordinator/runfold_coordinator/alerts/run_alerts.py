"""What processes tell people (Run.alert()): from their records to alerts, each once, in their order."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.records import AlertRecord
from runfold_coordinator.alerts.conditions import RunFacts
from runfold_coordinator.alerts.config import RUN_SOURCE, Receiver
from runfold_coordinator.alerts.config_file import ConfigFile
from runfold_coordinator.alerts.facts_reader import FactsReader
from runfold_coordinator.alerts.outbox import NewAlert, raise_alert
from runfold_coordinator.alerts.rules import WatchedRule
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.errors import StoreError
from runfold_coordinator.store.store import Store

logger = logging.getLogger(__name__)

#: Alerts of one run taken in one transaction.
RUN_ALERTS_AT_ONCE = 200
DEFAULT_WAIT_S = 60.0
_LEVELS = ("INFO", "WARN", "ERROR")


class RunAlerts:
    """Not thread-safe. How far a writer's alerts were raised is told by the alerts table itself."""

    def __init__(self, store: Store, clock: Clock, config_file: ConfigFile) -> None:
        self._store = store
        self._clock = clock
        self._file = config_file
        self._facts = FactsReader(store)
        #: Runs with records that were not raised yet.
        self._pending: set[int] = set()
        self._rules: Sequence[WatchedRule] = ()

    def load(self) -> None:
        """Find what was said while nobody looked."""
        self._pending.update(self._runs())

    def take(self, rules: Sequence[WatchedRule]) -> None:
        """Put the rules on alerts in force; without any, receivers say themselves what they take."""
        self._rules = rules

    def note(self, run_pks: Collection[int]) -> None:
        """Take that processes of these runs have said something."""
        self._pending.update(run_pks)

    def raise_new(self) -> bool:
        """Raise what processes have said since; return whether there was anything."""
        raised = False
        for run_pk in sorted(self._pending):
            rows = self._new(run_pk)
            runs = self._facts.read([run_pk]) if rows else []
            if not runs or len(rows) < RUN_ALERTS_AT_ONCE:
                self._pending.discard(run_pk)
            for run in runs:
                now_unix_s = self._clock.unix_s()
                try:
                    with self._store.writing.transaction() as tx:
                        for row in rows:
                            raise_alert(tx, self._alert(run, row), now_unix_s)
                    raised = True
                except StoreError:
                    self._pending.add(run_pk)
                    raise
                except Exception:
                    # One run's words must not keep the others from being heard.
                    self._pending.discard(run_pk)
                    logger.exception("alerts were not raised", extra={"event": "alerts_bad", "run": run.path})
        return raised

    def _new(self, run_pk: int) -> Sequence[Any]:
        c, w = t.records.c, t.writers.c
        return self._store.fetch(
            sa.select(c.writer_pk, c.seq, c.t_ns, c.payload, w.writer_id)
            .join(t.writers, w.writer_pk == c.writer_pk)
            .where(c.run_pk == run_pk, _IS_ALERT, c.seq > _handled_seq())
            .order_by(c.writer_pk, c.seq)
            .limit(RUN_ALERTS_AT_ONCE)
        )

    def _runs(self) -> list[int]:
        c = t.records.c
        rows = self._store.fetch(sa.select(c.run_pk).distinct().where(_IS_ALERT, c.seq > _handled_seq()))
        return [row.run_pk for row in rows]

    def _alert(self, run: RunFacts, row: Any) -> NewAlert:
        try:
            said = AlertRecord.unpack(bytes(row.payload))
        except ProtocolError:  # stored by a version that knew less; still handled, or it would come again
            said = AlertRecord(title="?")
        level = said.level if said.level in _LEVELS else "INFO"
        return NewAlert(
            run_pk=run.run_pk,
            ident=f"{RUN_SOURCE}:{row.writer_id}:{row.seq}",
            source=RUN_SOURCE,
            title=said.title,
            text=said.text or "",
            level=level,
            wait_duration_s=_wait_s(said.wait_duration_s),
            raised_unix_s=row.t_ns / 1e9,
            receivers=self._receivers_of(run, level),
            writer_pk=row.writer_pk,
            seq=row.seq,
        )

    def _receivers_of(self, run: RunFacts, level: str) -> list[str]:
        """Return who is told of a Run.alert(): whom the rules on alerts name, else who takes them."""
        if self._rules:
            return [
                name
                for each in self._rules
                if level in each.rule.when.alert and each.accepts.accepts(run)
                for name in each.rule.receivers
            ]
        return [
            each.name for each in self._file.current.receiver if each.run_alerts and _reaches(each, level)
        ]


#: As a literal: SQLite takes a partial index for nothing else.
_IS_ALERT = sa.literal_column("records.kind") == sa.literal_column("19")


def _handled_seq() -> sa.ScalarSelect[Any]:
    """The seq up to which a writer's alerts were raised: they are, in its order."""
    a = t.alerts.c
    highest = sa.select(sa.func.max(a.seq)).where(a.writer_pk == t.records.c.writer_pk).correlate(t.records)
    return sa.func.coalesce(highest.scalar_subquery(), 0)  # type: ignore[return-value]


def _wait_s(said: float | None) -> float:
    """Return a wait that a database can keep; NaN is none of them."""
    return DEFAULT_WAIT_S if said is None or not 0 <= said < float("inf") else float(said)


def _reaches(receiver: Receiver, level: str) -> bool:
    return _LEVELS.index(level) >= _LEVELS.index(receiver.min_level)
