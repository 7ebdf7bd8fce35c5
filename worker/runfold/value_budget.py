"""How much one call of log(), or one value of config or summary, may hold. Asked before values are read.

What is within these limits fits into one record (`runfold.protocol.limits`) and takes no call longer than
about two seconds on two slow cores; it is refused before anything passes over it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, islice
from typing import Any, NoReturn

from runfold.protocol.errors import LimitError
from runfold.protocol.keypath import KeyPath
from runfold.protocol.limits import (
    MAX_ELEMENTS,
    MAX_RECORD_BYTES,
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_KEYS,
    MAX_SCHEMA_PARTS,
)

#: Elements of all lists and of dicts in lists.
MAX_LIST_ELEMENTS = 900_000
#: Text, UTF-8, and numbers in lists, 9 bytes each.
MAX_TEXT_BYTES = MAX_RECORD_BYTES - 1024 * 1024
#: Arrays that become histograms.
MAX_ARRAY_BYTES = 1024 * 1024 * 1024
#: Of a row: what up to so many cells and their keys take is left free by the limits above.
FREE_CELLS = 200
#: Text so short is not counted where there are no more cells.
SHORT_TEXT = 100

_WAY_OUT = "Save it as a file (run.save) or in an artifact"
_Left = tuple[int, int, int, int, int, int]


def utf8_size(text: str) -> int:
    """Return how many bytes a text takes, without encoding long ones."""
    if text.isascii():
        return len(text)
    return len(text.encode("utf-8", "surrogatepass")) if len(text) <= MAX_RECORD_BYTES else len(text)


def _fit_easily(cells: list[tuple[KeyPath, Any]], elements: int, size: int) -> bool:
    """Whether cells fit even if each holds the longest of short texts: faster than to count them."""
    paths = [path for path, _ in cells]
    count, parts = len(cells), sum(map(len, paths))
    key_bytes = utf8_size("".join(chain.from_iterable(paths)))
    return (
        count <= MAX_SCHEMA_KEYS
        and parts <= MAX_SCHEMA_PARTS
        and key_bytes <= MAX_SCHEMA_BYTES
        and parts + 3 * count <= elements
        and key_bytes + 5 * parts + (16 + 4 * SHORT_TEXT) * count <= size
    )


class Budget:
    """What may still be taken. What raises LimitError was not taken, but for parts of it: see `left`."""

    __slots__ = ("_array_bytes", "_elements", "_key_bytes", "_keys", "_parts", "_text_bytes")

    def __init__(self) -> None:
        self._elements = MAX_LIST_ELEMENTS
        self._text_bytes = MAX_TEXT_BYTES
        self._array_bytes = MAX_ARRAY_BYTES
        self._keys, self._key_bytes, self._parts = MAX_SCHEMA_KEYS, MAX_SCHEMA_BYTES, MAX_SCHEMA_PARTS

    @property
    def left(self) -> _Left:
        """All that is left, to go back to when a value was refused."""
        return self._elements, self._text_bytes, self._array_bytes, self._keys, self._key_bytes, self._parts

    @left.setter
    def left(self, left: _Left) -> None:
        self._elements, self._text_bytes, self._array_bytes, self._keys, self._key_bytes, self._parts = left

    def check_text(self, size: int) -> None:
        """Raise LimitError for a text of `size` bytes that would be too much; take nothing."""
        if size > self._text_bytes:
            raise LimitError(
                f"{size:,} bytes of text; at most {MAX_TEXT_BYTES:,} fit into a row. {_WAY_OUT}",
                field="value",
                limit=MAX_TEXT_BYTES,
            )

    def text(self, text: str) -> None:
        """Take a text."""
        size = utf8_size(text)
        if size > self._text_bytes:
            self.check_text(size)
        self._text_bytes -= size

    def check_elements(self, count: int) -> None:
        """Raise LimitError for `count` elements that would be too many; take nothing."""
        if count > self._elements or 9 * count > self._text_bytes:
            self._refuse_elements(f"{count:,}")

    def elements(self, count: int) -> None:
        """Take `count` elements of a list, or keys and values of a dict, without what these hold."""
        self.check_elements(count)
        self._elements -= count
        self._text_bytes -= 9 * count

    def allowed(self, items: Iterable[Any]) -> list[Any]:
        """Return the elements of what may have no end; raise LimitError for too many; take nothing."""
        most = min(self._elements, self._text_bytes // 9)
        found = list(islice(items, most + 1))
        if len(found) > most:
            self._refuse_elements(f"more than {most:,}")
        return found

    def array(self, size: int) -> None:
        """Take an array of `size` bytes."""
        self.check_array(size)
        self._array_bytes -= size

    def check_array(self, size: int) -> None:
        """Raise LimitError for an array of `size` bytes that would be too much; take nothing."""
        if size > self._array_bytes:
            raise LimitError(
                f"an array of {size:,} bytes; a call counts at most {MAX_ARRAY_BYTES:,}. Log "
                f"runfold.Histogram(array), which takes any size and its time, "
                f"runfold.Histogram(np_histogram=...), or s{_WAY_OUT[1:]}",
                field="value",
                limit=MAX_ARRAY_BYTES,
            )

    def keys(self, path: KeyPath, names: Collection[str]) -> None:
        """Take keys of a row that lie below `path`."""
        above = sum(map(utf8_size, path))
        count = len(names)
        size = above * count + (sum(map(utf8_size, names)) if count <= self._keys else 0)
        parts = (len(path) + 1) * count
        if count > self._keys or size > self._key_bytes or parts > self._parts:
            raise LimitError(
                f"{count:,} keys in a dict; a row has at most {MAX_SCHEMA_KEYS:,}, and "
                f"{MAX_SCHEMA_BYTES:,} bytes of them. Log a Table, or s{_WAY_OUT[1:]}",
                field="value",
                limit=MAX_SCHEMA_KEYS,
            )
        self._keys, self._key_bytes, self._parts = (
            self._keys - count,
            self._key_bytes - size,
            self._parts - parts,
        )

    def cells_that_fit(self, cells: list[tuple[KeyPath, Any]]) -> int:
        """Return how many of a row's cells fit into it. Of their values all but short texts were taken."""
        elements = MAX_ELEMENTS - 1000 - (MAX_LIST_ELEMENTS - self._elements)
        size = MAX_RECORD_BYTES - 1000 - (MAX_TEXT_BYTES - self._text_bytes)
        key_bytes, parts = MAX_SCHEMA_BYTES, MAX_SCHEMA_PARTS
        if _fit_easily(cells, elements, size):
            return len(cells)
        for index, (path, value) in enumerate(cells):
            of_key = sum(map(utf8_size, path))
            key_bytes -= of_key
            parts -= len(path)
            elements -= len(path) + 3
            size -= of_key + 5 * len(path) + 16
            if type(value) is str and len(value) <= SHORT_TEXT:
                size -= utf8_size(value)
            if min(elements, size, key_bytes, parts) < 0 or index >= MAX_SCHEMA_KEYS:
                return index
        return len(cells)

    def _refuse_elements(self, count: str) -> NoReturn:
        raise LimitError(
            f"{count} elements in a list or dict; at most {MAX_LIST_ELEMENTS:,}, and {MAX_TEXT_BYTES:,} "
            f"bytes, fit into a row. Log a histogram or a Table, or s{_WAY_OUT[1:]}",
            field="value",
            limit=MAX_LIST_ELEMENTS,
        )
