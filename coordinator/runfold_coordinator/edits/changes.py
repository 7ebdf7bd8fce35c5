"""Takes what people change in runs: fields, config, summary, state; runs and projects made by hand.

In: a run and a Change. Out: rows, in one transaction each: the edit, and the run's projection with it. The
processes of the run are told nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.clock import Clock
from runfold_coordinator.edits.said import Edit, Node, Seen, SummaryChange, squeeze
from runfold_coordinator.edits.stored import (
    edits_of,
    filter_columns,
    heard_of,
    pack_edit,
    pack_projection,
    write_edits,
)
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.edit_tables import projects, run_edits
from runfold_coordinator.store.model import RunRow
from runfold_coordinator.store.names import clean_text
from runfold_coordinator.store.store import Store
from runfold_coordinator.store.writes import Transaction

#: All that people said of one run, in bytes as stored.
MAX_RUN_BYTES = 16 * 1024 * 1024
#: Most tags of a run, where some are added to those that it has.
MAX_TAGS = 1000
#: States that a run without processes may be made in.
FIRST_STATES = ("running", "pending")
#: Of which states a run may be set to which.
TRANSITIONS = {"pending": frozenset({"failed", "crashed"}), "failed": frozenset({"pending"})}
EMPTY_PROJECTION: dict[str, Any] = {
    **dict.fromkeys(("group", "job_type", "fold", "name", "notes", "sweep")),
    "tags": [],
    "config": {},
    "conflicts": {},
    "definitions": [],
}


class RunGoneError(Exception):
    """The run was deleted, or purged, in the meantime."""


class TooMuchSaidError(Exception):
    """The edits of the run take more than MAX_RUN_BYTES, or it would have more than MAX_TAGS tags."""

    def __init__(self, message: str, *, field: str = "body", limit: int = MAX_RUN_BYTES) -> None:
        self.field = field
        self.limit = limit
        super().__init__(message)


class TransitionError(Exception):
    """The run can't be set to this state; the message says from which it can."""


class DeletedRunError(Exception):
    """A run of this path was deleted, and is kept for a while."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one request wants changed. What is absent stays as it is."""

    #: name, notes, tags, group, job_type.
    fields: Mapping[str, Any] = field(default_factory=dict)
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    config_deleted: tuple[str, ...] = ()
    summary: tuple[SummaryChange, ...] = ()


