"""Surrogate keys: ids in blocks, metric keys and key sets by name. Cached; a rollback empties the caches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from runfold_coordinator.store import tables as t
from runfold_coordinator.store.slices import in_slices

#: Ids taken from the database at a time.
ID_BLOCK = 1024
#: keyset_pk of a chunk whose keys are in its directory only.
MIXED_KEYSET = 0
#: Entries after which a cache starts anew.
CACHE_ENTRIES = 500_000
#: In this order in run_keys.kinds.
KIND_ORDER = "dq?o"


def clean_text(text: str) -> str:
    """Replace what PostgreSQL can't keep in text (NUL) or UTF-8 can't (lone surrogates)."""
    if "\0" in text:
        text = text.replace("\0", "�")
    return text.encode("utf-8", "replace").decode("utf-8")


def escape_key(key: str) -> str:
    r"""Return a canonical key without NUL: `\0` stands for it, which no canonical key holds."""
    return key.replace("\0", "\\0") if "\0" in key else key


def unescape_key(stored: str) -> str:
    """Return what escape_key() was given."""
    if "\\0" not in stored:
        return stored
    return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[0], stored)


class Names:
    """Looks up or creates names inside a write transaction. Not thread-safe: the write lock guards it."""

    def __init__(self) -> None:
        self._next = 0
        self._end = 0
        self._keys: dict[str, int] = {}
        self._keysets: dict[bytes, int] = {}
        self._run_keys: dict[tuple[int, int], str] = {}
        self._run_key_counts: dict[int, int] = {}
        self._key_lists: dict[tuple[str, ...], tuple[list[int], int]] = {}
        self._run_keysets: set[tuple[int, int, str]] = set()

    def forget(self) -> None:
        """After a rollback: what was created in it does not exist."""
        self._next = self._end = 0
        self._keys.clear()
        self._keysets.clear()
        self._run_keys.clear()
        self._run_key_counts.clear()
        self._key_lists.clear()
        self._run_keysets.clear()

    def new_ids(self, connection: sa.Connection, count: int = 1) -> int:
        """Return the first of `count` consecutive ids that nobody else has."""
        if self._end - self._next < count:
            take = max(ID_BLOCK, count)
            found = connection.execute(
                sa.update(t.counters)
                .where(t.counters.c.name == "ids")
                .values(next=t.counters.c.next + take)
                .returning(t.counters.c.next)
            ).scalar_one()
            self._next, self._end = found - take, found
        first = self._next
        self._next += count
        return first

    def key_pks(self, connection: sa.Connection, names: Iterable[str]) -> dict[str, int]:
        """Return the key_pk of each canonical key, creating what is new."""
        wanted = set(names)
        found = {name: pk for name in wanted if (pk := self._keys.get(name)) is not None}
        missing = [name for name in wanted if name not in found]
        for some in in_slices(missing):
            found |= self._load_keys(connection, some)
        return found

    def key_list(self, connection: sa.Connection, names: tuple[str, ...]) -> tuple[list[int], int]:
        """Return the key_pks of a key set in its order, and its keyset_pk: what most chunks need."""
        found = self._key_lists.get(names)
        if found is None:
            pks = self.key_pks(connection, names)
            listed = [pks[name] for name in names]
            found = (listed, self.keyset_pk(connection, listed))
            _room(self._key_lists)
            self._key_lists[names] = found
        return found

    def _load_keys(self, connection: sa.Connection, missing: list[str]) -> dict[str, int]:
        digests = {key_digest(escape_key(name)): name for name in missing}
        rows = connection.execute(
            sa.select(t.keys.c.digest, t.keys.c.key_pk).where(t.keys.c.digest.in_(list(digests)))
        )
        found = {digests.pop(bytes(digest)): pk for digest, pk in rows}
        if digests:
            first = self.new_ids(connection, len(digests))
            new = [
                {"key_pk": first + i, "digest": digest, "key": clean_text(escape_key(name))}
                for i, (digest, name) in enumerate(digests.items())
            ]
            connection.execute(t.keys.insert(), new)
            found |= {name: first + i for i, name in enumerate(digests.values())}
        _room(self._keys)
        self._keys |= found
        return found

    def keyset_pk(self, connection: sa.Connection, key_pks: Sequence[int]) -> int:
        """Return the keyset of these keys, whatever their order."""
        ordered = sorted(key_pks)
        digest = key_digest(",".join(map(str, ordered)))
        pk = self._keysets.get(digest)
        if pk is None:
            found = connection.execute(
                sa.select(t.keysets.c.keyset_pk).where(t.keysets.c.digest == digest)
            ).scalar()
            pk = found if found is not None else self._create_keyset(connection, digest, ordered)
            _room(self._keysets)
            self._keysets[digest] = pk
        return pk

    def _create_keyset(self, connection: sa.Connection, digest: bytes, key_pks: list[int]) -> int:
        pk = self.new_ids(connection)
        connection.execute(t.keysets.insert(), [{"keyset_pk": pk, "digest": digest}])
        if key_pks:
            connection.execute(
                t.keyset_keys.insert(), [{"key_pk": key_pk, "keyset_pk": pk} for key_pk in key_pks]
            )
        return pk

    def run_key_count(self, connection: sa.Connection, run_pk: int, key_pks: Iterable[int]) -> int:
        """Return how many keys the run has with these; may count too many just above what it has."""
        table = t.run_keys.c
        if run_pk not in self._run_key_counts:
            statement = sa.select(sa.func.count()).where(table.run_pk == run_pk)
            self._run_key_counts[run_pk] = connection.execute(statement).scalar_one()
        return self._run_key_counts[run_pk] + sum((run_pk, pk) not in self._run_keys for pk in key_pks)

    def knows_keyset(self, run_pk: int, keyset_pk: int, kinds: str) -> bool:
        """Return whether note_keyset() was told of this key set with these kinds."""
        return (run_pk, keyset_pk, kinds) in self._run_keysets

    def note_keyset(
        self, connection: sa.Connection, run_pk: int, keyset_pk: int, key_pks: Sequence[int], kinds: str
    ) -> None:
        """Remember that the run has the keys of a key set, whose kinds come in the same order."""
        known = (run_pk, keyset_pk, kinds)
        if known not in self._run_keysets:
            self.note_run_keys(connection, run_pk, zip(key_pks, kinds, strict=True))
            if len(self._run_keysets) > CACHE_ENTRIES:
                self._run_keysets.clear()
            self._run_keysets.add(known)

    def note_run_keys(self, connection: sa.Connection, run_pk: int, kinds: Iterable[tuple[int, str]]) -> None:
        """Remember that the run has these keys with these kinds."""
        cache = self._run_keys
        new: dict[int, set[str]] = {}
        for key_pk, kind in kinds:
            if kind not in cache.get((run_pk, key_pk), ""):
                new.setdefault(key_pk, set()).add(kind)
        if not new:
            return
        table = t.run_keys.c
        for at in range(0, len(pks := list(new)), 500):
            rows = connection.execute(
                sa.select(table.key_pk, table.kinds).where(
                    table.run_pk == run_pk, table.key_pk.in_(pks[at : at + 500])
                )
            )
            stored = {key_pk: kinds_before for key_pk, kinds_before in rows.all()}  # noqa: C416 - Row is no pair to dict()
            inserts, updates = [], []
            for key_pk in pks[at : at + 500]:
                before = stored.get(key_pk)
                after = "".join(kind for kind in KIND_ORDER if kind in new[key_pk] or kind in (before or ""))
                if before is None:
                    if run_pk in self._run_key_counts:
                        self._run_key_counts[run_pk] += 1
                    inserts.append({"run_pk": run_pk, "key_pk": key_pk, "kinds": after})
                elif after != before:
                    updates.append({"b_run": run_pk, "b_key": key_pk, "kinds": after})
                cache[run_pk, key_pk] = after
            if inserts:
                connection.execute(t.run_keys.insert(), inserts)
            if updates:
                connection.execute(
                    sa.update(t.run_keys).where(
                        table.run_pk == sa.bindparam("b_run"), table.key_pk == sa.bindparam("b_key")
                    ),
                    updates,
                )
        _room(cache)


def key_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _room(cache: dict[Any, Any]) -> None:
    if len(cache) > CACHE_ENTRIES:
        cache.clear()
