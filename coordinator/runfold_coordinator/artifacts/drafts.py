"""Drafts: what somebody wants to be a version, checked; and rows of them. In: words of clients."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from runfold.protocol.artifact_names import (
    LATEST,
    MAX_LABELS,
    ArtifactNameError,
    check_alias,
    check_name,
    check_tag,
    version_index,
)
from runfold.protocol.content_sum import is_md5_hex
from runfold.protocol.errors import ProtocolError
from runfold.protocol.file_names import is_digest
from runfold.protocol.values import pack_value
from runfold_coordinator.artifacts.errors import ArtifactRefusedError
from runfold_coordinator.store.catalogue_reads import unpack_stored
from runfold_coordinator.store.names import clean_text

#: Longest description of a version or a collection, in characters.
MAX_DESCRIPTION_CHARS = 65_536
#: Metadata of a version, packed.
MAX_METADATA_BYTES = 1024 * 1024
MAX_METADATA_DEPTH = 60
#: Collections that one commit may link its version into.
MAX_LINKS = 100
#: Longest name of an entity or project.
MAX_PLACE_CHARS = 1024
MAX_DISTRIBUTED_ID_CHARS = 1024
#: A hundred years; longer is for ever.
MAX_TTL_S = 100 * 366 * 86400.0
_CLIENT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Target:
    """A collection that versions are linked into."""

    entity: str
    project: str
    name: str

    @classmethod
    def parse(cls, text: str, entity: str, project: str) -> Self:
        """Return the target of "[[entity/]project/]name"; what is not said is `entity`, `project`.

        Raises:
            ArtifactRefusedError: It is none.
        """
        parts = text.split("/")
        if len(parts) > 3 or not all(parts) or any(len(part) > MAX_PLACE_CHARS for part in parts):
            raise ArtifactRefusedError(
                "bad_target",
                f"{text[:300]!r} is no target of a link: use [[entity/]project/]collection",
                field="target",
            )
        with_name(functools.partial(check_name, parts[-1]), "target")
        found = [clean_text(part) for part in parts]
        return cls(*[entity, project, ""][: 3 - len(found)], *found)


@dataclass(frozen=True, slots=True)
class Ttl:
    """How long a version lives. `seconds` None: for ever, or what the collection says."""

    seconds: float | None = None
    is_inherited: bool = True

    @classmethod
    def parse(cls, said: object) -> Self:
        """Return what a number of seconds, None (for ever) or "inherit" means.

        Raises:
            ArtifactRefusedError: It is none of them.
        """
        if said == "inherit":
            return cls()
        if said is None:
            return cls(None, is_inherited=False)
        is_number = isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)
        if not is_number or not 0 < float(said) <= MAX_TTL_S:  # type: ignore[arg-type]
            raise ArtifactRefusedError(
                "bad_ttl", 'ttl_s is a number of seconds, null or "inherit"', field="ttl_s"
            )
        return cls(float(said), is_inherited=False)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class About:
    """What a commit says beside its files."""

    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    ttl: Ttl = Ttl()
    #: (target, aliases)
    links: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: Its files are added to those of the collection's latest version
    incremental: bool = False

    def pack(self) -> bytes:
        """Return msgpack; what Python allows and msgpack has no place for was refused by `checked_about`."""
        ttl = [self.ttl.seconds, self.ttl.is_inherited]
        return pack_value(
            {
                "description": self.description,
                "metadata": dict(self.metadata),
                "aliases": list(self.aliases),
                "tags": list(self.tags),
                "ttl": ttl,
                "links": [[target, list(aliases)] for target, aliases in self.links],
                "incremental": self.incremental,
            },
            max_depth=MAX_METADATA_DEPTH + 4,
        )

    @classmethod
    def unpack(cls, data: bytes | None) -> Self:
        """Return what `pack` packed."""
        found = unpack_stored(data)
        if not found:
            return cls()
        return cls(
            description=found["description"],
            metadata=found["metadata"],
            aliases=tuple(found["aliases"]),
            tags=tuple(found["tags"]),
            ttl=Ttl(*found["ttl"]),
            links=tuple((target, tuple(aliases)) for target, aliases in found["links"]),
            incremental=found["incremental"],
        )

    def with_later(self, later: About) -> About:
        """Return this with what a later part of the same version says."""
        return replace(
            self,
            description=self.description if later.description is None else later.description,
            metadata={**self.metadata, **later.metadata},
            aliases=_united(self.aliases, later.aliases),
            tags=_united(self.tags, later.tags),
            ttl=self.ttl if later.ttl.is_inherited else later.ttl,
            links=_united(self.links, later.links),
            incremental=self.incremental or later.incremental,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A commit as it was asked for, checked."""

    client_id: str
    entity: str
    project: str
    name: str
    type: str
    manifest: str
    digest: str
    said_unix_ns: int
    run_pk: int | None = None
    writer_id: str | None = None
    distributed_id: str | None = None
    finalize: bool = True
    about: About = About()

    @property
    def is_part(self) -> bool:
        """Whether others make the version with it."""
        return self.distributed_id is not None


