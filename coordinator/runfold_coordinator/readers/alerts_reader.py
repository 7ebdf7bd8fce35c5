"""Alerts as they were raised, and what became of their deliveries; newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import is_deleted, unpack_stored
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """`next_before` goes on where this page ends; None on the last."""

    alerts: list[dict[str, Any]]
    next_before: int | None


class AlertsReader:
    """Reads alerts. Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_alerts(
        self,
        *,
        run_pk: int | None = None,
        entity: str | None = None,
        project: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> AlertsPage:
        """Return alerts of a run, or of all runs of an entity or project.

        Each: run ("entity/project/id"), title, text, level, source ("run" for Run.alert(), else the rule's
        name), raised_unix_s, suppressed, rank and label of who raised it, deliveries: receiver, state,
        attempts, error, delivered_unix_s.
        """
        a, r = t.alerts.c, t.runs.c
        statement = (
            sa.select(t.alerts, r.entity, r.project, r.run_id, t.writers.c.identity)
            .join(t.runs, r.run_pk == a.run_pk)
            .join(t.writers, t.writers.c.writer_pk == a.writer_pk, isouter=True)
            .where(is_deleted(False))
            .order_by(a.alert_pk.desc())
            .limit(limit + 1)
        )
        for column, value in ((a.run_pk, run_pk), (r.entity, entity), (r.project, project)):
            if value is not None:
                statement = statement.where(column == value)
        if before is not None:
            statement = statement.where(a.alert_pk < before)
        rows = self._store.fetch(statement)
        page = rows[:limit]
        deliveries = self._deliveries([row.alert_pk for row in page])
        return AlertsPage(
            [_document(row, deliveries.get(row.alert_pk, [])) for row in page],
            page[-1].alert_pk if len(rows) > limit else None,
        )

    def _deliveries(self, alert_pks: list[int]) -> dict[int, list[dict[str, Any]]]:
        d = t.alert_deliveries.c
        found: dict[int, list[dict[str, Any]]] = {}
        for some in in_slices(alert_pks):
            statement = sa.select(t.alert_deliveries).where(d.alert_pk.in_(some))
            for row in self._store.fetch(statement.order_by(d.alert_pk, d.receiver)):
                found.setdefault(row.alert_pk, []).append(
                    {
                        "receiver": row.receiver,
                        "state": row.state,
                        "attempts": row.attempts,
                        "error": row.error or None,
                        "delivered_unix_s": row.delivered_unix_s,
                    }
                )
        return found


def _document(row: Any, deliveries: list[dict[str, Any]]) -> dict[str, Any]:
    identity = unpack_stored(row.identity)
    return {
        "run": f"{row.entity}/{row.project}/{row.run_id}",
        "title": row.title,
        "text": row.text,
        "level": row.level,
        "source": row.source,
        "raised_unix_s": row.raised_unix_s,
        "suppressed": row.suppressed,
        "rank": identity.get("rank"),
        "label": identity.get("label"),
        "deliveries": deliveries,
    }
