"""The summary of a run with what people set in it and deleted from it through the API.

In: the summary as its processes make it, the run's edits, the store. Out: the summary as it is shown. A value
that was edited stays, like one that a process set by hand, until a process sets or deletes it by hand; a key
that was deleted comes back with the next value that is logged or set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from runfold.protocol.keypath import KeyPath, decode_path
from runfold_coordinator.edits.by_hand import SaidByHand
from runfold_coordinator.edits.said import Edit, Node, is_at_or_below
from runfold_coordinator.edits.stored import edit_of
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.edit_tables import run_edits
from runfold_coordinator.store.store import Store

#: (edit, path) -> whether a process has said something of the path since.
SaidSince = Callable[[Edit, KeyPath], bool]


class EditedSummaries:
    """Gives summaries of runs with their edits. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_hand = SaidByHand(store)

    def edited(self, run_pk: int, summary: dict[str, Any]) -> dict[str, Any]:
        """Return the summary of a run with its edits; the one that was given is not changed."""
        c = run_edits.c
        rows = self._store.fetch(sa.select(run_edits).where(c.run_pk == run_pk).order_by(c.t_ns, c.edit_pk))
        edits = [edit for row in rows if (edit := edit_of(row)).summary]
        if not edits:
            return summary
        later = LaterWords(self._store, self._by_hand, run_pk, edits)
        return overlay(summary, edits, is_set=later.were_set, is_logged=later.were_logged)


def overlay(
    summary: Mapping[str, Any], edits: list[Edit], *, is_set: SaidSince, is_logged: SaidSince
) -> dict[str, Any]:
    """Return a summary with these edits, oldest first; sorted by key, as summaries are. Pure.

    Args:
        is_set: Tells whether a process has set or deleted the path, or one above or below, by hand since.
        is_logged: Tells whether a value at the path or below it was logged since.
    """
    found = dict(summary)
    for edit in edits:
        for change in edit.summary:
            path = tuple(change[1])
            if is_set(edit, path):
                continue
            if len(change) == 3:
                found = _put(found, path, change[2])
            elif not is_logged(edit, path):
                found = _without(found, path)
    return dict(sorted(found.items()))


def _put(tree: Mapping[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    if len(path) > 1:
        inner = tree.get(path[0])
        value = _put(inner if isinstance(inner, Mapping) else {}, path[1:], value)
    return {**tree, path[0]: value}


def _without(tree: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
    if path[0] not in tree:
        return dict(tree)
    inner = tree[path[0]]
    left = {key: value for key, value in tree.items() if key != path[0]}
    if len(path) > 1:
        if not isinstance(inner, Mapping):
            return dict(tree)
        if below := _without(inner, path[1:]):
            left[path[0]] = below
    return left


class LaterWords:
    """What processes said of the summary after edits. Reads what it needs."""

    def __init__(self, store: Store, by_hand: SaidByHand, run_pk: int, edits: list[Edit]) -> None:
        self._store = store
        self._by_hand = by_hand
        self._run_pk = run_pk
        slowest_ns = max((ns for edit in edits for ns in edit.clocks.values()), default=0)
        self._since_ns = min(edit.t_ns for edit in edits) - max(0, slowest_ns)
        c = t.writers.c
        writers = store.fetch(
            sa.select(c.writer_pk, c.last_seq, c.host, c.boot_id).where(
                c.run_pk == run_pk, c.role == "process"
            )
        )
        self._last_seq = {row.writer_pk: row.last_seq for row in writers}
        self._nodes: dict[int, Node] = {row.writer_pk: (row.host or "", row.boot_id or "") for row in writers}
        self._keys: list[tuple[KeyPath, str]] | None = None

    def were_set(self, edit: Edit, path: KeyPath) -> bool:
        """Tell whether a process has set or deleted this place by hand since."""
        return any(
            (is_at_or_below(said, path) or is_at_or_below(path, said))
            and edit.is_before(place, writer_pk, self._nodes.get(writer_pk))
            for said, place, writer_pk in self._by_hand.places(
                self._run_pk, self._last_seq, self._since_ns, path[0]
            )
        )

    def were_logged(self, edit: Edit, path: KeyPath) -> bool:
        """Tell whether a value was logged at the path or below it since."""
        after = {pk: edit.seen.get(pk, 0) for pk, last in self._last_seq.items()}
        speaking = [pk for pk, last in self._last_seq.items() if last > after[pk]]
        if not speaking:
            return False
        seq_after = min(after[pk] for pk in speaking)
        for key_path, key in self._logged_keys():
            if not is_at_or_below(key_path, path):
                continue
            for cells in self._store.read_cells(self._run_pk, key, writer_pks=speaking, seq_after=seq_after):
                pk = cells.writer_pk
                offset = edit.clocks.get(self._nodes.get(pk, ("", "")), 0)
                times = cells.t_ns[cells.seq > after[pk]].astype("int64") + offset
                if bool((times > edit.t_ns).any()):
                    return True
        return False

    def _logged_keys(self) -> list[tuple[KeyPath, str]]:
        if self._keys is None:
            self._keys = [(decode_path(row.key), row.key) for row in self._store.keys(self._run_pk)]
        return self._keys
