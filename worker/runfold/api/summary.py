"""`RunSummary`: the summary of a stored run, as nested dicts with W&B's attribute access. Read-only yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from runfold.errors import UnsupportedError


class RunSummary(Mapping[str, Any]):
    """Values by key, as of loading; `summary.loss.min` reads as `summary["loss"]["min"]`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return _wrapped(self._values[key])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
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

    def __setitem__(self, key: str, value: object) -> NoReturn:
        raise UnsupportedError(
            f"can't set {key!r}: the summary of a stored run is read-only; use run.summary in training"
        )

    def update(self, *_args: object, **_values: object) -> NoReturn:
        """Raise: a stored run is read-only at present."""
        raise UnsupportedError("the summary of a stored run is read-only; use run.summary in training")


def _wrapped(value: Any) -> Any:
    return SummaryPart(value) if isinstance(value, dict) else value


class SummaryPart(dict[str, Any]):
    """A nested part of a summary: a dict whose keys can be read as attributes."""

    def __getitem__(self, key: str) -> Any:
        return _wrapped(super().__getitem__(key))

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the summary has no {name!r}") from error
