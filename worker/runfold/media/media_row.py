"""A row of log() that holds media: what is said of it at once, and what follows. Pure but for `hold`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runfold.media.media import Media, MediaList, is_batch
from runfold.protocol.keypath import KeyPath

MediaCells = Sequence[tuple[KeyPath, Any]]


@dataclass(frozen=True, slots=True)
class MediaRow:
    """What follows a row.

    Attributes:
        step: Of the row.
        number: The step that the process had reached before; in the names of files, as W&B has it.
        commits: Whether the row is complete with it.
        media: Its Media and MediaLists, by key path.
        superseded: Paths of those for which a later call said something else.
    """

    step: int
    number: int
    commits: bool
    media: MediaCells
    superseded: set[KeyPath] = field(default_factory=set)


def hold(media: MediaCells) -> None:
    """Make all media of a row safe from later changes; nothing of the row is stored when one can't be any.

    Where there is no place for a copy (a full disk), training goes on: who encodes it tries once more, and
    tells the loss.

    Raises:
        FileNotFoundError: The file of one has vanished, as in W&B. ValueError: see `Media.hold`.
    """
    for _, value in media:
        for item in value if isinstance(value, MediaList) else (value,):
            try:
                item.hold()
            except OSError:
                _raise_if_vanished(item)


def _raise_if_vanished(item: Media) -> None:
    for one in (item, *item.parts()):
        if one.content.source is not None:
            one.content.source.stat()


def without_media(cells: MediaCells) -> list[tuple[KeyPath, Any]]:
    """Return a row's cells with nothing but the kind of each of its media.

    A process that is killed before they are encoded leaves that: a kind without a path is a lost value.
    """
    said: list[tuple[KeyPath, Any]] = []
    for path, value in cells:
        if isinstance(value, Media):
            said.append(((*path, "_type"), value.TYPE))
        elif not isinstance(value, MediaList):
            said.append((path, value))
        elif is_batch(value):
            said.append(((*path, "_type"), type(value[0]).LIST_TYPE))
        else:
            said.append((path, [{"_type": item.TYPE} for item in value]))
    return said


class OpenMedia:
    """Rows of one process whose media have not followed yet. Not thread-safe: the recorder's lock is held."""

    def __init__(self) -> None:
        self._rows: list[MediaRow] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def open(self, row: MediaRow, cells: MediaCells) -> list[tuple[KeyPath, Any]]:
        """Take in a row whose media will follow; return what is said of it at once."""
        self.supersede(row.step, [cell for cell in cells if not isinstance(cell[1], (Media, MediaList))])
        self._rows.append(row)
        return without_media(cells)

    def close(self, row: MediaRow, said: MediaCells) -> list[tuple[KeyPath, Any]]:
        """Forget a row; return what follows it, without what a later call said otherwise.

        Args:
            said: Under the path of each medium that could be stored, its leaves.
        """
        self._rows = [other for other in self._rows if other is not row]
        return [cell for path, cells in said if path not in row.superseded for cell in cells]

    def supersede(self, step: int, cells: MediaCells) -> None:
        """Note for which media of the row of `step` these cells, which come later, say something else.

        A cell above or below a medium's path replaces it too, as everywhere in a row.
        """
        for row in self._rows:
            if row.step == step:
                for path, _ in row.media:
                    if any(other[: len(path)] == path or path[: len(other)] == other for other, _ in cells):
                        row.superseded.add(path)
