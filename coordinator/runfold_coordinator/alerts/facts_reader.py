"""Reads what rules may know of runs: few columns of many runs at once, more only where a rule asks for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from runfold.protocol.identity import NODE_ENTITY
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.alerts.conditions import RankFacts, RunFacts
from runfold_coordinator.readers.run_lanes import facts_of
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import is_deleted, unpack_stored
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

_COLUMNS = (
    *("run_pk", "entity", "project", "run_id", "name", "group_name", "tags_json", "state", "reason"),
    *("unreachable", "stalled", "verdicts", "first_failure", "ended_unix_ns", "updated_unix_s", "mode"),
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What beside a run's own row the rules look at."""

    ranks: bool = False
    counts: bool = False


class FactsReader:
    """Thread-safe: it keeps nothing between calls."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, run_pks: Collection[int]) -> list[RunFacts]:
        """Return the facts of these runs without ranks and counts; not of those that agents keep."""
        pks, c = sorted(run_pks), t.runs.c
        found = []
        for some in in_slices(pks):
            rows = self._store.fetch(
                sa.select(*(c[name] for name in _COLUMNS)).where(
                    c.run_pk.in_(some), c.entity != NODE_ENTITY, is_deleted(False)
                )
            )
            found += [_facts(row) for row in rows]
        return found

    def complete(self, run: RunFacts, needs: Needs) -> RunFacts:
        """Return the facts with what else is needed."""
        if needs.counts:
            counts = self._store.accounting(run.run_pk)
            run = replace(run, dead_letters=counts.dead_letters, gaps=counts.declared_gaps)
        if needs.ranks:
            run = self._with_ranks(run)
        return run

    def unfinished(self, since_unix_s: float) -> list[int]:
        """Return the runs that have not ended, and those of which anything was heard since then."""
        c = t.runs.c
        rows = self._store.fetch(
            sa.select(c.run_pk).where(
                c.entity != NODE_ENTITY,
                is_deleted(False),
                sa.or_(
                    c.state.not_in(sorted(TERMINAL)),
                    c.updated_unix_s >= since_unix_s,
                    c.ended_unix_ns >= int(since_unix_s * 1e9),
                ),
            )
        )
        return [row.run_pk for row in rows]

    def _with_ranks(self, run: RunFacts) -> RunFacts:
        writers = self._store.writers(run.run_pk)
        is_shared = any(writer.mode == "shared" for writer in writers)
        placements = place_writers([facts_of(writer) for writer in writers], is_shared=is_shared)
        newest = max((place.attempt for place in placements.values()), default=1)
        ranks = [
            RankFacts(w.rank, w.label, w.host, w.state, w.reason, w.unreachable)
            for w in writers
            if placements[w.writer_pk].attempt == newest
        ]
        return replace(run, ranks=ranks, attempt=newest)


def _facts(row: Any) -> RunFacts:
    return RunFacts(
        run_pk=row.run_pk,
        entity=row.entity,
        project=row.project,
        run_id=row.run_id,
        name=row.name,
        group=row.group_name,
        tags=tuple(row.tags_json or ()),
        state=row.state,
        reason=row.reason,
        unreachable=row.unreachable,
        stalled=row.stalled,
        verdicts=unpack_stored(row.verdicts),
        first_failure=unpack_stored(row.first_failure) or None,
        moved_unix_s=max(row.updated_unix_s, (row.ended_unix_ns or 0) / 1e9),
    )
