"""Who may still say a part before a finish, and whose upload may still come: writers and heartbeats, read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from runfold_coordinator.clock import Clock
from runfold_coordinator.live_facts import Head
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

#: Whatever is not known by then of processes that may have said a part before the finish, seconds after it.
DELIVERY_WAIT_S = 60.0
#: Ranks of the job that are not known here at all are waited for so long, seconds: their spools may be on the
#: way, or only some ranks ever log.
JOIN_WAIT_S = 15.0
#: A heartbeat that comes so long after the finish, seconds, was made after it.
BEAT_MARGIN_S = 1.0
#: A part is given up when nothing was heard of its process and its node for so long, seconds.
UPLOAD_WAIT_S = 600.0
#: ... and when its node lives, after so long.
UPLOAD_WAIT_ALIVE_S = 6 * 3600.0
_w = t.writers.c


class Heads(Protocol):
    """What heartbeats have told (see live_facts.LiveFacts)."""

    def head(self, writer_id: str) -> Head | None:
        """Return how far a writer has come."""

    def clock_offset_ns(self, host: str | None, boot_id: str | None) -> int:
        """Return what to add to a node's times to have ours."""


@dataclass(frozen=True, slots=True)
class Teller:
    """A process that said a part."""

    writer_id: str
    rank: int | None
    world_size: int | None
    host: str | None
    boot_id: str | None
    last_seen_unix_s: float


class Participants:
    """Reads. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, heads: Heads) -> None:
        self._store = store
        self._clock = clock
        self._heads = heads

    def tellers(self, writer_ids: Iterable[str | None]) -> dict[str, Teller]:
        """Return what is known of these processes."""
        wanted = sorted({writer_id for writer_id in writer_ids if writer_id})
        found = {}
        for some in in_slices(wanted):
            rows = self._store.fetch(
                sa.select(_w.writer_id, _w.identity, _w.host, _w.boot_id, _w.last_seen_unix_s).where(
                    _w.writer_id.in_(some)
                )
            )
            for row in rows:
                said = unpack_stored(row.identity)
                found[row.writer_id] = Teller(
                    row.writer_id,
                    said.get("rank"),
                    said.get("world_size"),
                    row.host,
                    row.boot_id,
                    row.last_seen_unix_s,
                )
        return found

    def offset_ns(self, teller: Teller | None) -> int:
        """Return what to add to the process's times to have ours."""
        return 0 if teller is None else self._heads.clock_offset_ns(teller.host, teller.boot_id)

    def behind(self, finish: Any, parts: Sequence[Any], finish_ns: int, teller: Teller | None) -> int:
        """Return how many processes may have said parts before the finish that are not known here.

        Args:
            finish, parts: Rows of drafts.
            finish_ns: When the finish was said, by our clock.
            teller: Who said the finish.
        """
        since_s = self._clock.unix_s() - finish.heard_unix_s
        if since_s >= DELIVERY_WAIT_S:
            return 0
        run_pks = sorted({row.run_pk for row in parts if row.run_pk is not None} | self._group(finish.run_pk))
        count = 0
        if since_s < JOIN_WAIT_S and teller is not None:
            count += self._unknown_ranks(run_pks, teller.world_size or 1)
        for some in in_slices(run_pks):
            is_done = sa.and_(_w.state.in_(sorted(TERMINAL)), _w.last_seq >= _w.head_seq)
            rows = self._store.fetch(
                sa.select(_w.writer_id, _w.last_seq, _w.last_record_unix_ns, _w.host, _w.boot_id).where(
                    _w.run_pk.in_(some), _w.role == "process", sa.not_(is_done)
                )
            )
            count += sum(not self._is_past(row, finish, finish_ns) for row in rows)
        return count

    def _unknown_ranks(self, run_pks: Sequence[int], world_size: int) -> int:
        """Return of how many ranks of a job nothing was heard yet."""
        if world_size <= 1:
            return 0
        ranks = set()
        for some in in_slices(run_pks):
            rows = self._store.fetch(sa.select(_w.identity).where(_w.run_pk.in_(some), _w.role == "process"))
            ranks |= {unpack_stored(row.identity).get("rank") for row in rows}
        return max(0, world_size - len(ranks - {None}))

    def is_lost(self, part: Any, teller: Teller | None, finish: Any) -> bool:
        """Return whether the upload of a part is not worth waiting for any longer."""
        now_unix_s = self._clock.unix_s()
        since_s = max(part.heard_unix_s, finish.heard_unix_s)
        if now_unix_s - since_s < UPLOAD_WAIT_S:
            return False
        if now_unix_s - since_s >= UPLOAD_WAIT_ALIVE_S or teller is None:
            return True
        heard = max(since_s, self._last_heard_unix_s(teller))
        return bool(now_unix_s - heard >= UPLOAD_WAIT_S)

    def _group(self, run_pk: int | None) -> set[int]:
        """Return the run and those of its group."""
        if run_pk is None:
            return set()
        r = t.runs.c
        rows = self._store.fetch(
            sa.select(r.entity, r.project, r.group_name).where(r.run_pk == run_pk, r.group_name.is_not(None))
        )
        found = {run_pk}
        for row in rows:
            where = (r.entity == row.entity, r.project == row.project, r.group_name == row.group_name)
            found |= {each.run_pk for each in self._store.fetch(sa.select(r.run_pk).where(*where))}
        return found

    def _is_past(self, row: Any, finish: Any, finish_ns: int) -> bool:
        """Return whether all is here that the process said before the finish."""
        if row.writer_id == finish.writer_id and finish.seq is not None and row.last_seq >= finish.seq:
            return True
        offset_ns = self._heads.clock_offset_ns(row.host, row.boot_id)
        if row.last_record_unix_ns + offset_ns > finish_ns + int(BEAT_MARGIN_S * 1e9):
            return True
        head = self._heads.head(row.writer_id)
        if head is None:
            return False
        told_unix_s = self._clock.unix_s() - head.ago_s
        return told_unix_s >= finish.heard_unix_s + BEAT_MARGIN_S and bool(row.last_seq >= head.seq)

    def _last_heard_unix_s(self, teller: Teller) -> float:
        """Return when the process, or the agent of its node, was heard of last."""
        rows = self._store.fetch(
            sa.select(_w.writer_id, _w.last_seen_unix_s)
            .where(_w.role == "node", _w.host == teller.host, _w.boot_id == teller.boot_id)
            .order_by(_w.last_seen_unix_s.desc())
            .limit(3)
        )
        told = [teller.last_seen_unix_s, *(row.last_seen_unix_s for row in rows)]
        for writer_id in (teller.writer_id, *(row.writer_id for row in rows)):
            head = self._heads.head(writer_id)
            if head is not None:
                told.append(self._clock.unix_s() - head.ago_s)
        return float(max(told))
