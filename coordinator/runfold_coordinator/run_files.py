"""Files of runs: a name in a run, and the blob that is its content now. In: what was uploaded; out: rows.

A row is written only while its blob is held, so that it never points to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from runfold.protocol.file_names import FileNameError, check_file_name
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.clock import Clock
from runfold_coordinator.store.file_tables import blobs as b
from runfold_coordinator.store.file_tables import run_files as f
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: Files of one run.
MAX_FILES_PER_RUN = 1_000_000
#: What is kept of the kind that a client says a file is.
MAX_MIMETYPE_CHARS = 255
#: What is kept of the reason why a file will never come.
MAX_ERROR_CHARS = 2000

#: stored: it is what was sent; unchanged: it was that before; older: a later one is kept; refused: see why.
Outcome = Literal["stored", "unchanged", "older", "refused"]


class MissingBlobsError(Exception):
    """Nothing was stored: these blobs have to be sent before."""

    def __init__(self, digests: Sequence[str]) -> None:
        self.digests = list(digests)
        super().__init__(f"{len(self.digests)} blobs are not here, the first is {self.digests[0]}")


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file as its sender tells of it; times in Unix seconds (see store/file_tables.py)."""

    name: str
    sha256: str
    mimetype: str | None = None
    modified_unix_s: float | None = None
    taken_unix_s: float | None = None
    writer_id: str | None = None
    policy: str = "now"
    what: str = "file"


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file that will never come, as who should have sent it tells; times in Unix seconds.

    Attributes:
        taken_unix_s: When it was saved: what was taken later stays.
        failed_unix_s: When it was given up: who says it again after that means to send it anew.
    """

    name: str
    error: str
    taken_unix_s: float
    failed_unix_s: float
    writer_id: str | None = None
    policy: str = "now"
    what: str = "file"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a file that was sent."""

    name: str
    outcome: Outcome
    why: str | None = None


@dataclass(slots=True)
class _Plan:
    new: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


