"""The table of evidence: what was seen of processes, kept once however often it comes, bounded per writer.

In: evidence from data, control messages and requests. Out: a Testimony of each writer of a run to be judged.
A row is fresh until the board of its writer's partition has judged it: others may write, one judges.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from runfold.protocol import evidence as e
from runfold.protocol.errors import ProtocolError
from runfold.protocol.evidence import Evidence
from runfold.protocol.limits import MAX_TRACEBACK_BYTES
from runfold.protocol.values import pack_value
from runfold_coordinator.states.testimony import Testimony, gather_testimony
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

#: Rows kept of one writer and source, the newest; sources that this version does not know count as one.
MAX_PER_SOURCE = 32
#: Largest facts as stored, bytes; texts in them are cut first.
MAX_FACTS_BYTES = 192 * 1024
#: Characters of a source and of an ident.
_MAX_NAME_CHARS = 64
#: Testimonies kept in memory.
CACHED = 20_000
_MAX_TIME_NS = 2**63 - 1
#: (writer id, source, ident)
_Key = tuple[str, str, str]


class EvidenceTable:
    """Evidence of one partition's writers. Not thread-safe: for transactions of one thread."""

    def __init__(self) -> None:
        self._cache: OrderedDict[str, Testimony] = OrderedDict()
        #: Evidence that could not be kept as it was: of no shape, or words that are another's to say.
        self.refused_count = 0

    def forget(self) -> None:
        """After a rollback."""
        self._cache.clear()

    def add(self, tx: Transaction, evidence: Iterable[Evidence], received_unix_s: float) -> None:
        """Keep what is new; of what is known already, the earliest time. Writers need not be known yet."""
        rows: dict[_Key, dict[str, Any]] = {}
        for one in evidence:
            try:
                row = _to_row(one, received_unix_s)
            except (ProtocolError, TypeError, ValueError):
                self.refused_count += 1
                continue
            key: _Key = (row["writer_id"], row["source"], row["ident"])
            if key not in rows or row["t_ns"] < rows[key]["t_ns"]:
                rows[key] = row
        if not rows:
            return
        # In one order: two transactions that meet in the same rows must not wait for each other.
        _upsert(tx, [rows[key] for key in sorted(_newest(rows))])
        self._bound(tx, sorted({writer_id for writer_id, _, _ in rows}))

    def claim(self, tx: Transaction, run_pk: int) -> None:
        """Take the fresh evidence about a run's writers as judged; call before `testimonies`."""
        c = t.evidence.c
        of_run = sa.select(t.writers.c.writer_id).where(t.writers.c.run_pk == run_pk)
        claimed = tx.connection.execute(
            sa.update(t.evidence)
            .where(c.is_fresh, c.writer_id.in_(of_run))
            .values(is_fresh=False)
            .returning(c.writer_id)
        )
        for writer_id in claimed.scalars():
            self._cache.pop(writer_id, None)

    def testimonies(self, connection: sa.Connection, writer_ids: Collection[str]) -> Mapping[str, Testimony]:
        """Return what the evidence says of each of these writers."""
        missing = sorted(writer_id for writer_id in writer_ids if writer_id not in self._cache)
        if len(self._cache) + len(missing) > CACHED:
            self._cache.clear()
            missing = sorted(writer_ids)
        for ids in in_slices(missing):
            found: dict[str, list[Evidence]] = {writer_id: [] for writer_id in ids}
            for row in connection.execute(sa.select(t.evidence).where(t.evidence.c.writer_id.in_(ids))):
                found[row.writer_id].append(_from_row(row))
            for writer_id, evidence in found.items():
                self._cache[writer_id] = gather_testimony(evidence)
        return {writer_id: self._cache[writer_id] for writer_id in writer_ids}

    def _bound(self, tx: Transaction, writer_ids: Sequence[str]) -> None:
        c = t.evidence.c
        for some in in_slices(writer_ids):
            counted: Counter[tuple[str, str]] = Counter()
            counts = tx.connection.execute(
                sa.select(c.writer_id, c.source, sa.func.count().label("n"))
                .where(c.writer_id.in_(some))
                .group_by(c.writer_id, c.source)
            )
            for row in counts:
                counted[row.writer_id, _class_of(row.source)] += row.n
            for (writer_id, source), count in counted.items():
                if count > MAX_PER_SOURCE:
                    _drop_oldest(tx, writer_id, source)


