"""Key paths of a tree: which of them lie below or above another one, without looking at all of them. Pure."""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Generic, TypeVar

from runfold.protocol.keypath import KeyPath

Value = TypeVar("Value")


class PathIndex:
    """A set of paths that tells what lies below a place; ten thousand keys may ask it once each.

    Each operation costs the length of its path, and what it returns. Not thread-safe.
    """

    def __init__(self) -> None:
        #: By inner place, the places one part longer: True where such a one is in the set itself. What has
        #: one part lies below nothing, and is not kept.
        self._children: dict[KeyPath, dict[KeyPath, bool]] = {}

    def add(self, path: KeyPath) -> None:
        """Take a path; harmless when repeated."""
        is_member = True
        while len(path) > 1:
            above = path[:-1]
            inner = self._children.get(above)
            if inner is not None:
                inner[path] = is_member or inner.get(path, False)
                return
            self._children[above] = {path: is_member}
            path, is_member = above, False

    def discard(self, path: KeyPath) -> None:
        """Let a path go, if it is there."""
        inner = self._children.get(path[:-1], {})
        if not inner.get(path):
            return
        inner[path] = False
        while len(path) > 1 and path not in self._children:
            above = path[:-1]
            inner = self._children[above]
            if inner[path]:
                return
            del inner[path]
            if inner:
                return
            del self._children[above]
            path = above

    def below(self, path: KeyPath) -> list[KeyPath]:
        """Return the paths that `path` is a beginning of, itself left out."""
        found: list[KeyPath] = []
        inner = [path]
        while inner:
            for place, is_member in self._children.get(inner.pop(), {}).items():
                if is_member:
                    found.append(place)
                if place in self._children:
                    inner.append(place)
        return found


class Overlay(Generic[Value]):
    """Values of places that lie over a tree, none above or below another: the later one stays.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._values: dict[KeyPath, Value] = {}
        self._index = PathIndex()

    def __len__(self) -> int:
        return len(self._values)

    def items(self) -> ItemsView[KeyPath, Value]:
        """Return paths with their values, as they were set last."""
        return self._values.items()

    def set(self, path: KeyPath, value: Value) -> None:
        """Set a value; what lies at, above and below its place goes."""
        self.clear(path)
        self._values[path] = value
        self._index.add(path)

    def clear(self, path: KeyPath) -> None:
        """Make room for a value: what lies at, above and below its place goes."""
        self.delete(path)
        for size in range(1, len(path)):
            self._remove(path[:size])

    def delete(self, path: KeyPath) -> None:
        """Remove what lies at a place, or below it."""
        for place in self._index.below(path):
            self._remove(place)
        self._remove(path)

    def _remove(self, path: KeyPath) -> None:
        if path in self._values:
            del self._values[path]
            self._index.discard(path)
