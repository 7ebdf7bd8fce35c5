"""Requests to stop: kept as evidence when asked for, told to agents until the processes have ended.

In: a run, a grace, who asked. Out: STOP evidence of each process that may still live, and for each partition
what its agents are to be told. The evidence is the truth: after a restart the open requests are read from it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from runfold.protocol.evidence import STOP
from runfold.protocol.streams import StopRequest, stop_field
from runfold.protocol.values import pack_value
from runfold_coordinator.clock import Clock
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.model import RunRow, WriterRow
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

#: Longest text about who asked, in characters.
MAX_BY_CHARS = 200
#: A process that nobody heard of for longer is no more looked for: its node has been away for a week.
WATCH_LOST_S = 7 * 86400.0
#: While requests are open, it is looked this often which processes have ended.
REFRESH_EVERY_S = 0.5
#: A request that shortens what is left by less than this, or by less than a 20th, changes nothing: the number
#: of requests of one process stays bounded.
LEAST_SHORTENED_S = 0.1
#: Begins the ident of evidence of requests that came through the gate. What agents send has digests there:
#: nobody can have processes stopped by sending evidence of a request.
ASKED_HERE = "asked:"


class NothingToStopError(Exception):
    """Every process that was meant has ended; the message says how."""


class NoSuchRankError(Exception):
    """The run never had a process of this rank."""


@dataclass(frozen=True, slots=True)
class Told:
    """What agents of one partition are told. The same object as long as nothing changed."""

    #: Names the set; b"" while it is empty.
    mark: bytes = b""
    #: By name of the downlink's field.
    fields: dict[bytes, bytes] = field(default_factory=dict)


NOTHING_TOLD = Told()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was taken."""

    request: StopRequest
    writers: tuple[WriterRow, ...]
    #: False: the same, or a stricter one, was asked for before.
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """A request in force for one writer."""

    request: StopRequest
    #: Unix seconds by which the process is to be gone, as seen from here.
    deadline_unix_s: float


