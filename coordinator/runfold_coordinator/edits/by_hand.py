"""Where processes said something of the summary by hand, by path: read on from where it stopped last time.

In: a run. Out: for each path and writer the newest place, by seq and by time. A script that sets a value in
each step says so a million times; who asks whether an edit still stands must not read all of it again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from runfold.protocol.errors import ProtocolError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.records import RecordKind, SummaryRecord
from runfold_coordinator.edits.said import Place
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store

#: Runs of which the places are kept.
CACHED_RUNS = 256


@dataclass(slots=True)
class _Run:
    #: Records that were said before are of no interest: no edit is older. Unix ns, by the writer's clock.
    since_ns: int
    #: Highest seq looked at, by writer_pk.
    seen: dict[int, int] = field(default_factory=dict)
    #: By first part of the path, path and writer_pk: the places with the highest seq and the newest time.
    places: dict[str, dict[tuple[KeyPath, int], tuple[Place, Place]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class SaidByHand:
    """Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._runs: OrderedDict[int, _Run] = OrderedDict()

    def places(
        self, run_pk: int, last_seqs: Mapping[int, int], since_ns: int, first_part: str
    ) -> list[tuple[KeyPath, Place, int]]:
        """Return (path, place, writer_pk) of what was said of paths that begin with `first_part`.

        Args:
            last_seqs: By writer_pk, up to which seq its records are stored.
            since_ns: What was said before may be left out.
        """
        with self._lock:
            run = self._runs.get(run_pk)
            if run is None or since_ns < run.since_ns:
                run = self._runs[run_pk] = _Run(since_ns)
            self._runs.move_to_end(run_pk)
            while len(self._runs) > CACHED_RUNS:
                self._runs.popitem(last=False)
        with run.lock:
            self._catch_up(run_pk, run, last_seqs)
            found = run.places.get(first_part, {})
            return [(path, place, pk) for (path, pk), both in found.items() for place in dict.fromkeys(both)]

    def _catch_up(self, run_pk: int, run: _Run, last_seqs: Mapping[int, int]) -> None:
        behind = {pk: run.seen.get(pk, 0) for pk, seq in last_seqs.items() if seq > run.seen.get(pk, 0)}
        if not behind:
            return
        c = t.records.c
        rows = self._store.fetch(
            sa.select(c.writer_pk, c.seq, c.t_ns, c.payload).where(
                c.run_pk == run_pk,
                c.kind == int(RecordKind.SUMMARY),
                c.seq > min(behind.values()),
                c.t_ns > run.since_ns,
            )
        )
        for row in rows:
            # What was stored after `last_seqs` was read comes with the next question.
            if behind.get(row.writer_pk, row.seq) < row.seq <= last_seqs.get(row.writer_pk, 0):
                place = Place(row.seq, row.t_ns)
                for path in _paths(bytes(row.payload)):
                    places = run.places.setdefault(path[0], {})
                    newest, latest = places.get((path, row.writer_pk), (place, place))
                    places[path, row.writer_pk] = (
                        max(newest, place, key=lambda found: found.seq),
                        max(latest, place, key=lambda found: found.t_ns),
                    )
        run.seen.update({pk: last_seqs[pk] for pk in behind})


def _paths(payload: bytes) -> Iterator[KeyPath]:
    try:
        changes = SummaryRecord.unpack(payload).changes
    except ProtocolError:
        return  # ingest keeps it as a dead letter
    for change in changes:
        yield tuple(change[1])
