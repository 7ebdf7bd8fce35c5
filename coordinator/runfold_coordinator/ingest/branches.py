"""What rows mean for runs that branch: a base's late rows change its forks, a rewind moves the last step.

In: what a batch stored, inside its transaction. Out: rows of runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol.branching import FORK, REWIND
from runfold_coordinator.aggregate.attempts import place_writers
from runfold_coordinator.ingest.writer_batch import WriterBatch
from runfold_coordinator.readers.branches import load_history
from runfold_coordinator.readers.run_lanes import Seat, facts_of
from runfold_coordinator.readers.visible_top import visible_top
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.branch_tables import branches
from runfold_coordinator.store.catalogue_reads import unpack_stored, writer_row
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: Forks of forks that are told of a late row.
MAX_DEPTH = 32
_ANY = sa.select(branches.c.run_pk).limit(1)


def follow_branches(tx: Transaction, store: Store, works: Sequence[WriterBatch]) -> None:
    """Bring up to date what hangs on the runs of a batch. After the rows, the marks and the projections."""
    if tx.connection.execute(_ANY).first() is None:
        return  # the usual case, for a tenth of the price
    lowest: dict[str, int] = {}
    first_rows: dict[str, int] = {}
    for work in works:
        path = work.mark.run.run_path
        if work.speaks:
            lowest[path] = -1  # definitions and manual values count for forks too
        for chunk in work.chunks:
            first = chunk.encoded.step_min
            lowest[path] = min(first, lowest.get(path, first))
            first_rows[path] = min(first, first_rows.get(path, first))
    run_pks = sorted({work.mark.run.run_pk for work in works})
    c = branches.c
    found = tx.connection.execute(
        sa.select(c.run_pk, c.kind, c.base_path, c.step).where(
            sa.or_(
                sa.and_(c.kind == REWIND, c.run_pk.in_(run_pks)),
                sa.and_(c.kind == FORK, c.base_path.in_(list(lowest))),
            )
        )
    ).all()
    for row in found:
        if row.kind == REWIND:
            _correct_last_step(tx, store, row.run_pk)
    told = {row.run_pk for row in found if row.kind == FORK}
    _begin_where_bases_end(tx, store, {*run_pks, *told}, first_rows)
    forks = {row.run_pk for row in found if row.kind == FORK and lowest[row.base_path] <= row.step}
    if forks:
        touch_forks(tx, forks)


def touch_forks(tx: Transaction, run_pks: Collection[int]) -> None:
    """Give forks, and forks of them, a new version: what they begin with has changed."""
    c, run = branches.c, t.runs.c
    told: set[int] = set()
    wanted = set(run_pks)
    for _ in range(MAX_DEPTH):
        wanted -= told
        if not wanted:
            return
        told |= wanted
        for pks in in_slices(sorted(wanted)):
            tx.connection.execute(
                sa.update(t.runs).where(run.run_pk.in_(pks)).values(version=run.version + 1)
            )
        paths = [
            f"{row.entity}/{row.project}/{row.run_id}"
            for pks in in_slices(sorted(wanted))
            for row in tx.connection.execute(
                sa.select(run.entity, run.project, run.run_id).where(run.run_pk.in_(pks))
            )
        ]
        wanted = {
            run_pk
            for portion in in_slices(paths)
            for run_pk in tx.connection.execute(
                sa.select(c.run_pk).where(c.kind == FORK, c.base_path.in_(portion))
            ).scalars()
        }


def _begin_where_bases_end(
    tx: Transaction, store: Store, forks: Collection[int], first_rows: Mapping[str, int]
) -> None:
    """Let forks that have logged nothing yet, and forks of them, have the last step that they begin with.

    Args:
        first_rows: By path, the lowest step of the runs of this batch: what it brings can't be read yet.
    """
    run, c = t.runs.c, branches.c
    wanted, done = set(forks), set[int]()
    for _ in range(MAX_DEPTH):
        if not wanted:
            return
        done |= wanted
        changed: list[str] = []
        for pks in in_slices(sorted(wanted)):
            found = tx.connection.execute(
                sa.select(c.run_pk, c.base_path, c.step, run.last_step, run.entity, run.project, run.run_id)
                .join(t.runs, run.run_pk == c.run_pk)
                .where(c.kind == FORK, c.run_pk.in_(pks), run.last_step <= c.step)
            ).all()
            changed += [
                f"{row.entity}/{row.project}/{row.run_id}"
                for row in found
                if _begin_where_its_base_ends(tx, store, row, first_rows)
            ]
        above = [
            tx.connection.execute(sa.select(c.run_pk).where(c.kind == FORK, c.base_path.in_(some))).scalars()
            for some in in_slices(changed)
        ]
        wanted = {run_pk for some in above for run_pk in some} - done


def _begin_where_its_base_ends(
    tx: Transaction, store: Store, fork: Any, first_rows: Mapping[str, int]
) -> bool:
    run, c = t.runs.c, branches.c
    back = tx.connection.execute(sa.select(c.step).where(c.run_pk == fork.run_pk, c.kind == REWIND)).scalar()
    end = fork.step if back is None else min(back, fork.step)
    if fork.last_step >= end:
        return False  # a base that goes on would be read with each of its batches
    path = fork.base_path.split("/", 2)  # what is no run id is found nowhere
    entity, project, run_id = path
    base = tx.connection.execute(
        sa.select(run.run_pk, run.last_step).where(
            run.entity == entity, run.project == project, run.run_id == run_id
        )
    ).one_or_none()
    if base is None or base.run_pk == fork.run_pk:
        return False
    last = min(base.last_step, end)
    brings_some = first_rows.get(fork.base_path, end + 1) <= end
    if base.last_step > end and not brings_some:
        known = store.find_run(*path) or store.find_run(*path, deleted=True)
        last = -1 if known is None else visible_top(store, load_history(store, known).until(end).seats)
    changed = tx.connection.execute(
        sa.update(t.runs)
        .where(run.run_pk == fork.run_pk, run.last_step < last)
        .values(last_step=last, version=run.version + 1)
    )
    return bool(changed.rowcount)


def _correct_last_step(tx: Transaction, store: Store, run_pk: int) -> None:
    """Set the last step of a run that was rewound: the highest one that counts."""
    w = t.writers.c
    rows = tx.connection.execute(sa.select(t.writers).where(w.run_pk == run_pk, w.role == "process")).all()
    writers = [writer_row(row, unpack_stored(row.identity)) for row in rows]
    placed = place_writers(
        [facts_of(writer) for writer in writers],
        is_shared=any(writer.mode == "shared" for writer in writers),
    )
    last = visible_top(store, (Seat(writer, placed[writer.writer_pk]) for writer in writers))
    tx.connection.execute(sa.update(t.runs).where(t.runs.c.run_pk == run_pk).values(last_step=last))
