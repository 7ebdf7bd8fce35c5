"""Media: what all values have whose bytes are files of the run.

In: what the script made. Out: its content, and the JSON object that stands for it in a row, as W&B writes it.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from runfold.errors import Error
from runfold.wb_value import WBValue

if TYPE_CHECKING:
    from runfold.media.content import Content, Encoded
    from runfold.protocol.keypath import KeyPath

_REFERENCE = re.compile(r"(gs|s3|https?)://")


class Media(WBValue):
    """A value of log(). Its content was captured when it was made. Thread-safe once made."""

    #: What its JSON says under `_type`.
    TYPE: ClassVar[str] = ""
    #: Where its files lie among the run's.
    FOLDER: ClassVar[str] = ""
    #: `_type` of a list of them; None: a list is written as a list.
    LIST_TYPE: ClassVar[str | None] = None
    #: Kept of a list.
    MAX_ITEMS: ClassVar[int | None] = None

    def __init__(self, caption: str | None = None) -> None:
        self.caption = caption
        self._content: Content | None = None
        #: Where it lies elsewhere; such a value can't be logged to a run.
        self.reference: str | None = None
        #: What it was stored as, by run: logged again it is the same file.
        self.stored: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "stored"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be a copy, which no run has stored yet."""
        self.__dict__.update(state)
        self.stored = weakref.WeakKeyDictionary()

    @property
    def content(self) -> Content:
        """What it holds."""
        assert self._content is not None, "every constructor sets it"
        return self._content

    def parts(self) -> Sequence[Media]:
        """Return the media that belong to it and are stored with it: boxes, masks."""
        return ()

    def hold(self) -> None:
        """Make it safe from later changes; called by log() before anything is stored.

        Raises:
            ValueError: It lies elsewhere.
            OSError: Its file has vanished, or can't be copied.
        """
        if self.reference is not None:
            raise ValueError(
                f"{type(self).__name__} media created by a reference to external storage "
                "cannot currently be added to a run"
            )
        self.content.hold()
        for part in self.parts():
            part.hold()

    def logged_at(self, path: KeyPath) -> tuple[KeyPath, Media]:
        """Return where a row keeps it, and as what: here, as itself. Called by log() before `hold`.

        Raises:
            TypeError: Something in it has no form in JSON.
        """
        return path, self

    def store(self, run: Any, key: str, number: int | str) -> dict[str, Any]:
        """Store it in a run; return the JSON object that stands for it. Called once for each run."""
        stored: dict[str, Any] = run._store_file(self, key, number)  # noqa: SLF001  # one product
        return stored

    def facts(self) -> Mapping[str, Any]:
        """Return what its JSON says beside path, size and digest."""
        return {}

    def class_labels(self) -> tuple[str, str, Mapping[Any, str]] | None:
        """Return (kind, key, label by class id) that go to the run's config; None: it has none."""
        return None

    def describe(
        self, name: str, encoded: Encoded, part_json: Callable[[Media], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the JSON object that stands for it.

        Args:
            name: Of its file in the run.
            part_json: Returns that of one of its parts.
        """
        del part_json
        captioned = {} if self.caption is None else {"caption": self.caption}
        told = {"_type": self.TYPE, "sha256": encoded.sha256, "size": encoded.size, "path": name}
        return {**captioned, **told, **self.facts()}

    @classmethod
    def describe_list(cls, items: Sequence[Self], jsons: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON object that stands for a list of them. Only where LIST_TYPE is set."""
        raise NotImplementedError

    def to_json(self, run: Any) -> dict[str, Any]:
        """Return the JSON object that stands for it in a run; store it there if it is not yet."""
        stored: dict[str, Any] = run._store_media(self)  # noqa: SLF001  # one product
        return stored

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return False
        if self.reference is not None or other.reference is not None:
            return self.reference == other.reference and self.caption == other.caption
        mine, theirs = self.content, other.content
        return self.caption == other.caption and (
            mine is theirs or mine.encoded().sha256 == theirs.encoded().sha256
        )

    #: By identity: two values are equal only once both are encoded, and a hash is asked for at once.
    __hash__ = object.__hash__


class BatchableMedia(Media):
    """Of a kind of which a list is written as one object."""


class MediaList(tuple[Media, ...]):
    """A list of media under one key."""

    __slots__ = ()

    @classmethod
    def of(cls, items: Sequence[Media]) -> Self:
        """Return them; of too many the first, with a warning."""
        from runfold import terminal

        kind = type(items[0])
        limit = kind.MAX_ITEMS
        if is_batch(items) and limit is not None and len(items) > limit:
            terminal.warn_once(f"Only {limit} {kind.__name__} will be uploaded: the first of a longer list.")
            items = items[:limit]
        return cls(items)


def is_batch(items: Sequence[Media]) -> bool:
    """Return whether a list of media is written as one object: all of one kind that has a form for lists."""
    kind = type(items[0])
    return kind.LIST_TYPE is not None and all(isinstance(item, kind) for item in items)


def reference_of(path: object) -> str | None:
    """Return what names a place in external storage, else None."""
    return path if isinstance(path, str) and _REFERENCE.match(path) else None


def all_captions(items: Sequence[Media]) -> list[str | None] | bool:
    """Return the captions of a list, as W&B does: False where the first has none."""
    captions = [item.caption for item in items]
    return captions if captions[0] is not None else False


def need(module: str, what: str, extra: str = "media", package: str | None = None) -> Any:
    """Return a library that encodes media.

    Args:
        extra: Of runfold, that brings it.
        package: That brings it, where no extra does.

    Raises:
        Error: It is not installed; says how to get it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        wanted = package or f'"runfold[{extra}]"'
        raise Error(
            f"{what} needs {library}, which can't be imported ({error}): pip install {wanted}"
        ) from error
