"""Manifests become one: the parts of a distributed version, or a version and what is added to it. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from runfold.protocol.manifest import Entry

Entries = Iterable[tuple[str, Entry]]


class PathConflictError(Exception):
    """Two parts name one path (`name`) and mean different content."""

    def __init__(self, name: str) -> None:
        super().__init__(f"two parts have different content for {name!r}")
        self.name = name


def merge_entries(parts: Sequence[Entries]) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of all parts by name; each part has its own by name.

    Where parts agree on an entry, that of the first one in the list counts.

    Raises:
        PathConflictError: When the name is reached.
    """
    last: tuple[str, Entry] | None = None
    # Of equal names heapq.merge brings that of the first part first.
    for name, entry in heapq.merge(*parts, key=_name):
        if last is None or name != last[0]:
            last = name, entry
            yield name, entry
        elif not is_same(entry, last[1]):
            raise PathConflictError(name)


def overlay_entries(top: Entries, base: Entries) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of both by name; where both have one, that of `top`."""
    last: str | None = None
    # Of equal names heapq.merge brings that of the first one first.
    for name, entry in heapq.merge(top, base, key=_name):
        if name != last:
            last = name
            yield name, entry


def is_same(one: Entry, other: Entry) -> bool:
    """Return whether two entries mean the same content."""
    return (one.digest, one.key, one.ref) == (other.digest, other.key, other.ref)


def _name(found: tuple[str, Entry]) -> str:
    return found[0]
