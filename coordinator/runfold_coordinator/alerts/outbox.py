"""Alerts and their deliveries in the database: raised once, waiting until delivered or given up."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from runfold_coordinator.alerts.payloads import Delivery
from runfold_coordinator.alerts.texts import clean_text, clean_title
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import is_deleted
from runfold_coordinator.store.names import clean_text as storable
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given_up"
#: Longest error that is kept.
MAX_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class NewAlert:
    """An alert about to be raised. `ident` is the same whenever the same one is raised again."""

    run_pk: int
    ident: str
    source: str
    title: str
    text: str
    level: str
    wait_duration_s: float
    raised_unix_s: float
    receivers: Sequence[str] = ()
    writer_pk: int | None = None
    seq: int | None = None


def raise_alert(tx: Transaction, alert: NewAlert, now_unix_s: float) -> bool:
    """Keep an alert and what it is to be delivered to; return whether it was not there yet.

    One alert of a title is delivered within its wait_duration_s, as W&B has it; the run's others are kept as
    suppressed. All ranks may raise the same at once: a clock that is behind makes none the first.
    """
    c = t.alerts.c
    known = tx.connection.execute(sa.select(c.alert_pk).where(c.ident == alert.ident)).first()
    if known is not None:
        return False
    title = storable(clean_title(alert.title))
    suppressed = alert.wait_duration_s > 0 and (
        tx.connection.execute(
            sa.select(c.alert_pk)
            .where(
                c.run_pk == alert.run_pk,
                c.title == title,
                c.raised_unix_s > alert.raised_unix_s - alert.wait_duration_s,
                c.raised_unix_s < alert.raised_unix_s + alert.wait_duration_s,
                c.suppressed.is_(False),
            )
            .limit(1)
        ).first()
        is not None
    )
    alert_pk = tx.new_ids()
    row = {
        "alert_pk": alert_pk,
        "run_pk": alert.run_pk,
        "writer_pk": alert.writer_pk,
        "seq": alert.seq,
        "source": storable(alert.source),
        "ident": storable(alert.ident),
        "title": title,
        "text": storable(clean_text(alert.text)),
        "level": alert.level,
        "wait_duration_s": alert.wait_duration_s,
        "raised_unix_s": alert.raised_unix_s,
        "suppressed": suppressed,
    }
    tx.insert(t.alerts, [row])
    if not suppressed:
        tx.insert(
            t.alert_deliveries,
            [
                {
                    "alert_pk": alert_pk,
                    "receiver": receiver,
                    "state": WAITING,
                    "attempts": 0,
                    "enqueued_unix_s": now_unix_s,
                    "next_unix_s": now_unix_s,
                    "error": "",
                }
                for receiver in dict.fromkeys(alert.receivers)
            ],
        )
    return True


class Outbox:
    """Reads what is due, writes what became of it. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._namespace = uuid.UUID(store.server_id)

    def due(
        self, now_unix_s: float, longest_s: float, *, without: Collection[str], limit: int
    ) -> list[Delivery]:
        """Return deliveries to be tried now, those that wait longest first.

        Args:
            longest_s: No pause is longer: what is due later was set by a clock that went back since.
            without: Receivers that can take nothing now.
        """
        d, a, r = t.alert_deliveries.c, t.alerts.c, t.runs.c
        statement = (
            sa.select(d.alert_pk, d.receiver, d.attempts, d.enqueued_unix_s)
            .add_columns(a.title, a.text, a.level, a.source, a.raised_unix_s)
            .add_columns(r.entity, r.project, r.run_id, r.name, r.state, r.reason)
            .join(t.alerts, a.alert_pk == d.alert_pk)
            .join(t.runs, r.run_pk == a.run_pk)
            .where(
                d.state == WAITING,
                is_deleted(False),
                sa.or_(d.next_unix_s <= now_unix_s, d.next_unix_s > now_unix_s + longest_s),
            )
            .order_by(d.next_unix_s, d.alert_pk)
            .limit(limit)
        )
        if without:
            statement = statement.where(d.receiver.not_in(sorted(without)))
        return [
            Delivery(
                delivery_id=str(uuid.uuid5(self._namespace, f"{row.alert_pk}/{row.receiver}")),
                alert_pk=row.alert_pk,
                receiver=row.receiver,
                attempts=row.attempts,
                enqueued_unix_s=row.enqueued_unix_s,
                title=row.title,
                text=row.text,
                level=row.level,
                source=row.source,
                raised_unix_s=row.raised_unix_s,
                entity=row.entity,
                project=row.project,
                run_id=row.run_id,
                run_name=row.name,
                state=row.state,
                reason=row.reason,
            )
            for row in self._store.fetch(statement)
        ]

    def settle(
        self,
        delivery: Delivery,
        state: str,
        *,
        attempts: int,
        error: str = "",
        next_unix_s: float = 0.0,
        delivered_unix_s: float | None = None,
    ) -> None:
        """Keep what an attempt came to."""
        d = t.alert_deliveries.c
        with self._store.writing.transaction() as tx:
            tx.connection.execute(
                sa.update(t.alert_deliveries)
                .where(d.alert_pk == delivery.alert_pk, d.receiver == delivery.receiver, d.state == WAITING)
                .values(
                    state=state,
                    attempts=attempts,
                    error=storable(error)[:MAX_ERROR_CHARS],
                    next_unix_s=next_unix_s,
                    delivered_unix_s=delivered_unix_s,
                )
            )
