"""Types of a table's columns: what a column holds, which cells it takes, and why it refuses one. Pure.

They go by W&B's rules and print as W&B prints them. A type is never changed: `taking` returns the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from runfold.media.cell_values import LISTS, is_array, is_none, items_of, shape_of


class CellType:
    """What a column, an element of a list or a key of a dict holds."""

    #: As it is written in a table's JSON.
    NAME: ClassVar[str] = ""

    def taking(self, value: Any) -> CellType | None:
        """Return the type that holds this value too; None: it can't."""
        return self if self == type_of(value) else None

    def params(self) -> dict[str, Any]:
        """Return what its JSON says beside its name."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return it as W&B writes it."""
        params = self.params()
        return {"wb_type": self.NAME, "params": params} if params else {"wb_type": self.NAME}

    def explain(self, value: Any, depth: int = 0) -> str:
        """Return why it does not take a value, in lines that are indented by `depth` tabs."""
        return f"{_tabs(depth)}{type_of(value)!r} not assignable to {self!r}\n"

    def __repr__(self) -> str:
        return self.NAME.capitalize()


@dataclass(frozen=True, repr=False, slots=True)
class Named(CellType):
    """One of the types that have nothing but a name: number, string, html-file, ..."""

    name: str

    def to_json(self) -> dict[str, Any]:
        """Return it as W&B writes it."""
        return {"wb_type": self.name}

    def __repr__(self) -> str:
        return self.name.capitalize()


NONE, BOOLEAN, NUMBER, STRING = Named("none"), Named("boolean"), Named("number"), Named("string")
TIMESTAMP, INVALID, PRIMARY_KEY = Named("timestamp"), Named("invalid"), Named("primaryKey")


class AnyType(CellType):
    """Takes everything but None."""

    NAME = "any"

    def taking(self, value: Any) -> CellType | None:
        """Return itself, None for None."""
        return None if is_none(value) else self


class Unknown(CellType):
    """Becomes the type of the first value that is not None."""

    NAME = "unknown"

    def taking(self, value: Any) -> CellType | None:
        """Return the value's type, None for None."""
        return None if is_none(value) else type_of(value)


ANY, UNKNOWN = AnyType(), Unknown()


@dataclass(frozen=True, repr=False, slots=True)
class PythonObject(CellType):
    """An object of a class that has no type of its own; classes are the same if their names are."""

    NAME = "pythonObject"
    class_name: str

    def params(self) -> dict[str, Any]:
        """Return the name of the class."""
        return {"class_name": self.class_name}

    def __repr__(self) -> str:
        return f"Pythonobject(class_name:{self.class_name})"


@dataclass(frozen=True, repr=False, slots=True)
class Constant(CellType):
    """Takes one value only."""

    NAME = "const"
    value: Any

    def taking(self, value: Any) -> CellType | None:
        """Return itself if it is the value."""
        return self if type(value) is type(self.value) and value == self.value else None

    def params(self) -> dict[str, Any]:
        """Return the value."""
        return {"val": self.value, "is_set": False}

    def __repr__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, repr=False, slots=True)
class Array(CellType):
    """A NumPy array, or lists, of one shape."""

    NAME = "ndarray"
    shape: tuple[int, ...]

    def taking(self, value: Any) -> CellType | None:
        """Return itself if the value has its shape."""
        return self if shape_of(value) == self.shape else None

    def params(self) -> dict[str, Any]:
        """Return the shape."""
        return {"shape": list(self.shape), "serialization_path": None}

    def __repr__(self) -> str:
        return f"Ndarray(shape:{list(self.shape)})"


@dataclass(frozen=True, repr=False, slots=True)
class ListOf(CellType):
    """A list, a tuple, a set or a NumPy array of elements of one type."""

    NAME = "list"
    element: CellType
    #: Of the list that was taken last; None: none was.
    length: int | None = None

    def taking(self, value: Any) -> CellType | None:
        """Return a list whose elements hold this list's too."""
        items = items_of(value)
        if items is None:
            return None
        element: CellType = self.element
        for item in items:
            taken = element.taking(item)
            if taken is None:
                return None
            element = taken
        return ListOf(element, len(items))

    def params(self) -> dict[str, Any]:
        """Return the element's type and the length."""
        return {"element_type": self.element.to_json(), "length": self.length}

    def explain(self, value: Any, depth: int = 0) -> str:
        """Return why not, down to the first element."""
        text = CellType.explain(self, value, depth)
        if is_array(value):
            return text
        for index, item in enumerate(items_of(value) or ()):
            if self.element.taking(item) is None:
                tabs = _tabs(depth)
                return f"{text}{tabs}Index {index}:\n{self.element.explain(item, depth + 1)}"
        return text

    def __repr__(self) -> str:
        return f"{self.element!r}[]"


@dataclass(frozen=True, repr=False, slots=True)
class DictOf(CellType):
    """A dict with these keys, each of its own type. A row is one, too."""

    NAME = "typedDict"
    types: Mapping[Any, CellType]

    def taking(self, value: Any) -> CellType | None:
        """Return a dict that holds this one too: no other keys, a missing one is None."""
        if type(value) is not dict or value.keys() - self.types.keys():
            return None
        taken = {key: kind.taking(value.get(key)) for key, kind in self.types.items()}
        kept = {key: kind for key, kind in taken.items() if kind is not None}
        return DictOf(kept) if len(kept) == len(taken) else None

    def params(self) -> dict[str, Any]:
        """Return the type of each key."""
        return {"type_map": {str(key): kind.to_json() for key, kind in self.types.items()}}

    def explain(self, value: Any, depth: int = 0) -> str:
        """Return why not: each key that does not fit."""
        text = CellType.explain(self, value, depth)
        return text + self.explain_keys(value, depth) if type(value) is dict else text

    def explain_keys(self, value: Mapping[Any, Any], depth: int = 0) -> str:
        """Return which keys do not fit, and why."""
        tabs = _tabs(depth)
        extra = [str(key) for key in value if key not in self.types]
        text = f"{tabs}Found extra keys: {','.join(extra)}\n" if extra else ""
        for key, kind in self.types.items():
            if kind.taking(value.get(key)) is None:
                text += f"{tabs}Key '{key}':\n{kind.explain(value.get(key), depth + 1)}"
        return text

    def __repr__(self) -> str:
        return repr(dict(self.types))


