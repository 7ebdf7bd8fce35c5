"""Pages: a lazy list of what the server gives a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from runfold.api.connection import Connection, Parameters
from runfold.api.errors import RequestError

_T = TypeVar("_T")


class Pages(Sequence[_T], Generic[_T]):
    """A lazy list: pages are fetched as they are reached. Not thread-safe."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        parameters: Parameters,
        key: str,
        make: Callable[[dict[str, Any]], _T],
        *,
        per_page: int,
        max_page: int = 1000,
        once: Callable[[dict[str, Any]], Hashable] | None = None,
    ) -> None:
        """Fetch nothing yet.

        Args:
            key: Under which an answer has its items; `make` makes what people hold of one.
            max_page: What the server gives of one request.
            once: Of the items for which it returns the same, the first alone is listed; not for answers that
                tell a total.

        Raises:
            RequestError: (a ValueError) `per_page` is no number of items.
        """
        if isinstance(per_page, bool) or not isinstance(per_page, int) or per_page < 1:
            raise RequestError("per_page must be a whole number, 1 or more", field="per_page")
        self._connection, self._path, self._key, self._make = connection, path, key, make
        self._parameters = {**parameters, "limit": min(per_page, max_page)}
        self._once, self._seen = once, set[Hashable]()
        self._found: list[_T] = []
        self._cursor: str | None = None
        self._is_whole = False
        self._total: int | None = None

    def __len__(self) -> int:
        if self._total is None and not self._is_whole:
            self._load_page()
        if self._total is None:
            self._load(None)
            return len(self._found)
        return self._total

    def __iter__(self) -> Iterator[_T]:
        place = 0
        while self._load(place):
            yield self._found[place]
            place += 1

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> list[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | list[_T]:
        if isinstance(place, slice):
            self._load(_last_of(place))
            return self._found[place]
        if place < 0:
            self._load(None)
        elif not self._load(place):
            raise IndexError(f"there are {len(self._found)} {self._key}")
        return self._found[place]

    def __repr__(self) -> str:
        return f"<{self._key} of {self._path}>"

    @property
    def more(self) -> bool:
        """Whether there may be some that were not fetched yet."""
        return not self._is_whole

    def _load(self, place: int | None) -> bool:
        """Fetch pages up to a place, None: all; say whether there is something at it."""
        while not self._is_whole and (place is None or place >= len(self._found)):
            self._load_page()
        return place is not None and place < len(self._found)

    def _load_page(self) -> None:
        answer = self._connection.get(self._path, {**self._parameters, "cursor": self._cursor})
        self._found += [self._make(each) for each in answer[self._key] if self._is_new(each)]
        self._total = answer.get("total", self._total)
        self._cursor = answer.get("next_cursor")
        self._is_whole = self._cursor is None

    def _is_new(self, item: dict[str, Any]) -> bool:
        if self._once is None:
            return True
        before = len(self._seen)
        self._seen.add(self._once(item))
        return len(self._seen) > before


def _last_of(places: slice) -> int | None:
    """Return the last place that a slice may reach; None: it is told from the end, or goes to it."""
    start, stop, step = places.start, places.stop, places.step
    if stop is None or stop < 0 or (start or 0) < 0 or (step or 1) < 0:
        return None
    return int(stop) - 1
