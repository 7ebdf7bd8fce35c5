"""What the verdicts read from the catalogue and write to it: in the ingest thread, so in small portions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from runfold.protocol.evidence import STACK
from runfold.protocol.identity import Identity
from runfold.protocol.keypath import KeyPath, decode_path
from runfold.protocol.values import pack_value
from runfold_coordinator.aggregate.attempts import Placement, WriterFacts, place_writers
from runfold_coordinator.readers.run_lanes import branch_of, counter_of, machine_of
from runfold_coordinator.states import TERMINAL
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.model import Cells
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: Identities unpacked at once: they come with data, but for those of writers that were there before.
UNPACKED_AT_ONCE = 150
#: Longest value of runs.verdicts.
MAX_BYTES = 1024 * 1024
MAX_WRITERS = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """What a writer said of itself. `facts` lack what its rows tell."""

    facts: WriterFacts
    host: str | None
    is_shared: bool

    @property
    def rank(self) -> int | None:
        """The launcher's rank; None where unknown."""
        return self.facts.rank

    @classmethod
    def from_identity(cls, writer_pk: int, writer_id: str, said: Mapping[str, Any]) -> Known:
        """Take an identity map; {} where it was lost."""
        launcher, host = said.get("launcher") or {}, said.get("host")
        facts = WriterFacts(
            writer_pk=writer_pk,
            writer_id=writer_id,
            rank=said.get("rank"),
            started_unix_ns=0,
            primary=said.get("primary"),
            label=said.get("label"),
            job_id=launcher.get("job_id"),
            restart_hint=launcher.get("restart_hint"),
            launcher=counter_of(
                launcher.get("source"), launcher.get("launcher_pid"), launcher.get("launcher_start"), host
            ),
            machine=machine_of(host, said.get("boot_id")),
            start_step=said.get("start_step") or 0,
            forked_from=said.get("forked_from"),
            branch=branch_of(said),
        )
        return cls(facts, host, said.get("mode") == "shared")

    @classmethod
    def from_record(cls, writer_pk: int, writer_id: str, said: Identity) -> Known:
        """Take an identity as it came."""
        launcher = said.launcher
        facts = WriterFacts(
            writer_pk=writer_pk,
            writer_id=writer_id,
            rank=said.rank,
            started_unix_ns=0,
            primary=said.primary,
            label=said.label,
            job_id=launcher.job_id,
            restart_hint=launcher.restart_hint,
            launcher=counter_of(launcher.source, launcher.launcher_pid, launcher.launcher_start, said.host),
            machine=machine_of(said.host, said.boot_id),
            start_step=said.start_step,
            forked_from=said.forked_from,
            branch=said.branch,
        )
        return cls(facts, said.host, said.mode == "shared")


@dataclass(frozen=True, slots=True)
class Change:
    """New verdicts of a run. `flags`: writers.stalled by writer_pk, where that changed."""

    run_pk: int
    verdicts: dict[str, Any]
    flags: dict[int, bool]
    is_stalled: bool


