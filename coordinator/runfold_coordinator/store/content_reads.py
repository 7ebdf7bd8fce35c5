"""Reads of what a run consists of: records, keys, and the counts of what was kept and what was not."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.model import Accounting, DeadLetterRow, GapRow, KeyRow, RecordRow
from runfold_coordinator.store.names import unescape_key
from runfold_coordinator.store.reading import Reading
from runfold_coordinator.store.slices import in_slices


class ContentReads(Reading):
    """Every call sees one committed state."""

    def records(self, run_pk: int, kinds: Collection[int] | None = None) -> list[RecordRow]:
        """Return the run's non-row records, ordered by (writer_pk, seq)."""
        c = t.records.c
        statement = sa.select(c.writer_pk, c.seq, c.t_ns, c.kind, c.flags, c.payload).where(
            c.run_pk == run_pk
        )
        if kinds is not None:
            statement = statement.where(c.kind.in_([int(kind) for kind in kinds]))
        rows = self.fetch(statement.order_by(c.writer_pk, c.seq))
        return [RecordRow(row.writer_pk, row.seq, row.t_ns, row.kind, row.flags, row.payload) for row in rows]

    def gaps(self, run_pk: int) -> list[GapRow]:
        """Return the declared gaps, ordered by (writer_pk, lo)."""
        c = t.gaps.c
        rows = self.fetch(
            sa.select(c.writer_pk, c.lo, c.hi, c.why).where(c.run_pk == run_pk).order_by(c.writer_pk, c.lo)
        )
        return [GapRow(row.writer_pk, row.lo, row.hi, row.why) for row in rows]

    def dead_letters(self, run_pk: int | None, *, limit: int = 100) -> list[DeadLetterRow]:
        """Return dead letters, newest first; with None those that belong to no run."""
        c = t.dead_letters.c
        where = c.run_pk.is_(None) if run_pk is None else c.run_pk == run_pk
        rows = self.fetch(
            sa.select(t.dead_letters).where(where).order_by(c.dead_letter_pk.desc()).limit(limit)
        )
        return [DeadLetterRow(**row._mapping) for row in rows]  # noqa: SLF001 - public in SQLAlchemy's docs

    def keys(self, run_pk: int) -> list[KeyRow]:
        """Return the run's metric keys, ordered by key."""
        rows = self.fetch(
            sa.select(t.keys.c.key_pk, t.keys.c.key, t.run_keys.c.kinds)
            .join(t.run_keys, t.run_keys.c.key_pk == t.keys.c.key_pk)
            .where(t.run_keys.c.run_pk == run_pk)
        )
        found = [KeyRow(row.key_pk, unescape_key(row.key), row.kinds) for row in rows]
        return sorted(found, key=lambda row: row.key)

    def keys_of(self, run_pks: Collection[int]) -> dict[int, dict[str, str]]:
        """Return {key: kinds} of many runs by run_pk, ordered by key."""
        pks = sorted(set(run_pks))
        found: dict[int, dict[str, str]] = {pk: {} for pk in pks}
        c = t.run_keys.c
        for some in in_slices(pks):
            rows = self.fetch(
                sa.select(c.run_pk, t.keys.c.key, c.kinds)
                .join(t.keys, c.key_pk == t.keys.c.key_pk)
                .where(c.run_pk.in_(some))
            )
            for run_pk, key, kinds in rows:
                found[run_pk][unescape_key(key)] = kinds
        return {run_pk: dict(sorted(keys.items())) for run_pk, keys in found.items()}

    def load_fold(self, run_pk: int) -> bytes | None:
        """Return what save_fold() kept; None when there is none, or drop_fold() came after."""
        c = t.run_folds.c
        rows = self.fetch(sa.select(c.state).where(c.run_pk == run_pk, c.stale.is_(False)))
        return bytes(rows[0].state) if rows else None

    def accounting(self, run_pk: int) -> Accounting:
        """Return the counts; they add up at every moment."""
        c = t.writers.c
        said = sa.func.sum(sa.case((c.head_seq > c.last_seq, c.head_seq), else_=c.last_seq))
        (row,) = self.fetch(
            sa.select(
                said, sa.func.sum(c.last_seq), sa.func.sum(c.gap_count), sa.func.sum(c.dead_letter_count)
            ).where(c.run_pk == run_pk)
        )
        acknowledged, settled, gaps, dead = (int(value or 0) for value in row)
        return Accounting(
            acknowledged=acknowledged,
            stored=settled - gaps - dead,
            declared_gaps=gaps,
            dead_letters=dead,
            pending=acknowledged - settled,
        )