class Stops:
    """The open stop requests of all partitions. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        #: One request at a time is compared with those in force, stored, and taken.
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        #: By partition and writer id (hex).
        self._open: dict[int, dict[str, _Open]] = {}
        self._told: dict[int, Told] = {}
        self._refresh_s: dict[int, float] = {}

    def load(self) -> None:
        """Read the open requests from the evidence; call before agents are told anything."""
        c, e = t.writers.c, t.evidence.c
        rows = self._store.fetch(
            sa.select(e.writer_id, e.t_ns, e.facts, c.partition)
            .join(t.writers, c.writer_id == e.writer_id)
            .where(e.source == STOP, e.ident.startswith(ASKED_HERE), self._may_live())
        )
        with self._lock:
            for row in rows:
                request = StopRequest.from_map(unpack_stored(row.facts))
                known = self._open.get(row.partition, {}).get(row.writer_id)
                # Each was stricter than those before it when it was stored: the strictest is the newest.
                found = _Open(request, row.t_ns / 1e9 + request.grace_s)
                if known is None or _strictness(found) > _strictness(known):
                    self._open.setdefault(row.partition, {})[row.writer_id] = found
            self._tell(list(self._open))

    def ask(self, run: RunRow, *, grace_s: float, by: str, ranks: Collection[int] | None = None) -> Asked:
        """Ask the run's processes to end, or only those of some ranks; return who was asked.

        A request that is less strict than the one in force changes nothing and is answered with that one;
        a shorter grace shortens it.

        Raises:
            NothingToStopError: All of them have ended.
            NoSuchRankError: A rank that no process of the run has.
            StoreUnavailableError: Not known to be kept; asking again is safe.
        """
        writers = self._store.writers(run.run_pk)
        chosen = _of_ranks(writers, ranks)
        alive = [writer for writer in chosen if _may_live_row(writer, self._clock.unix_s())]
        if not alive:
            raise NothingToStopError(_why_nothing(run, chosen, ranks))
        request = StopRequest(secrets.token_hex(8), clean_by(by), float(grace_s), is_whole=ranks is None)
        with self._asking:
            return self._ask(request, alive)

    def _ask(self, request: StopRequest, alive: Sequence[WriterRow]) -> Asked:
        now_s = self._clock.unix_s()
        with self._store.writing.transaction() as tx:
            partitions = _partitions(tx.connection, [writer.writer_id for writer in alive])
            with self._lock:
                known = {w: self._open.get(partition, {}).get(w) for w, partition in partitions.items()}
            new = {w: found for w in partitions if (found := _stricter(known[w], request, now_s)) is not None}
            tx.insert_new(t.evidence, [_row(writer_id, found, now_s) for writer_id, found in new.items()])
        with self._lock:
            for writer_id, found in new.items():
                self._take(partitions[writer_id], writer_id, found, now_s)
            self._tell({partitions[writer_id] for writer_id in new})
        if new:
            answered = replace(request, grace_s=min(found.grace_s for found in new.values()))
        else:
            answered = next(found.request for found in known.values() if found is not None)
        return Asked(answered, tuple(alive), is_new=bool(new))

    def told(self, partition: int) -> Told:
        """Return what the agents of a partition are to be told, less what has ended by now.

        Raises:
            StoreUnavailableError: It can't be seen who has ended.
        """
        if self._open.get(partition) and self._clock.mono_s() >= self._refresh_s.get(partition, -1e9):
            self._refresh_s[partition] = self._clock.mono_s() + REFRESH_EVERY_S
            self.refresh(partition)
        return self._told.get(partition, NOTHING_TOLD)

    def of_writers(self, writer_ids: Iterable[str]) -> dict[str, StopRequest]:
        """Return the requests in force for these writers."""
        with self._lock:
            return {
                writer_id: found.request
                for writer_id in writer_ids
                for by_writer in self._open.values()
                if (found := by_writer.get(writer_id)) is not None
            }

    def refresh(self, partition: int) -> None:
        """Let go of requests whose processes have ended. Costs nothing while there are none."""
        with self._lock:
            ids = sorted(self._open.get(partition, ()))
        if not ids:
            return
        alive: set[str] = set()
        c = t.writers.c
        for some in in_slices(ids):
            rows = self._store.fetch(sa.select(c.writer_id).where(c.writer_id.in_(some), self._may_live()))
            alive |= {row.writer_id for row in rows}
        ended = [writer_id for writer_id in ids if writer_id not in alive]
        if ended:
            with self._lock:
                for writer_id in ended:
                    self._open[partition].pop(writer_id, None)
                self._tell([partition])

    def _may_live(self) -> sa.ColumnElement[bool]:
        """Condition on writers that have not ended for certain: silence alone ends nobody."""
        c = t.writers.c
        since_s = self._clock.unix_s() - WATCH_LOST_S
        is_lost = sa.and_(c.unreachable, c.last_seen_unix_s > since_s)
        return sa.and_(c.role == "process", sa.or_(c.state.not_in(sorted(TERMINAL)), is_lost))

    def _take(self, partition: int, writer_id: str, request: StopRequest, asked_unix_s: float) -> None:
        self._open.setdefault(partition, {})[writer_id] = _Open(request, asked_unix_s + request.grace_s)

    def _tell(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            fields = {
                stop_field(bytes.fromhex(writer_id)): found.request.pack()
                for writer_id, found in sorted(self._open.get(partition, {}).items())
            }
            digest = hashlib.sha256(b"".join(part for pair in fields.items() for part in pair))
            mark = digest.hexdigest()[:16].encode() if fields else b""
            self._told[partition] = Told(mark, fields)


def clean_by(text: str) -> str:
    """Return who asked, printable and not long."""
    shown = "".join(char if char.isprintable() else " " for char in clean_text(text[: 2 * MAX_BY_CHARS]))
    return " ".join(shown.split())[:MAX_BY_CHARS]


def _stricter(known: _Open | None, new: StopRequest, now_s: float) -> StopRequest | None:
    """Return the new request, not milder than the one in force; None where it adds nothing."""
    if known is None:
        return new
    left_s = max(0.0, known.deadline_unix_s - now_s)
    is_wider = new.is_whole and not known.request.is_whole
    if new.grace_s > left_s - max(LEAST_SHORTENED_S, left_s / 20) and not is_wider:
        return None
    return replace(new, grace_s=min(new.grace_s, left_s), is_whole=new.is_whole or known.request.is_whole)


def _strictness(found: _Open) -> tuple[bool, float]:
    return found.request.is_whole, -found.deadline_unix_s


def _row(writer_id: str, request: StopRequest, now_s: float) -> dict[str, Any]:
    return {
        "writer_id": writer_id,
        "source": STOP,
        "ident": ASKED_HERE + request.request,
        "t_ns": int(now_s * 1e9),
        "received_unix_s": now_s,
        "facts": pack_value(request.to_map()),
        "is_fresh": True,
    }


def _partitions(connection: sa.Connection, writer_ids: Sequence[str]) -> dict[str, int]:
    c = t.writers.c
    found: dict[str, int] = {}
    for ids in in_slices(writer_ids):
        rows = connection.execute(sa.select(c.writer_id, c.partition).where(c.writer_id.in_(ids)))
        found |= {row.writer_id: row.partition for row in rows}
    return found


def _of_ranks(writers: Sequence[WriterRow], ranks: Collection[int] | None) -> list[WriterRow]:
    if ranks is None:
        return list(writers)
    unknown = sorted(set(ranks) - {writer.rank for writer in writers if writer.rank is not None})
    if unknown:
        raise NoSuchRankError(f"the run has no rank {unknown[0]}")
    return [writer for writer in writers if writer.rank in set(ranks)]


def _may_live_row(writer: WriterRow, now_s: float) -> bool:
    is_lost = writer.unreachable and writer.last_seen_unix_s > now_s - WATCH_LOST_S
    return writer.state not in TERMINAL or is_lost


def _why_nothing(run: RunRow, chosen: Sequence[WriterRow], ranks: Collection[int] | None) -> str:
    if ranks is not None:
        states = ", ".join(f"rank {writer.rank} {writer.state}" for writer in chosen[:5])
        return f"these processes have ended already: {states}"
    if not chosen:
        return "the run has no process that could be stopped"
    return f"the run has ended already: {run.state}" + (f" ({run.reason})" if run.reason else "")