class VerdictCatalogue:
    """The rows of one partition's runs and writers, as the verdicts need them."""

    def __init__(self, store: Store, partition: int) -> None:
        self._store = store
        self._partition = partition
        #: Raises FencedError where the partition is another's by now.
        self.check_owner: Callable[[Transaction], object] = lambda _tx: None

    def run(self, run_pk: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the verdicts and the metric definitions of a run."""
        c = t.runs.c
        rows = self._store.fetch(sa.select(c.verdicts, c.projection).where(c.run_pk == run_pk))
        if not rows:
            return {}, []
        return unpack_stored(rows[0].verdicts), list(
            unpack_stored(rows[0].projection).get("definitions") or ()
        )

    def open_writers(self) -> Sequence[Any]:
        """Return the writers that go on, the newest of them."""
        c = t.writers.c
        columns = (c.writer_id, c.writer_pk, c.run_pk, c.last_seq, c.stalled)
        steps = (c.given_step_max, c.auto_step_max)
        return self._store.fetch(
            sa.select(*columns, *steps)
            .where(c.partition == self._partition, c.role == "process", c.state.not_in(sorted(TERMINAL)))
            .order_by(c.writer_pk.desc())
            .limit(MAX_WRITERS)
        )

    def clear_ended(self) -> None:
        """Take the flag from those that ended while no coordinator was there."""
        c, r = t.writers.c, t.runs.c
        of_ended = sa.and_(c.partition == self._partition, c.stalled, c.state.in_(sorted(TERMINAL)))
        rows = self._store.fetch(sa.select(c.writer_pk, c.run_pk).where(of_ended))
        if not rows:
            return
        with self._store.writing.transaction() as tx:
            self.check_owner(tx)
            tx.update_by_pk(t.writers, [{"writer_pk": row.writer_pk, "stalled": False} for row in rows])
            still = sa.select(c.run_pk).where(c.stalled)
            tx.connection.execute(
                sa.update(t.runs)
                .where(r.run_pk.in_({row.run_pk for row in rows}), r.run_pk.not_in(still))
                .values(stalled=False, version=r.version + 1)
            )

    def place(self, run_pk: int, known: dict[str, Known]) -> dict[str, Placement] | None:
        """Return where the run's writers stand; add to `known` those that were there before.

        Returns:
            None: there are more of them, and the next call goes on.
        """
        c = t.writers.c
        columns = (c.writer_pk, c.writer_id, c.started_unix_ns, c.last_record_unix_ns, c.exit)
        steps = (c.given_step_min, c.given_step_max, c.auto_step_max)
        rows = self._store.fetch(sa.select(*columns, *steps).where(c.run_pk == run_pk, c.role == "process"))
        unknown = [row.writer_id for row in rows if row.writer_id not in known]
        self._learn(known, unknown[:UNPACKED_AT_ONCE])
        if len(unknown) > UNPACKED_AT_ONCE:
            return None
        facts = [_facts(known[row.writer_id].facts, row) for row in rows]
        is_shared = any(known[row.writer_id].is_shared for row in rows)
        placed = place_writers(facts, is_shared=is_shared)
        return {fact.writer_id: placed[fact.writer_pk] for fact in facts}

    def _learn(self, known: dict[str, Known], writer_ids: Sequence[str]) -> None:
        c = t.writers.c
        if writer_ids:
            statement = sa.select(c.writer_id, c.writer_pk, c.identity).where(c.writer_id.in_(writer_ids))
            for row in self._store.fetch(statement):
                said = unpack_stored(row.identity)
                known[row.writer_id] = Known.from_identity(row.writer_pk, row.writer_id, said)

    def states(self, run_pk: int) -> Sequence[Any]:
        """Return writer_id, state, reason and unreachable of the run's writers."""
        c = t.writers.c
        columns = (c.writer_id, c.state, c.reason, c.unreachable)
        return self._store.fetch(sa.select(*columns).where(c.run_pk == run_pk, c.role == "process"))

    def stacks(self, writer_ids: Collection[str], since_unix_s: float) -> Iterator[tuple[str, str, str]]:
        """Yield (writer id, tool, text) of the stacks that came, oldest first."""
        c = t.evidence.c
        rows = self._store.fetch(
            sa.select(c.writer_id, c.facts)
            .where(c.writer_id.in_(sorted(writer_ids)), c.source == STACK, c.t_ns >= int(since_unix_s * 1e9))
            .order_by(c.t_ns)
        )
        for row in rows:
            facts = unpack_stored(row.facts)
            yield row.writer_id, str(facts.get("tool") or ""), str(facts.get("text") or "")

    def first_step(self, run_pk: int) -> int:
        """Return a step below which no writer of the run has a row."""
        c = t.writers.c
        ((given, counted),) = self._store.fetch(
            sa.select(sa.func.min(c.given_step_min), sa.func.min(c.auto_step_min)).where(c.run_pk == run_pk)
        )
        return min((int(step) for step in (given, counted) if step is not None), default=0)

    def keys(self, run_pk: int) -> list[tuple[str, KeyPath]]:
        """Return the keys of a run and their paths."""
        return [(row.key, decode_path(row.key)) for row in self._store.keys(run_pk)]

    def cells(
        self, run_pk: int, key: str, writer_pks: Collection[int], low: int, high: int | None
    ) -> Iterator[Cells]:
        """Yield the values of a key at the writers' steps low..high, both included."""
        return self._store.read_cells(
            run_pk, key, writer_pks=writer_pks, step_min=low, step_max=high, times=False
        )

    def write(self, changes: Sequence[Change]) -> None:
        """Write what changed, in one transaction."""
        if not changes:
            return
        c = t.runs.c
        with self._store.writing.transaction() as tx:
            self.check_owner(tx)
            for run in changes:
                flags = [{"writer_pk": pk, "stalled": is_on} for pk, is_on in run.flags.items()]
                tx.update_by_pk(t.writers, flags)
                tx.touch(run.run_pk)
                tx.connection.execute(
                    sa.update(t.runs)
                    .where(c.run_pk == run.run_pk)
                    .values(
                        verdicts=pack_value(run.verdicts, max_bytes=MAX_BYTES),
                        stalled=run.is_stalled,
                        version=c.version + 1,
                    )
                )


def _facts(said: WriterFacts, row: Any) -> WriterFacts:
    """Return what attempts are made from: what a writer said, and what its rows told since."""
    tops = [step for step in (row.given_step_max, row.auto_step_max) if step is not None]
    return WriterFacts(
        writer_pk=said.writer_pk,
        writer_id=said.writer_id,
        rank=said.rank,
        started_unix_ns=row.started_unix_ns,
        primary=said.primary,
        label=said.label,
        job_id=said.job_id,
        restart_hint=said.restart_hint,
        launcher=said.launcher,
        machine=said.machine,
        last_record_unix_ns=row.last_record_unix_ns,
        start_step=said.start_step,
        forked_from=said.forked_from,
        branch=said.branch,
        # Asked only of writers without a rank, and it costs.
        is_finished=said.rank is None and row.exit is not None and unpack_stored(row.exit).get("code") == 0,
        given_step_min=row.given_step_min,
        step_max=max(tops, default=None),
    )
