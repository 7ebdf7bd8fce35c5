"""RowSchemas: which rows can be packed into fixed slots. In: keys and types of a row. Out: its schema."""

from __future__ import annotations

from runfold.log_values import Cell
from runfold.protocol.keypath import KeyPath
from runfold.protocol.rows import RowSchema

#: Schemas remembered; a key set beyond that gets one only when it comes again.
MAX_SCHEMAS = 256
#: Key sets remembered as seen once.
_MAX_SEEN = 4 * MAX_SCHEMAS
#: Ways remembered to get there: numpy's many number types lead to the same few schemas.
_MAX_WAYS = 8 * MAX_SCHEMAS
_KIND_OF = {float: "d", int: "q", bool: "?"}

#: The keys of a flat dict, then the types of its values.
Types = tuple[object, ...]
#: The keys and the types once more, as lists: what log() compares with the row before; and their schema.
Way = tuple[list[object], list[object], RowSchema | None]
_Columns = tuple[tuple[KeyPath, ...], str]
#: A way that no row takes: a key that is no text.
NO_WAY: Way = ([None], [], None)


class RowSchemas:
    """The schemas of one writer. Rows of text, of lists, of keys that always change have none."""

    __slots__ = ("_known", "_seen", "by_types")

    def __init__(self) -> None:
        #: For log() itself: rows of these keys and types need no conversion.
        self.by_types: dict[Types, Way] = {}
        self._known: dict[_Columns, RowSchema] = {}
        self._seen: dict[_Columns, None] = {}

    def find(self, cells: list[Cell], types: Types | None) -> RowSchema | None:
        """Return the schema of a row of numbers; None when it must travel as a map.

        Args:
            types: Given when the row came as a plain dict: the way is then remembered for the next one.

        Raises:
            LimitError: A key is too long.
        """
        try:
            kinds = "".join([_KIND_OF[type(value)] for _, value in cells])
        except KeyError:
            return None
        columns = (tuple(path for path, _ in cells), kinds)
        schema = self._known.get(columns)
        if schema is None:
            if len(self._known) >= MAX_SCHEMAS and not self._make_room_for(columns):
                return None
            schema = self._known[columns] = RowSchema(*columns)
        if types is not None and 2 * len(cells) == len(types) and _fit_as_they_are(types, schema):
            if len(self.by_types) >= _MAX_WAYS:
                self.by_types.clear()
            self.by_types[types] = ([*types[: len(cells)]], [*types[len(cells) :]], schema)
        return schema

    def _make_room_for(self, columns: _Columns) -> bool:
        """Forget the oldest schema, but only for a key set that was seen before."""
        if columns not in self._seen:
            self._seen[columns] = None
            if len(self._seen) > _MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            return False
        del self._seen[columns]
        gone = self._known.pop(next(iter(self._known)))
        for types in [types for types, (_, _, schema) in self.by_types.items() if schema is gone]:
            del self.by_types[types]
        return True


def _fit_as_they_are(types: Types, schema: RowSchema) -> bool:
    """Whether values of these types go into the schema's slots as they are, without conversion."""
    half = len(schema.paths)
    for name, kind, path, slot in zip(types[:half], types[half:], schema.paths, schema.kinds, strict=True):
        if type(name) is not str or path != (name,) or not isinstance(kind, type):
            return False
        if _KIND_OF.get(kind) != slot and not _is_numpy_slot(kind, slot):
            return False
    return True


def _is_numpy_slot(kind: type, slot: str) -> bool:
    if kind.__module__ != "numpy":
        return False
    bases = {base.__name__ for base in kind.__mro__}
    if slot == "d":
        return "floating" in bases and kind.__name__ not in ("longdouble", "float128")
    return ("integer" if slot == "q" else "bool") in bases or (slot == "?" and "bool_" in bases)