def is_client_id(text: str) -> bool:
    """Return whether `text` is 128 bits in lower-case hex."""
    return _CLIENT_ID.fullmatch(text) is not None


def checked_about(
    *,
    description: str | None,
    metadata: Mapping[str, Any],
    aliases: Sequence[str],
    tags: Sequence[str],
    ttl: object,
    links: Sequence[tuple[str, Sequence[str]]] = (),
    incremental: bool = False,
) -> About:
    """Return what a commit says, if all of it may be.

    Raises:
        ArtifactRefusedError: A part of it may not; the error names it.
    """
    if len(links) > MAX_LINKS:
        raise ArtifactRefusedError("too_many", "too many links", field="links", limit=MAX_LINKS)
    found = tuple((target, checked_aliases(said)) for target, said in links)
    for target, _ in found:
        Target.parse(target, "entity", "project")
    return About(
        description=checked_description(description),
        metadata=checked_metadata(metadata),
        aliases=checked_aliases(aliases),
        tags=checked_tags(tags),
        ttl=Ttl.parse(ttl),
        links=found,
        incremental=incremental,
    )


def checked_description(text: str | None) -> str | None:
    """Return the text as a database can keep it."""
    if text is not None and len(text) > MAX_DESCRIPTION_CHARS:
        raise ArtifactRefusedError(
            "too_long", "the description is too long", field="description", limit=MAX_DESCRIPTION_CHARS
        )
    return None if text is None else clean_text(text)


def checked_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata, if it can be kept."""
    try:
        pack_value(dict(metadata), max_bytes=MAX_METADATA_BYTES, max_depth=MAX_METADATA_DEPTH)
    except (ProtocolError, TypeError) as error:
        raise ArtifactRefusedError(
            "bad_metadata", f"the metadata can't be kept: {error}", field="metadata", limit=MAX_METADATA_BYTES
        ) from error
    return metadata


def checked_aliases(aliases: Sequence[str]) -> tuple[str, ...]:
    """Return the aliases, each once."""
    return _checked_labels("aliases", aliases, check_alias)


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags, each once."""
    return _checked_labels("tags", tags, check_tag)


def checked_md5(text: str, what: str) -> str:
    """Return an MD5 in hex."""
    if not is_md5_hex(text):
        raise ArtifactRefusedError("bad_digest", f"{what} is no MD5 in lower-case hex", field=what)
    return text


def checked_digest(text: str, what: str) -> str:
    """Return a SHA-256 in hex."""
    if not is_digest(text):
        raise ArtifactRefusedError("bad_digest", f"{what} is no SHA-256 in lower-case hex", field=what)
    return text


def split_versions(aliases: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the aliases that may be given, and those that look like versions: "v3" means the fourth one."""
    ignored = [alias for alias in aliases if version_index(alias) is not None]
    return [alias for alias in aliases if alias not in ignored], ignored


def with_latest(aliases: Sequence[str]) -> list[str]:
    """Return the aliases of a version that was logged just now."""
    return list(dict.fromkeys((LATEST, *aliases)))


def with_name(check: Callable[[], str], what: str) -> str:
    """Return what `check()` returns.

    Raises:
        ArtifactRefusedError: It says that the name may not be.
    """
    try:
        return check()
    except ArtifactNameError as error:
        field_name = "target" if what == "target" else error.field or what
        raise ArtifactRefusedError("bad_name", str(error), field=field_name, limit=error.limit) from error


def _checked_labels(what: str, labels: Sequence[str], check: Callable[[str], str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(clean_text(label) for label in labels))
    if len(found) > MAX_LABELS:
        raise ArtifactRefusedError("too_many", f"more than {MAX_LABELS} {what}", field=what, limit=MAX_LABELS)
    for label in found:
        with_name(functools.partial(check, label), what)
    return found


def _united(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((*first, *second)))