class RunEdits:
    """Thread-safe: it keeps nothing between calls."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        clock_offsets: Callable[[], Mapping[Node, int]] = dict,
    ) -> None:
        """Prepare; nothing is read.

        Args:
            clock_offsets: Tells what to add to times of nodes whose clocks differ from ours, ns.
        """
        self._store = store
        self._clock = clock
        self._clock_offsets = clock_offsets

    def edit(self, run: RunRow, change: Change, *, by: str) -> None:
        """Change a run. The same change again changes nothing but who said it last, and when.

        Raises:
            RunGoneError, TooMuchSaidError: Nothing was changed.
            StoreUnavailableError: Not known to be kept; asking again is safe.
        """
        with self._store.writing.transaction() as tx:
            row = locked_run(tx, run.run_pk)
            self._edit(tx, row, change, by)

    def create(  # noqa: PLR0917 - a path and what is said of it
        self, entity: str, project: str, run_id: str, state: str, change: Change, by: str
    ) -> bool:
        """Make a run that has no process yet; return False when there is one: it is only changed.

        Raises:
            DeletedRunError: There was one, and it was deleted.
            TooMuchSaidError: Nothing was made.
        """
        c = t.runs.c
        with self._store.writing.transaction() as tx:
            found = tx.connection.execute(
                sa.select(t.runs)
                .where(c.entity == entity, c.project == project, c.run_id == run_id)
                .with_for_update()
            ).one_or_none()
            if found is not None and found.deleted_unix_s is not None:
                raise DeletedRunError(f"{entity}/{project}/{run_id} was deleted")
            if found is None:
                run_pk = self._insert(tx, entity, project, run_id, state)
                row = locked_run(tx, run_pk)
            else:
                row = found
            self._edit(tx, row, change, by)
            return found is None

    def create_project(self, entity: str, name: str) -> None:
        """Make a project without runs; one that is there stays as it is."""
        with self._store.writing.transaction() as tx:
            row = {"entity": entity, "name": name, "created_unix_s": self._clock.unix_s()}
            tx.insert_new(projects, [row])

    def set_state(self, run: RunRow, state: str, *, by: str) -> None:
        """Say the state of a run whose processes have ended, or that never had one.

        It holds until another process joins the run.

        Raises:
            RunGoneError: It was deleted.
            TransitionError: Its state is another one than those from which it can be set to this.
        """
        with self._store.writing.transaction() as tx:
            row = locked_run(tx, run.run_pk)
            is_set = self._set_state(tx, row, state, by)
        # Raised inside, it would roll back, and empty the caches of ingest.
        if not is_set:
            allowed = " or ".join(sorted(TRANSITIONS[state]))
            raise TransitionError(
                f"invalid state transition from {row.state} to {state}: only from {allowed}"
            )

    def _set_state(self, tx: Transaction, row: Any, state: str, by: str) -> bool:
        c, w = t.runs.c, t.writers.c
        newest_pk = tx.connection.execute(
            sa.select(sa.func.max(w.writer_pk)).where(w.run_pk == row.run_pk)
        ).scalar()
        has_no_process = newest_pk is None and row.state == "running"
        if row.state not in TRANSITIONS[state] and not (state == "failed" and has_no_process):
            return False
        is_end = state == "failed"
        values: dict[str, Any] = {
            "said_state": state,
            "said_state_pk": newest_pk or 0,
            "state": state,
            "reason": f"set to {state} by {by}",
            "ended_unix_ns": int(self._clock.unix_s() * 1e9) if is_end else None,
            "confidence": "said" if is_end else "",
            "unreachable": False,
            "version": c.version + 1,
        }
        tx.connection.execute(sa.update(t.runs).where(c.run_pk == row.run_pk).values(values))
        tx.touch(row.run_pk)
        return True

    def _insert(self, tx: Transaction, entity: str, project: str, run_id: str, state: str) -> int:
        now_s = self._clock.unix_s()
        run_pk = tx.new_ids()
        tx.insert(
            t.runs,
            [
                {
                    "run_pk": run_pk,
                    "entity": entity,
                    "project": project,
                    "run_id": run_id,
                    "mode": "grouped",
                    "summary_json": {},
                    "state": state,
                    "reason": "",
                    "unreachable": False,
                    "started_unix_ns": int(now_s * 1e9),
                    "updated_unix_s": now_s,
                    "last_record_unix_ns": 0,
                    "last_step": -1,
                    "row_count": 0,
                    "version": 0,
                    "projection": pack_projection(EMPTY_PROJECTION),
                    **filter_columns(EMPTY_PROJECTION),
                }
            ],
        )
        return run_pk

    def _edit(self, tx: Transaction, row: Any, change: Change, by: str) -> None:
        run_pk = row.run_pk
        projection = EMPTY_PROJECTION | unpack_stored(row.projection)
        earlier = edits_of(tx.connection, [run_pk]).get(run_pk, [])
        edit = self._new_edit(tx, row, projection, change, earlier, by)
        if not edit.is_empty:
            changed, gone = squeeze(earlier, edit)
            write_edits(tx, changed, gone)
            said = pack_edit(edit)
            tx.insert(
                run_edits,
                [{"edit_pk": tx.new_ids(), "run_pk": run_pk, "t_ns": edit.t_ns, "by": by, "said": said}],
            )
            self._check_size(tx, run_pk)
        c = t.runs.c
        shown = _with_edit(projection, edit)
        tx.connection.execute(
            sa.update(t.runs)
            .where(c.run_pk == run_pk)
            .values(version=c.version + 1, projection=pack_projection(shown), **filter_columns(shown))
        )
        tx.touch(run_pk)

    def _new_edit(  # noqa: PLR0917 - all that an edit is made from
        self,
        tx: Transaction,
        row: Any,
        projection: Mapping[str, Any],
        change: Change,
        earlier: list[Edit],
        by: str,
    ) -> Edit:
        fields = dict(change.fields)
        if change.add_tags or change.remove_tags:
            gone = frozenset(change.remove_tags)
            tags = [tag for tag in fields.get("tags", projection["tags"]) if tag not in gone]
            fields["tags"] = list(dict.fromkeys((*tags, *change.add_tags)))
            if change.add_tags and len(fields["tags"]) > MAX_TAGS:
                raise TooMuchSaidError(f"a run has at most {MAX_TAGS} tags", field="add_tags", limit=MAX_TAGS)
        config_keys = {*change.config, *change.config_deleted}
        newest_ns = max((edit.t_ns for edit in earlier), default=0)
        # Edits have an order, whatever becomes of our clock.
        t_ns = max(int(self._clock.unix_s() * 1e9), newest_ns + 1)
        clocks = dict(self._clock_offsets())
        return Edit(
            t_ns=t_ns,
            by=by,
            fields=fields,
            config=dict(change.config),
            config_deleted=change.config_deleted,
            summary=change.summary,
            fields_before={
                name: value for name in fields if (value := _before(name, projection, earlier)) is not None
            },
            config_before=_config_before(config_keys, projection["config"], earlier),
            seen=Seen.of(heard_of(tx, row.run_pk), t_ns, clocks),
            clocks=clocks,
        )

    def _check_size(self, tx: Transaction, run_pk: int) -> None:
        c = run_edits.c
        size = tx.connection.execute(
            sa.select(sa.func.sum(sa.func.length(c.said))).where(c.run_pk == run_pk)
        ).scalar()
        if int(size or 0) > MAX_RUN_BYTES:
            raise TooMuchSaidError(f"the edits of one run take at most {MAX_RUN_BYTES} bytes")


def clean_change(change: Change) -> Change:
    """Return a change whose texts a database can hold."""
    fields = {
        name: [clean_text(tag) for tag in value]
        if isinstance(value, list)
        else None
        if value is None
        else clean_text(value)
        for name, value in change.fields.items()
    }
    return Change(
        fields,
        tuple(map(clean_text, change.add_tags)),
        tuple(map(clean_text, change.remove_tags)),
        change.config,
        change.config_deleted,
        change.summary,
    )


def locked_run(tx: Transaction, run_pk: int) -> Any:
    """Return the run's row, ours until the end of the transaction: ingest waits with its next batch.

    Raises:
        RunGoneError: It was deleted or purged.
    """
    c = t.runs.c
    row = tx.connection.execute(
        sa.select(t.runs).where(c.run_pk == run_pk, c.deleted_unix_s.is_(None)).with_for_update()
    ).one_or_none()
    if row is None:
        raise RunGoneError("the run has been deleted")
    return row


def _with_edit(projection: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """Return the projection with a new edit: it came after all that is stored."""
    gone = edit.config_keys
    config = {key: value for key, value in projection["config"].items() if key not in gone}
    return {
        **projection,
        **edit.fields,
        "config": config | dict(edit.config),
        "conflicts": {key: said for key, said in projection["conflicts"].items() if key not in gone},
    }


def _before(name: str, projection: Mapping[str, Any], earlier: list[Edit]) -> Any:
    """Return what processes had said of a field: what is shown, unless that is an earlier edit's word."""
    shown = projection[name]
    for edit in earlier:
        if name in edit.fields and edit.fields[name] == shown:
            return edit.fields_before.get(name)
    return shown


def _config_before(keys: Collection[str], config: Mapping[str, Any], earlier: list[Edit]) -> dict[str, Any]:
    """Return what processes had said of config keys: what is shown, unless that is an earlier edit's word."""
    of_key = {key: edit for edit in earlier for key in edit.config_keys}  # each key is in one: see squeeze
    found = {}
    for key in keys:
        edit = of_key.get(key)
        is_shown = edit is not None and (
            (key in edit.config and key in config and edit.config[key] == config[key])
            or (key in edit.config_deleted and key not in config)
        )
        said = edit.config_before if edit is not None and is_shown else config
        if key in said:
            found[key] = said[key]
    return found
