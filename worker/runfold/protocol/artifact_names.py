"""Names of artifacts, their types, aliases and tags: W&B's rules. Pure.

`ArtifactPath` is how people name a version: "[entity/[project/]]name[:version or alias]".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runfold.protocol.errors import ProtocolError

MAX_NAME_CHARS = 128
MAX_TYPE_CHARS = 128
MAX_ALIAS_CHARS = 128
#: Aliases, and tags, of one version.
MAX_LABELS = 1000
LATEST = "latest"
#: Project of the registry's collections, as in W&B.
REGISTRY_PROJECT = "model-registry"
#: Type -> how names begin that are reserved with it.
_RESERVED_PREFIXES = {"job": "", "run_table": "run-", "code": "source-"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TAG = re.compile(r"[-\w]+( +[-\w]+)*")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})")


class ArtifactNameError(ProtocolError):
    """A name, type, alias or tag that no artifact may have."""


@dataclass(frozen=True, slots=True)
class ArtifactPath:
    """A version as people name it. None: not said."""

    entity: str | None
    project: str | None
    name: str
    #: "v3", an alias, or a digest; None: not said, which means "latest".
    version: str | None

    @classmethod
    def parse(cls, text: str) -> ArtifactPath:
        """Return the parts of "[entity/[project/]]name[:version]"; ArtifactNameError if it is none."""
        place, _, version = text.partition(":")
        parts = place.split("/")
        if len(parts) > 3 or not all(parts) or (":" in text and not version):
            raise ArtifactNameError(
                f"{text[:300]!r} is no name of an artifact: use [entity/[project/]]name:version", field="name"
            )
        check_name(parts[-1])
        entity = parts[0] if len(parts) == 3 else None
        project = parts[-2] if len(parts) > 1 else None
        return cls(entity, project, parts[-1], version or None)


def check_name(name: str) -> str:
    """Return the name of an artifact's collection, without version or alias, if it may be one."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ArtifactNameError(
            "Artifact name may only contain alphanumeric characters, dashes, underscores, and dots"
            f"{', at most 128 of them' if len(str(name)) > MAX_NAME_CHARS else ''}. "
            f"Invalid name: {str(name)[:200]!r}",
            field="name",
            limit=MAX_NAME_CHARS,
        )
    return name


def check_type(type: str, name: str = "") -> str:  # noqa: A002  # W&B's name
    """Return the type if users may give it to an artifact of this name."""
    prefix = _RESERVED_PREFIXES.get(type)
    if type.startswith("wandb-") or (prefix is not None and name.startswith(prefix)):
        raise ArtifactNameError(
            f"Artifact type {type!r} is reserved for internal use. Please use a different type.", field="type"
        )
    if len(type) > MAX_TYPE_CHARS:
        raise ArtifactNameError(
            f"Artifact type is longer than {MAX_TYPE_CHARS} characters", field="type", limit=MAX_TYPE_CHARS
        )
    return type


def check_alias(alias: str) -> str:
    """Return the alias if it may be one."""
    if not isinstance(alias, str) or not alias or len(alias) > MAX_ALIAS_CHARS:
        raise ArtifactNameError(
            f"Aliases must not be empty or longer than {MAX_ALIAS_CHARS} characters. "
            f"Invalid alias: {str(alias)[:200]!r}",
            field="aliases",
        )
    if set(alias) & set("/:"):
        raise ArtifactNameError(
            "Aliases must not contain any of the following characters: '/', ':'", field="aliases"
        )
    return alias


def check_tag(tag: str) -> str:
    """Return the tag if it may be one."""
    if not isinstance(tag, str) or len(tag) > MAX_ALIAS_CHARS or _TAG.fullmatch(tag) is None:
        raise ArtifactNameError(
            "Invalid tag(s).  Tags must only contain alphanumeric characters separated by hyphens, "
            "underscores, and/or spaces.",
            field="tags",
        )
    return tag


def version_index(text: str) -> int | None:
    """Return 3 for "v3", None for what is no version."""
    found = _VERSION.fullmatch(text)
    return int(found[1]) if found else None
