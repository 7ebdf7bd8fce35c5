"""Manifests read and written an entry at a time: a version of a million files costs the memory of one.

The form is that of `runfold.protocol.manifest.Manifest.pack`, and no other: names in ascending order, no
blanks. So names are unique, the digest is a sum over what passes by, and equal entries are equal bytes.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from runfold.protocol.errors import DecodeError, LimitError, ProtocolError
from runfold.protocol.file_names import check_file_name
from runfold.protocol.manifest import MANIFEST_VERSION, MAX_ENTRIES, MAX_MANIFEST_BYTES, Entry, EntrySums

_HEAD = f'{{"v":{MANIFEST_VERSION},"entries":{{'
_TAIL = "}}"
_READ_BYTES = 256 * 1024
#: One entry with its name, as JSON: a name may have 1 kB, a reference and its digest 4 kB each.
MAX_ENTRY_CHARS = 128 * 1024
_decode = json.JSONDecoder().raw_decode


class Readable(Protocol):
    """What manifests are read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


@dataclass(slots=True)
class ManifestSums:
    """What is known of a manifest when its entries have passed."""

    count: int = 0
    #: Bytes of all files, and of the references that tell theirs.
    size: int = 0
    #: As of `runfold.protocol.manifest.EntrySums`.
    digest: str = ""
    content_digest: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a manifest to go on reading from: after the entry `name`, at a byte of the file."""

    name: str
    position: int


def read_entries(
    file: Readable,
    *,
    since: Mark | None = None,
    on_mark: Callable[[Mark], None] | None = None,
    mark_every: int = 500,
) -> Iterator[tuple[str, Entry]]:
    """Yield the entries by name.

    Args:
        since: Go on from here; the file stands at its position.
        on_mark: Told a place to go on from, after each `mark_every` entries.

    Raises:
        ProtocolError: It is no manifest, or it is over a limit; when the place is reached.
    """
    text = _Text(file, since.position if since else 0)
    last, count = since.name if since else "", 0
    if since is None:
        text.expect(_HEAD)
        if text.skip("}"):
            text.end(_TAIL[1:])
            return
    while True:
        name, found, separator = text.pair()
        if not isinstance(name, str) or ((count or since) and name <= last):
            raise DecodeError("the names of a manifest are in ascending order, each once", field="entries")
        count += 1
        if count > MAX_ENTRIES:
            raise LimitError("the manifest has too many files", field="entries", limit=MAX_ENTRIES)
        last = name
        yield check_file_name(name), Entry.from_map(found)
        if separator == "}":
            text.end(_TAIL[1:])
            return
        if separator != ",":
            raise DecodeError("the manifest is no JSON", field="manifest")
        if on_mark is not None and count % mark_every == 0:
            on_mark(Mark(name, text.position))


def summed(entries: Iterable[tuple[str, Entry]], sums: ManifestSums) -> Iterator[tuple[str, Entry]]:
    """Pass the entries on; when they are through, `sums` is complete."""
    total = EntrySums()
    for name, entry in entries:
        total.add(name, entry)
        sums.count += 1
        sums.size += entry.size or 0
        yield name, entry
    if sums.size >= 2**63:
        raise LimitError("the files of the manifest have more bytes than can be", field="size", limit=2**63)
    sums.digest, sums.content_digest = total.digest, total.content_digest


def packed_entries(entries: Iterable[tuple[str, Entry]]) -> Iterator[bytes]:
    """Yield the manifest's bytes, in pieces of some hundred kB.

    Raises:
        LimitError: More entries, or bytes, than a manifest may have.
    """
    piece, held, total = [_HEAD], 0, 0
    for count, (name, entry) in enumerate(entries):
        if count >= MAX_ENTRIES:
            raise LimitError("the manifest has too many files", field="entries", limit=MAX_ENTRIES)
        said = json.dumps(entry.to_map(), separators=(",", ":"))
        piece.append(f"{',' if count else ''}{json.dumps(name)}:{said}")
        held += len(piece[-1])
        total += len(piece[-1])
        if total > MAX_MANIFEST_BYTES:
            raise LimitError("the manifest is too large", field="manifest", limit=MAX_MANIFEST_BYTES)
        if held > _READ_BYTES:
            yield "".join(piece).encode()
            piece, held = [], 0
    piece.append(_TAIL)
    yield "".join(piece).encode()


class _Text:
    """The text of a file, of which little is held."""

    def __init__(self, file: Readable, position: int = 0) -> None:
        self._file = file
        #: Bytes of the file before the buffer.
        self._passed_bytes = position
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = ""
        self._at = 0
        self._read_bytes = 0
        self._is_ended = False

    @property
    def position(self) -> int:
        """The byte of the file that is next."""
        return self._passed_bytes + len(self._buffer[: self._at].encode())

    def expect(self, text: str) -> None:
        while len(self._buffer) - self._at < len(text) and self._fill():
            pass
        if not self._buffer.startswith(text, self._at):
            raise DecodeError("no manifest of a version that is known", field="v")
        self._at += len(text)

    def skip(self, char: str) -> bool:
        while len(self._buffer) == self._at and self._fill():
            pass
        if self._buffer[self._at : self._at + 1] != char:
            return False
        self._at += 1
        return True

    def end(self, text: str) -> None:
        self.expect(text)
        if self._at < len(self._buffer) or self._fill():
            raise DecodeError("there is something after the manifest", field="manifest")

    def pair(self) -> tuple[Any, Any, str]:
        """Return a name, its value, and the character after them."""
        while True:
            try:
                name, at = _decode(self._buffer, self._at)
                if self._buffer[at] != ":":
                    raise DecodeError("the manifest is no JSON", field="manifest")
                value, at = _decode(self._buffer, at + 1)
                separator = self._buffer[at]
            except (ValueError, IndexError, RecursionError) as error:
                if isinstance(error, ProtocolError):
                    raise
                # Not a whole pair yet, or none at all: that is known when more of it would be too much.
                if len(self._buffer) - self._at > MAX_ENTRY_CHARS or not self._fill():
                    raise DecodeError("the manifest is no JSON, or is cut off", field="manifest") from error
                continue
            self._at = at + 1
            return name, value, separator

    def _fill(self) -> bool:
        """Read on; return whether there was anything."""
        if self._is_ended:
            return False
        data = self._file.read(_READ_BYTES)
        self._is_ended = not data
        self._read_bytes += len(data)
        if self._read_bytes > MAX_MANIFEST_BYTES:
            raise LimitError("the manifest is too large", field="manifest", limit=MAX_MANIFEST_BYTES)
        try:
            more = self._decoder.decode(data, final=self._is_ended)
        except UnicodeDecodeError as error:
            raise DecodeError("the manifest is no UTF-8", field="manifest") from error
        self._passed_bytes = self.position
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        return bool(data)