def fresh_runs(connection: sa.Connection, partition: int) -> set[int]:
    """Return the runs of a partition about whose processes there is evidence that was not judged."""
    c, w = t.evidence.c, t.writers.c
    rows = connection.execute(
        sa.select(w.run_pk)
        .join(t.evidence, c.writer_id == w.writer_id)
        .where(c.is_fresh, w.partition == partition, w.role == "process")
        .distinct()
    )
    return set(rows.scalars())


def elastic_traceback(connection: sa.Connection, writer_id: str) -> str | None:
    """Return the traceback of torchelastic's error file, for a process that left no record of its end."""
    c = t.evidence.c
    for row in connection.execute(
        sa.select(t.evidence).where(c.writer_id == writer_id, c.source == e.ELASTIC).order_by(c.t_ns)
    ):
        traceback = _from_row(row).facts.get("traceback")
        if isinstance(traceback, str) and traceback:
            return traceback
    return None


def _upsert(tx: Transaction, rows: list[dict[str, Any]]) -> None:
    is_postgres = tx.connection.dialect.name == "postgresql"
    insert = (postgresql.insert if is_postgres else sqlite.insert)(t.evidence)
    tx.connection.execute(
        insert.on_conflict_do_update(
            index_elements=["writer_id", "source", "ident"],
            set_={"t_ns": insert.excluded.t_ns, "is_fresh": True},
            where=insert.excluded.t_ns < t.evidence.c.t_ns,
        ),
        rows,
    )


def _class_of(source: str) -> str:
    """Return what is bounded together."""
    return source if source in e.SOURCES else ""


def _age(key: _Key, t_ns: int) -> tuple[bool, int, str, str]:
    """Return a key that sorts what goes first before what stays: our own words and requests, which have a
    colon in their ident, stay before what is sent to us.
    """
    _writer_id, source, ident = key
    return (":" in ident, t_ns, source, ident)


def _newest(rows: Mapping[_Key, dict[str, Any]]) -> list[_Key]:
    """Return the keys of those rows that have a chance to stay."""
    by_class: dict[tuple[str, str], list[_Key]] = {}
    for key in rows:
        by_class.setdefault((key[0], _class_of(key[1])), []).append(key)
    kept: list[_Key] = []
    for keys in by_class.values():
        kept += sorted(keys, key=lambda key: _age(key, rows[key]["t_ns"]))[-MAX_PER_SOURCE:]
    return kept


def _drop_oldest(tx: Transaction, writer_id: str, source: str) -> None:
    c = t.evidence.c
    of_source = c.source == source if source else c.source.not_in(sorted(e.SOURCES))
    rows = tx.connection.execute(
        sa.select(c.source, c.ident, c.t_ns).where(c.writer_id == writer_id, of_source)
    ).all()
    rows = sorted(rows, key=lambda row: _age((writer_id, row.source, row.ident), row.t_ns))
    for row in rows[:-MAX_PER_SOURCE]:
        tx.connection.execute(
            sa.delete(t.evidence).where(
                c.writer_id == writer_id, c.source == row.source, c.ident == row.ident
            )
        )


def _to_row(one: Evidence, received_unix_s: float) -> dict[str, Any]:
    writer, source, ident = one.key
    return {
        "writer_id": writer.hex(),
        "source": clean_text(source)[:_MAX_NAME_CHARS],
        "ident": clean_text(ident)[:_MAX_NAME_CHARS],
        "t_ns": min(max(one.t_ns, 0), _MAX_TIME_NS),
        "received_unix_s": received_unix_s,
        "facts": _pack_facts(one.facts),
        "is_fresh": True,
    }


def _from_row(row: Any) -> Evidence:
    facts = unpack_stored(row.facts)
    said = facts if isinstance(facts, dict) else {}
    return Evidence(bytes.fromhex(row.writer_id), row.source, row.t_ns, said, row.ident)


def _pack_facts(facts: Mapping[str, Any]) -> bytes:
    """Return the facts packed; long texts lose their middle, and what is still too large goes."""
    found = {name: _cut(value, MAX_TRACEBACK_BYTES) for name, value in facts.items()}
    packed = pack_value(found)
    if len(packed) <= MAX_FACTS_BYTES:
        return packed
    plain = (str, int, float, bool, type(None))
    kept = [
        (name[:_MAX_NAME_CHARS], _cut(value, 1000))
        for name, value in found.items()
        if isinstance(value, plain)
    ]
    return pack_value({**dict(kept[:64]), "is_cut": True})


def _cut(value: Any, chars: int) -> Any:
    if not isinstance(value, str) or len(value) <= chars:
        return value
    half = chars // 2 - 8
    return f"{value[:half]}\n  [...]\n{value[-half:]}"
