"""A row of log() that holds media: what is said of it at once, and what follows. Pure but for `hold`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """Make all media of a row safe from later changes; nothing of the row is stored when that can't be.

    Raises:
        ValueError, OSError: See `Media.hold`.
    """
    for _, value in media:
        for item in value if isinstance(value, MediaList) else (value,):
            item.hold()


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


def supersede(rows: Iterable[MediaRow], step: int, cells: MediaCells) -> None:
    """Note for which media of the row of `step` these cells, which come later, say something else.

    A cell above or below a medium's path replaces it too, as everywhere in a row.
    """
    for row in rows:
        if row.step == step:
            for path, _ in row.media:
                if any(other[: len(path)] == path or path[: len(other)] == other for other, _ in cells):
                    row.superseded.add(path)
