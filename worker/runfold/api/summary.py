"""`RunSummary`: the summary of a stored run, as nested dicts with W&B's attribute access; to be changed.

In: the values as loaded. Out: changes, which `update()` hands to the run to be sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from runfold.errors import UsageError
from runfold.log_values import convert

#: ["set", path, value] or ["del", path], as PATCH takes them.
Changes = list[list[Any]]
_DELETED: Any = object()


class RunSummary(MutableMapping[str, Any]):
    """Values by key, as of loading; `summary.loss.min` reads as `summary["loss"]["min"]`.

    What is set or deleted shows here at once, and is sent by `update()`, or by `Run.update()`. A value that
    was set stays, whatever the run logs, until it is deleted or its process sets it by hand.
    """

    def __init__(self, values: Mapping[str, Any], send: Callable[[Changes], None]) -> None:
        self._values = copy.deepcopy(dict(values))
        self._send = send
        #: By path: the value that was set, or _DELETED; not sent yet.
        self._changed: dict[tuple[str, ...], Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self._wrapped((key,), self._values[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self._set((key,), value)

    def __delitem__(self, key: str) -> None:
        self._delete((key,))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the summary has no {name!r}") from error

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError as error:
            raise AttributeError(f"the summary has no {name!r}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other.as_dict() if isinstance(other, RunSummary) else other)

    __hash__ = None  # type: ignore[assignment]  # as a dict

    def __repr__(self) -> str:
        return repr(self._values)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as plain dicts."""
        return self._values

    def update(  # type: ignore[override]  # W&B's arguments
        self,
        key_vals: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        overwrite: bool = True,
        **values: Any,
    ) -> None:
        """Set these values, if any, and send all that was changed.

        Args:
            key_vals: Values by key.
            overwrite: False: keys that have a value keep it.
            values: More of them.

        Raises:
            UsageError: A value is of a type that has no place in a summary.
            CommError: The server did not take it; it may be tried again.
        """
        for key, value in {**dict(key_vals or {}), **values}.items():
            if overwrite or key not in self._values:
                self[key] = value
        if changes := self.changes():
            self._send(changes)

    def changes(self) -> Changes:
        """Return what was changed and not sent yet, oldest first."""
        return [
            ["del", list(path)] if value is _DELETED else ["set", list(path), value]
            for path, value in self._changed.items()
        ]

    def _forget_changes(self, sent: Changes) -> None:
        """These were sent."""
        for change in sent:
            self._changed.pop(tuple(change[1]), None)

    def _set(self, path: tuple[str, ...], value: Any) -> None:
        plain = _plain(path, value)
        tree = self._values
        for part in path[:-1]:
            if not isinstance(tree.get(part), dict):
                tree[part] = {}
            tree = tree[part]
        tree[path[-1]] = copy.deepcopy(plain)
        self._note(path, plain)

    def _delete(self, path: tuple[str, ...]) -> None:
        tree = self._values
        for part in path[:-1]:
            tree = tree[part]
        del tree[path[-1]]
        self._note(path, _DELETED)

    def _note(self, path: tuple[str, ...], value: Any) -> None:
        """Of one place the newest change is sent, and none of what lay below it."""
        for other in [other for other in self._changed if other[: len(path)] == path]:
            del self._changed[other]
        self._changed[path] = value

    def _wrapped(self, path: tuple[str, ...], value: Any) -> Any:
        return SummaryPart(self, path, value) if isinstance(value, dict) else value


class SummaryPart(dict[str, Any]):
    """A nested part of a summary: a dict whose keys can be read, set and deleted as attributes too."""

    def __init__(self, summary: RunSummary, path: tuple[str, ...], values: Mapping[str, Any]) -> None:
        super().__init__(values)
        object.__setattr__(self, "_summary", summary)
        object.__setattr__(self, "_path", path)

    def __getitem__(self, key: str) -> Any:
        return self._summary._wrapped((*self._path, key), super().__getitem__(key))  # noqa: SLF001 - its part

    def __setitem__(self, key: str, value: Any) -> None:
        self._summary._set((*self._path, key), value)  # noqa: SLF001 - its part
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._summary._delete((*self._path, key))  # noqa: SLF001 - its part

    def update(self, *args: Any, **values: Any) -> None:
        """Set these values; `update()` of the whole summary sends them."""
        for key, value in dict(*args, **values).items():
            self[key] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the summary has no {name!r}") from error

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> Any:
        return (dict, (dict(self),))


def _plain(path: tuple[str, ...], value: Any, depth: int = 0) -> Any:
    """Return a value as it travels: what log() takes, and dicts and lists of such."""
    if not isinstance(path[-1], str):
        raise UsageError(f"summary keys are texts, not {type(path[-1]).__name__}")
    try:
        plain = convert(value, depth)
    except (TypeError, ValueError) as error:
        raise UsageError(f"summary[{'.'.join(path)!r}] can't be set: {error}") from error
    if isinstance(plain, Mapping):
        return {key: _plain((*path, key), item, depth + 1) for key, item in plain.items()}
    return plain