class RunFiles:
    """Writes the files of runs. Thread-safe."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock

    def put(self, run_pk: int, sent: Sequence[SentFile]) -> list[Result]:
        """Store files whose blobs are here; again changes nothing. Of one name the later taken stays.

        Raises:
            MissingBlobsError: Some are not; nothing was stored.
            StoreUnavailableError: Not known to be stored; doing it again is safe.
        """
        refused = [Result(each.name, "refused", why) for each in sent if (why := _complaint(each.name))]
        fine = [each for each in sent if not _complaint(each.name)]
        good = {each.name: each for each in sorted(fine, key=_taken)}
        if not good:
            return refused
        with self._store.writing.transaction() as tx:
            missing = self._blobs.hold(tx, [each.sha256 for each in good.values()])
            if missing:
                raise MissingBlobsError(missing)
            plan = self._plan(tx, run_pk, good)
            tx.insert(f, plan.new)
            for values in plan.changed:
                tx.connection.execute(
                    sa.update(f).where(f.c.run_pk == run_pk, f.c.name == values["name"]).values(values)
                )
        return [*plan.results, *refused]

    def give_up(self, run_pk: int, lost: Sequence[LostFile]) -> int:
        """Note why files will never come; return of how many. Again changes nothing.

        What a later upload brought stays as it is, and a name that no file may have is passed over.

        Raises:
            StoreUnavailableError: Not known to be noted; doing it again is safe.
        """
        told = {each.name: each for each in lost if _complaint(each.name) is None}
        with self._store.writing.transaction() as tx:
            known = _known(tx, run_pk, told)
            new, noted = [], 0
            room = MAX_FILES_PER_RUN - (_count(tx, run_pk) if len(known) < len(told) else 0)
            for name, each in told.items():
                values = {
                    "error": clean_text(each.error)[:MAX_ERROR_CHARS],
                    "failed_unix_s": each.failed_unix_s,
                }
                row = known.get(name)
                if row is None:
                    about = {"writer_id": each.writer_id, "policy": each.policy, "what": each.what}
                    new.append({"run_pk": run_pk, "name": name, **about, **values})
                elif row.taken_unix_s is None or row.taken_unix_s <= each.taken_unix_s:
                    tx.connection.execute(
                        sa.update(f).where(f.c.run_pk == run_pk, f.c.name == name).values(values)
                    )
                    noted += 1
            tx.insert(f, new[: max(0, room)])
            return noted + len(new[: max(0, room)])

    def delete(self, run_pk: int, name: str) -> bool:
        """Forget a file; return whether there was one. Its blob goes later, if nobody else refers to it."""
        with self._store.writing.transaction() as tx:
            return bool(
                tx.connection.execute(sa.delete(f).where(f.c.run_pk == run_pk, f.c.name == name)).rowcount
            )

    def roots(self) -> Iterator[str]:
        """Yield the digests that files refer to."""
        after = ""
        while True:
            rows = self._store.fetch(
                sa.select(f.c.sha256).distinct().where(f.c.sha256 > after).order_by(f.c.sha256).limit(10_000)
            )
            yield from (row.sha256 for row in rows)
            if not rows:
                return
            after = rows[-1].sha256

    def _plan(self, tx: Transaction, run_pk: int, sent: dict[str, SentFile]) -> _Plan:
        known = _known(tx, run_pk, sent)
        sizes = _sizes(tx, [each.sha256 for each in sent.values()])
        room = MAX_FILES_PER_RUN
        if len(known) < len(sent):
            room -= _count(tx, run_pk)
        plan, now_s = _Plan(), self._clock.unix_s()
        for name, each in sent.items():
            taken_s = now_s if each.taken_unix_s is None else each.taken_unix_s
            row = known.get(name)
            values = {
                "name": name,
                "sha256": each.sha256,
                "size": sizes[each.sha256],
                "mimetype": _text(each.mimetype),
                "modified_unix_s": each.modified_unix_s,
                "taken_unix_s": taken_s,
                "stored_unix_s": now_s,
                "writer_id": each.writer_id,
                "policy": each.policy,
                "what": each.what,
                "error": None,
                "failed_unix_s": None,
            }
            outcome: Outcome = "stored"
            if row is None and len(plan.new) >= room:
                why = f"the run has {MAX_FILES_PER_RUN} files already"
                plan.results.append(Result(name, "refused", why))
                continue
            if row is None:
                plan.new.append(values | {"run_pk": run_pk, "said_t_ns": None})
            elif row.sha256 is not None and row.taken_unix_s > taken_s:
                outcome = "older"
            elif row.sha256 == each.sha256:
                outcome = "unchanged"
                plan.changed.append(values | {"stored_unix_s": row.stored_unix_s})
            else:
                plan.changed.append(values)
            plan.results.append(Result(name, outcome))
        return plan


def _taken(sent: SentFile) -> float:
    """Order by which the later taken comes last; of those that are taken now, the one that was sent last."""
    return math.inf if sent.taken_unix_s is None else sent.taken_unix_s


def _complaint(name: str) -> str | None:
    try:
        check_file_name(name)
    except FileNameError as error:
        return str(error)
    return None


def _known(tx: Transaction, run_pk: int, names: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    chosen = sorted(names)
    for some in in_slices(chosen):
        rows = tx.connection.execute(
            sa.select(f.c.name, f.c.sha256, f.c.taken_unix_s, f.c.stored_unix_s)
            .where(f.c.run_pk == run_pk, f.c.name.in_(some))
            .with_for_update()
        )
        found |= {row.name: row for row in rows}
    return found


def _sizes(tx: Transaction, digests: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    chosen = sorted(set(digests))
    for some in in_slices(chosen):
        rows = tx.connection.execute(sa.select(b.c.digest, b.c.size).where(b.c.digest.in_(some)))
        found |= {row.digest: row.size for row in rows}
    return found


def _count(tx: Transaction, run_pk: int) -> int:
    return int(
        tx.connection.execute(
            sa.select(sa.func.count()).select_from(f).where(f.c.run_pk == run_pk)
        ).scalar_one()
    )


def _text(said: str | None) -> str | None:
    return None if said is None else clean_text(said)[:MAX_MIMETYPE_CHARS]
