"""The summary of a run with what people set in it and deleted from it through the API.

In: the summary as its processes make it, the run's edits, the store. Out: the summary as it is shown. A value
that was edited stays, like one that a process set by hand, until a process sets or deletes it by hand; a key
that was deleted comes back with the next value that is logged or set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from runfold.protocol.keypath import KeyPath, decode_path
from runfold_coordinator.edits.by_hand import SaidByHand
from runfold_coordinator.edits.said import Edit, Node, Place
from runfold_coordinator.edits.stored import edit_of
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.chunks import keys_of_directory
from runfold_coordinator.store.edit_tables import run_edits
from runfold_coordinator.store.names import MIXED_KEYSET, unescape_key
from runfold_coordinator.store.slices import in_slices
from runfold_coordinator.store.store import Store

Item = TypeVar("Item")
_NOTHING: Any = object()
#: (edit, path) -> whether a process has set or deleted the path by hand since.
SetSince = Callable[[Edit, KeyPath], bool]
#: (edit, path) -> the places at the path or below it of which a value was logged since.
LoggedSince = Callable[[Edit, KeyPath], list[KeyPath]]


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
        return overlay(summary, edits, is_set=later.were_set, logged=later.logged_since)


def overlay(
    summary: Mapping[str, Any], edits: list[Edit], *, is_set: SetSince, logged: LoggedSince
) -> dict[str, Any]:
    """Return a summary with these edits, oldest first; sorted by key, as summaries are. Pure.

    Args:
        is_set: Tells whether a process has set or deleted the path, or one above or below, by hand since.
        logged: Tells the places at the path or below it that were logged since: what else lies there stays
            deleted, as where a process deletes it.
    """
    found: dict[str, Any] = _copied(summary)
    for edit in edits:
        for change in edit.summary:
            path = tuple(change[1])
            if is_set(edit, path):
                continue
            if len(change) == 3:
                _put(found, path, _copied(change[2]))
            else:
                again = [(place, _at(found, place)) for place in logged(edit, path)]
                _drop(found, path)
                for place, value in again:
                    if value is not _NOTHING:
                        _put(found, place, value)
    return dict(sorted(found.items()))


def _copied(value: Any) -> Any:
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _at(tree: Mapping[str, Any], path: KeyPath) -> Any:
    value: Any = tree
    for part in path:
        value = value.get(part, _NOTHING) if isinstance(value, Mapping) else _NOTHING
    return value


def _put(tree: dict[str, Any], path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    tree[path[-1]] = value


def _drop(tree: dict[str, Any], path: KeyPath) -> None:
    """Delete a place, and those above it that are empty then."""
    if len(path) == 1:
        tree.pop(path[0], None)
        return
    inner = tree.get(path[0])
    if isinstance(inner, dict):
        _drop(inner, path[1:])
        if not inner:
            del tree[path[0]]


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
            sa.select(c.writer_pk, c.last_seq, c.last_record_unix_ns, c.host, c.boot_id).where(
                c.run_pk == run_pk, c.role == "process"
            )
        )
        self._newest_ns = {row.writer_pk: row.last_record_unix_ns for row in writers}
        self._last_seq = {row.writer_pk: row.last_seq for row in writers}
        self._nodes: dict[int, Node] = {row.writer_pk: (row.host or "", row.boot_id or "") for row in writers}
        self._keys: _Tree[str] | None = None
        self._after: dict[int, frozenset[str]] = {}
        #: By first part of the path: what was said by hand.
        self._said: dict[str, _Tree[tuple[Place, int]]] = {}

    def were_set(self, edit: Edit, path: KeyPath) -> bool:
        """Tell whether a process has set or deleted this place by hand since."""
        said = self._said.get(path[0])
        if said is None:
            said = self._said[path[0]] = _Tree()
            for at, place, writer_pk in self._by_hand.places(
                self._run_pk, self._last_seq, self._since_ns, path[0]
            ):
                said.add(at, (place, writer_pk))
        return any(
            edit.is_before(place, writer_pk, self._nodes.get(writer_pk))
            for place, writer_pk in said.around(path)
        )

    def logged_since(self, edit: Edit, path: KeyPath) -> list[KeyPath]:
        """Return the places at the path or below it of which a value was logged since."""
        after = {pk: edit.seen.upto(pk) for pk in self._last_seq}
        speaking = [
            pk
            for pk, last in self._last_seq.items()
            if last > after[pk] and edit.is_later(self._newest_ns[pk], self._nodes[pk])
        ]
        if not speaking:
            return []
        seq_after = min(after[pk] for pk in speaking)
        return [
            decode_path(key)
            for key in self._logged_keys().below(path)
            if key in self._keys_after(seq_after) and self._is_logged(edit, key, speaking, seq_after)
        ]

    def _is_logged(self, edit: Edit, key: str, speaking: list[int], seq_after: int) -> bool:
        for cells in self._store.read_cells(self._run_pk, key, writer_pks=speaking, seq_after=seq_after):
            pk = cells.writer_pk
            offset = edit.clocks.get(self._nodes.get(pk, ("", "")), 0)
            times = cells.t_ns[cells.seq > edit.seen.upto(pk)].astype("int64") + offset
            if bool((times > edit.t_ns).any()):
                return True
        return False

    def _keys_after(self, seq: int) -> frozenset[str]:
        """Return the keys of all chunks that have rows after this seq.

        Where ten thousand keys were deleted and one is logged on, only that one has to be looked for.
        """
        if seq not in self._after:
            c, of_set, key = t.chunks.c, t.keyset_keys.c, t.keys.c
            after = (c.run_pk == self._run_pk, c.seq_hi > seq)
            pks = sa.select(of_set.key_pk).join(t.chunks, c.keyset_pk == of_set.keyset_pk).where(*after)
            found = {row.key for row in self._store.fetch(sa.select(key.key).where(key.key_pk.in_(pks)))}
            mixed = self._store.fetch(sa.select(c.directory).where(*after, c.keyset_pk == MIXED_KEYSET))
            told = sorted({key_pk for row in mixed for key_pk in keys_of_directory(row.directory)})
            for part in in_slices(told):
                some = sa.select(key.key).where(key.key_pk.in_(part))
                found |= {row.key for row in self._store.fetch(some)}
            self._after[seq] = frozenset(map(unescape_key, found))
        return self._after[seq]

    def _logged_keys(self) -> _Tree[str]:
        if self._keys is None:
            self._keys = _Tree()
            for row in self._store.keys(self._run_pk):
                self._keys.add(decode_path(row.key), row.key)
        return self._keys


class _Tree(Generic[Item]):
    """Items by path, found by those above and below: one edit may ask ten thousand times."""

    def __init__(self) -> None:
        self._at: dict[KeyPath, list[Item]] = {}
        self._below: dict[KeyPath, list[Item]] = {}

    def add(self, path: KeyPath, item: Item) -> None:
        self._at.setdefault(path, []).append(item)
        for length in range(1, len(path) + 1):
            self._below.setdefault(path[:length], []).append(item)

    def below(self, path: KeyPath) -> list[Item]:
        """Return what is at the path, or below it."""
        return self._below.get(path, [])

    def around(self, path: KeyPath) -> Iterator[Item]:
        """Yield what is at the path, below or above it."""
        yield from self.below(path)
        for length in range(1, len(path)):
            yield from self._at.get(path[:length], ())
