"""`Said`: an attribute whose value is the server's word, unchanged and typed."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, Self, TypeVar, overload

from runfold.errors import UnsupportedError

T = TypeVar("T")


class Said(Generic[T]):
    """Reads from the owner's `_document`, under the attribute's name unless another is given. Read-only."""

    def __init__(self, doc: str, *, name: str = "") -> None:
        self.__doc__ = doc
        self._name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Any, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else instance._document[self._name]  # noqa: SLF001 - it is the owner's

    def __set__(self, instance: Any, value: object) -> NoReturn:
        raise UnsupportedError(f"{self._name} can't be set: it is what the run's processes bring about")
