"""Distributed versions: closes each when all its parts are known and here, or known not to come.

What is closed stays closed: a part that is said later begins the next version. A part that was given up and
comes after all completes its version: that is made anew, whole.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from runfold.protocol import failpoints
from runfold_coordinator.artifacts.distributed import Closed, Said, late_parts, next_version
from runfold_coordinator.artifacts.draft_rows import as_draft, note_version, update_draft
from runfold_coordinator.artifacts.drafts import About
from runfold_coordinator.artifacts.errors import ArtifactRefusedError
from runfold_coordinator.artifacts.part_contents import Content, PartContents, who
from runfold_coordinator.artifacts.part_merge import Merged
from runfold_coordinator.artifacts.participants import Participants, Teller
from runfold_coordinator.artifacts.versions import is_latest, make_version
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.blobs.errors import BlobError
from runfold_coordinator.clock import Clock
from runfold_coordinator.store import artifact_tables as at
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

logger = logging.getLogger(__name__)

_d = at.artifact_drafts.c
_SET = (_d.entity, _d.project, _d.name, _d.distributed_id)
#: What tells when a part was said, by whom; without what it says, which may be long.
_WHEN = (_d.client_id, _d.writer_id, _d.seq, _d.said_unix_ns, _d.finalize, _d.generation)
#: Closed versions of one distributed id that late parts are looked for in.
REMEMBERED = 10
DELETED = "its version has been deleted"
GIVEN_UP = "its node was not heard of any more before its files were uploaded"


class Settler:
    """Closes versions. One thread calls `turn`; several processes may (PostgreSQL)."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, participants: Participants) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._participants = participants
        self._contents = PartContents(store, blobs, participants)

    def turn(self) -> int:
        """Close what can be closed; return how many versions were made or failed.

        Raises:
            StoreUnavailableError: Not now; what was closed is closed.
        """
        closed = 0
        is_open = (_d.distributed_id.is_not(None), _d.generation.is_(None))
        for key in self._store.fetch(sa.select(*_SET).distinct().where(*is_open, _d.error.is_(None))):
            self._join_late(tuple(key))
        for key in self._store.fetch(sa.select(*_SET).distinct().where(*is_open, _d.finalize)):
            with _others_go_on(key):
                while self._close_next(tuple(key)):
                    closed += 1
        is_late = (_d.generation.is_not(None), _d.version_pk.is_(None), _d.error.is_(None))
        for key in self._store.fetch(sa.select(*_SET, _d.generation).distinct().where(*is_late)):
            with _others_go_on(key):
                closed += self._complete(tuple(key)[:4], key.generation)
        return closed

    def _close_next(self, key: tuple[str, ...]) -> bool:
        """Close the earliest version that was finished, if all of it is known; return whether it was."""
        rows = {row.client_id: row for row in self._rows(key, _d.generation.is_(None))}
        tellers = self._participants.tellers(row.writer_id for row in rows.values())
        found = next_version([self._said(row, tellers.get(row.writer_id or "")) for row in rows.values()])
        if found is None:
            return False
        finish = rows[found[0].client_id]
        parts = [rows[each.client_id] for each in found[1]]
        behind = self._participants.behind(
            finish, list(rows.values()), found[0].said_ns, tellers.get(finish.writer_id or "")
        )
        if behind:
            return self._wait(finish, f"{behind} processes may have said parts that have not come yet")
        lost = self._lost_of(finish, parts)
        return lost is not None and self._close(key, finish, parts, lost)

    def _complete(self, key: tuple[str, ...], generation: int) -> bool:
        """Make a closed version anew, with parts that have come since; return whether it was."""
        rows = self._rows(key, _d.generation == generation)
        if failed := _failure(rows):
            self._fail([row for row in rows if _is_here(row)], failed)
            return False
        if any(version.deleted_unix_s is not None for version in self._contents.versions(rows).values()):
            self._fail([row for row in rows if row.version_pk is None and row.error is None], DELETED)
            return False
        finish = next((row for row in rows if row.finalize and not row.is_late), rows[-1])
        lost = self._lost_of(finish, rows)
        if lost is None:
            return False
        if not any(_is_here(row) and row.version_pk is None for row in rows):
            self._fail([row for row in rows if not _is_here(row) and row.error is None], GIVEN_UP)
            return self._wait(finish, None)
        return self._close(key, finish, rows, lost, generation=generation)

    def _fail(self, rows: Sequence[Any], why: str) -> None:
        with self._store.writing.transaction() as tx:
            for row in rows:
                update_draft(tx, row.client_id, error=why)

    def _join_late(self, key: tuple[str, ...]) -> None:
        """Put parts of processes that nobody knew of to the closed versions that they belong to."""
        newest = self._newest_generation(key)
        rows = self._rows(key, _d.generation.is_(None), columns=_WHEN) if newest else []
        if not rows:
            return
        before = self._rows(key, _d.generation > newest - REMEMBERED, ~_d.is_late, columns=_WHEN)
        tellers = self._participants.tellers(row.writer_id for row in (*rows, *before))
        closed = [
            Closed(
                finish.generation,
                self._said(finish, tellers.get(finish.writer_id or "")),
                frozenset(row.writer_id for row in before if row.generation == finish.generation),
            )
            for finish in reversed(before)  # of two finishes in one version the earlier one has ended it
            if finish.finalize
        ]
        by_number = {version.number: version for version in closed}
        said = [self._said(row, tellers.get(row.writer_id or "")) for row in rows]
        late = late_parts(said, by_number.values())
        if late:
            with self._store.writing.transaction() as tx:
                for client_id, number in late.items():
                    tx.connection.execute(
                        sa.update(at.artifact_drafts)
                        .where(_d.client_id == client_id, _d.generation.is_(None))
                        .values(generation=number, is_late=True)
                    )

    def _lost_of(self, finish: Any, parts: Sequence[Any]) -> list[dict[str, Any]] | None:
        """Return the parts that will not come; None while some may, which the finish says then."""
        missing = [row for row in parts if not _is_here(row)]
        tellers = self._participants.tellers(row.writer_id for row in missing)
        lost = [
            row
            for row in missing
            if row.error is not None
            or self._participants.is_lost(row, tellers.get(row.writer_id or ""), finish)
        ]
        if len(lost) < len(missing):
            names = sorted(who(row, tellers) for row in missing if row not in lost)
            self._wait(finish, f"the upload of parts of {', '.join(names[:8])}")
            return None
        return [self._lost(row, tellers.get(row.writer_id or "")) for row in lost]

    def _close(
        self,
        key: tuple[str, ...],
        finish: Any,
        parts: Sequence[Any],
        lost: Sequence[dict[str, Any]],
        *,
        generation: int | None = None,
    ) -> bool:
        content = self._contents.of(key, [row for row in parts if _is_here(row)])
        try:
            return self._write(key, finish, parts, lost, content, generation)
        except ArtifactRefusedError as error:  # and nothing was written
            return self._write(key, finish, parts, lost, Content(None, str(error)), generation)

    def _write(  # noqa: PLR0917 - what the version is made of
        self,
        key: tuple[str, ...],
        finish: Any,
        parts: Sequence[Any],
        lost: Sequence[dict[str, Any]],
        content: Content,
        generation: int | None,
    ) -> bool:
        merged, why = content.merged, content.why
        now_unix_s = self._clock.unix_s()
        with self._store.writing.transaction() as tx:
            if not self._is_unchanged(tx, parts):
                return True  # another process has closed it, or a part came: look again
            if merged is not None and self._blobs.hold(tx, [merged.manifest]):
                return False  # it was damaged meanwhile: it is merged again
            if content.is_added and not is_latest(tx, as_draft(finish), content.base, now_unix_s):
                return True  # another version came meanwhile: it is added to that one
            number = self._newest_generation(key, tx) + 1 if generation is None else generation
            for row in parts:
                update_draft(tx, row.client_id, generation=number, waits_for=None)
            for gone in lost:
                update_draft(tx, gone["client_id"], error=gone["reason"])
            if merged is not None:
                self._make(tx, finish, parts, merged, lost, now_unix_s)
            if why is not None:
                for row in parts:
                    if row.version_pk is None:
                        update_draft(tx, row.client_id, error=row.error or why)
            failpoints.hit("artifacts.before_settle")
        failpoints.hit("artifacts.after_settle")
        if why is not None or lost:
            logger.warning(
                "a distributed artifact is not whole",
                extra={"event": "artifact_not_whole", "artifact": "/".join(key[:3]), "why": why or GIVEN_UP},
            )
        return True

    def _make(  # noqa: PLR0917 - what the version is made of
        self,
        tx: Transaction,
        finish: Any,
        parts: Sequence[Any],
        merged: Merged,
        lost: Sequence[dict[str, Any]],
        now_unix_s: float,
    ) -> None:
        arrived = [row for row in parts if _is_here(row)]
        about = About()
        for row in sorted(arrived, key=lambda row: row.client_id == finish.client_id):
            about = about.with_later(as_draft(row).about)
        made = make_version(
            tx,
            as_draft(finish),
            about,
            merged.sums,
            manifest=merged.manifest,
            now_unix_s=now_unix_s,
            incomplete=lost,
        )
        for row in arrived:
            note_version(tx, row, made, now_unix_s)

    def _rows(
        self,
        key: tuple[str, ...],
        *where: sa.ColumnElement[bool],
        columns: Sequence[sa.ColumnElement[Any]] = tuple(_d),
    ) -> list[Any]:
        is_it = [column == value for column, value in zip(_SET, key, strict=True)]
        return self._store.fetch(
            sa.select(*columns)
            .where(*is_it, *where)
            .order_by(_d.said_unix_ns, _d.writer_id, _d.seq, _d.client_id)
        )

    def _said(self, row: Any, teller: Teller | None) -> Said:
        return Said(
            client_id=row.client_id,
            writer=row.writer_id or "",
            place=None if teller is None or not teller.boot_id else (teller.host or "", teller.boot_id),
            seq=row.seq,
            said_ns=row.said_unix_ns + self._participants.offset_ns(teller),
            is_finish=row.finalize,
        )

    def _wait(self, finish: Any, why: str | None) -> bool:
        if finish.waits_for != why:
            with self._store.writing.transaction() as tx:
                update_draft(tx, finish.client_id, waits_for=why)
        return False

    def _is_unchanged(self, tx: Transaction, parts: Sequence[Any]) -> bool:
        for row in parts:
            now = tx.connection.execute(
                sa.select(_d.generation, _d.arrived_unix_s, _d.error, _d.version_pk)
                .where(_d.client_id == row.client_id)
                .with_for_update()
            ).one_or_none()
            was = (row.generation, row.arrived_unix_s, row.error, row.version_pk)
            if now is None or tuple(now) != was:
                return False
        return True

    def _newest_generation(self, key: tuple[str, ...], tx: Transaction | None = None) -> int:
        """Return the number of the version that was closed last; 0: none was."""
        is_it = [column == value for column, value in zip(_SET, key, strict=True)]
        statement = sa.select(sa.func.max(_d.generation).label("newest")).where(*is_it)
        rows = self._store.fetch(statement) if tx is None else tx.connection.execute(statement).all()
        return rows[0].newest or 0

    def _lost(self, row: Any, teller: Teller | None) -> dict[str, Any]:
        r = t.runs.c
        runs = self._store.fetch(sa.select(r.entity, r.project, r.run_id).where(r.run_pk == row.run_pk))
        return {
            "client_id": row.client_id,
            "run": "/".join(runs[0]) if runs else None,
            "writer": row.writer_id,
            "rank": None if teller is None else teller.rank,
            "host": None if teller is None else teller.host,
            "size": row.size,
            "count": row.count,
            "reason": row.error or GIVEN_UP,
        }


@contextlib.contextmanager
def _others_go_on(key: Sequence[Any]) -> Iterator[None]:
    """Let one version whose blobs can't be read now hold up no other one."""
    try:
        yield
    except (BlobError, OSError) as error:
        logger.warning(
            "an artifact waits for its blobs",
            extra={"event": "artifact_waits", "artifact": "/".join(key[:3]), "why": str(error)},
        )


def _failure(rows: Sequence[Any]) -> str | None:
    """Return why a closed version can't be made whatever still comes, by its drafts; None: it can."""
    if any(row.version_pk is not None for row in rows):
        return None
    return next((row.error for row in rows if row.arrived_unix_s is not None and row.error), None)


def _is_here(row: Any) -> bool:
    """Return whether the files of a part are here, and were not given up."""
    return row.arrived_unix_s is not None and (row.error is None or row.version_pk is not None)