@dataclass(frozen=True, repr=False, slots=True)
class OneOf(CellType):
    """One of several types, in the order of their names."""

    NAME = "union"
    kinds: tuple[CellType, ...]

    @classmethod
    def of(cls, kinds: Iterable[CellType]) -> OneOf:
        """Return them in their order."""
        return cls(tuple(sorted(kinds, key=repr)))

    def taking(self, value: Any) -> CellType | None:
        """Return them with the first that takes the value; what is not known yet comes last."""
        for kind in sorted(self.kinds, key=lambda kind: isinstance(kind, Unknown)):
            taken = kind.taking(value)
            if taken is kind:
                return self
            if taken is not None:
                return OneOf.of(taken if each is kind else each for each in self.kinds)
        return None

    def params(self) -> dict[str, Any]:
        """Return the types."""
        return {"allowed_types": [kind.to_json() for kind in self.kinds]}

    def explain(self, value: Any, depth: int = 0) -> str:
        """Return why none of them takes it."""
        whys = [kind.explain(value, depth + 1) for kind in self.kinds]
        return CellType.explain(self, value, depth) + f"{_tabs(depth)}and\n".join(whys)

    def __repr__(self) -> str:
        return " or ".join(map(repr, self.kinds))


def optional(kind: CellType) -> CellType:
    """Return the type that takes None too."""
    return OneOf.of((NONE, *(kind.kinds if isinstance(kind, OneOf) else (kind,))))


def explain_row(row: DictOf, value: Mapping[Any, Any]) -> str:
    """Return why a row refuses a value: W&B's text of the TypeError."""
    return (
        "Data row contained incompatible types:\n"
        f"{value!r} of type {type_of(dict(value))!r} is not assignable to {row!r}\n{row.explain_keys(value)}"
    )


def _tabs(depth: int) -> str:
    return "\t" * depth


def type_of(value: Any) -> CellType:
    """Return the type that a value has by itself."""
    if is_none(value):
        return NONE
    kind = type(value)
    named = _BY_CLASS.get((kind.__module__, kind.__name__))
    if named is not None:
        return named
    if kind is dict:
        return DictOf({key: type_of(item) for key, item in value.items()})
    if kind in LISTS:
        return _list_type(list(value))
    if is_array(value):
        return Array(tuple(value.shape))
    if kind.__module__ == "numpy":
        return _of_numpy(value)
    if kind.__module__.startswith("runfold."):
        own = getattr(value, "_cell_type", None)
        if own is not None:
            found: CellType = own()
            return found
    return _of_media(kind) or PythonObject(kind.__name__)


def _of_numpy(value: Any) -> CellType:
    bases = {base.__name__ for base in type(value).__mro__}
    if "datetime64" in bases:
        return TIMESTAMP
    if "bool_" in bases or "bool" in bases:
        return BOOLEAN
    if "number" in bases and "timedelta64" not in bases:
        return NUMBER
    return PythonObject(type(value).__name__)


def _list_type(items: Sequence[Any]) -> ListOf:
    element: CellType = optional(UNKNOWN) if any(item is None for item in items) else UNKNOWN
    taken = ListOf(element).taking(items)
    return taken if isinstance(taken, ListOf) else ListOf(INVALID, len(items))


_BY_CLASS: dict[tuple[str, str], CellType] = {
    ("builtins", "bool"): BOOLEAN,
    ("builtins", "int"): NUMBER,
    ("builtins", "float"): NUMBER,
    ("builtins", "str"): STRING,
    ("datetime", "datetime"): TIMESTAMP,
    ("datetime", "date"): TIMESTAMP,
}


def declared(kind: Any) -> CellType:
    """Return the type that a `dtype` names: a class, a list or a dict of such, a type, or a constant.

    Raises:
        TypeError: It names no type.
    """
    if isinstance(kind, CellType):
        return kind
    if kind is None or kind is type(None):
        return NONE
    if isinstance(kind, type):
        return _of_class(kind)
    if type(kind) is list:
        return ListOf(declared(kind[0]) if kind else UNKNOWN)
    if type(kind) is dict:
        return DictOf({key: declared(item) for key, item in kind.items()})
    return Constant(kind)


def _of_class(kind: type) -> CellType:
    named = _BY_CLASS.get((kind.__module__, kind.__name__))
    if named is not None:
        return named
    if kind in LISTS:
        return ListOf(UNKNOWN)
    if kind is dict:
        return DictOf({})
    bases = {base.__name__ for base in kind.__mro__}
    if kind.__module__ == "numpy":
        if "ndarray" in bases:
            raise TypeError(
                "a dtype of arrays needs their shape: give an array of that shape as the first value"
            )
        if "datetime64" in bases:
            return TIMESTAMP
        if "bool" in bases or "bool_" in bases:
            return BOOLEAN
        return NUMBER if "number" in bases else PythonObject(kind.__name__)
    return _of_media(kind) or PythonObject(kind.__name__)


def _of_media(kind: type) -> CellType | None:
    """Return the type of a class of media, None for any other class."""
    name = getattr(kind, "TYPE", "") if kind.__module__.startswith("runfold.") else ""
    return Named(name) if isinstance(name, str) and name else None
