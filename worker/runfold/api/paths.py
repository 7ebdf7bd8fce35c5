"""Paths of runs, projects and groups as people type them. Pure; in: text, out: parts, or RequestError."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from runfold.api.errors import RequestError


@dataclass(frozen=True, slots=True)
class Defaults:
    """What stands in for parts that a path leaves out."""

    entity: str
    project: str


def parse_run_path(path: str, defaults: Defaults) -> tuple[str, str, str]:
    """Return (entity, project, run id) of "entity/project/id", "project/id", "id", or a run's address."""
    parts = _parts(path)
    if len(parts) == 4 and parts[2] == "runs":
        del parts[2]
    if not 1 <= len(parts) <= 3:
        raise RequestError(f"{path!r} is no path of a run", field="path", hint="entity/project/run_id")
    entity, project = _filled(parts[:-1], defaults)
    return entity, project, parts[-1]


def parse_project_path(path: str | None, defaults: Defaults) -> tuple[str, str]:
    """Return (entity, project) of "entity/project", "project", or None for the default project."""
    parts = _parts(path or "")
    if len(parts) > 2:
        raise RequestError(f"{path!r} is no path of a project", field="path", hint="entity/project")
    return _filled(parts, defaults)


def parse_group_path(path: str, defaults: Defaults) -> tuple[str, str, str]:
    """Return (entity, project, group) of "entity/project/group", "project/group" or "group".

    A group's name may itself hold slashes when entity and project are both given.
    """
    parts = path.strip("/").split("/", 2)
    if parts[-1:] == [""] or not parts:
        raise RequestError(f"{path!r} is no path of a group", field="path", hint="entity/project/group")
    entity, project = _filled(parts[:-1], defaults)
    return entity, project, parts[-1]


def route(*parts: str) -> str:
    """Return a path of the HTTP API; each part is quoted whole."""
    return "/" + "/".join(_quoted(part) for part in parts)


def _quoted(part: str) -> str:
    # "." and ".." would be taken for folders on the way.
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _parts(path: str) -> list[str]:
    if path.startswith(("http://", "https://")):
        path = urlsplit(path).path
    return [part for part in path.strip().strip("/").split("/") if part]


def _filled(parts: list[str], defaults: Defaults) -> tuple[str, str]:
    if len(parts) == 2:
        return parts[0], parts[1]
    return defaults.entity, parts[0] if parts else defaults.project
