"""ArtifactCollection and ArtifactType: what versions belong to, read from the server, and lazy lists."""

from __future__ import annotations

import copy
from typing import Any, Self

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError
from runfold.api.pages import Pages
from runfold.api.paths import route
from runfold.artifacts.artifact import Artifact
from runfold.artifacts.facts_part import iso_time
from runfold.artifacts.labels import check_description, check_name, check_tags
from runfold.protocol.artifact_names import check_name as check_path_name


class ArtifactCollection:
    """Versions under one name. What is changed is told to the server by `save()`."""

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._take(document)

    @classmethod
    def _fetch(cls, connection: Connection, collection_id: str) -> Self:
        answer = connection.get(route("artifacts", "collections", collection_id))
        return cls(connection, answer["collection"])

    def _take(self, document: dict[str, Any]) -> None:
        self._document = document
        self._edited = {name: copy.deepcopy(document[name]) for name in ("name", "description", "tags")}

    @property
    def id(self) -> str:
        """Its id on the server."""
        return str(self._document["id"])

    @property
    def entity(self) -> str:
        """Whose it is."""
        return str(self._document["entity"])

    @property
    def project(self) -> str:
        """The project that it is in."""
        return str(self._document["project"])

    @property
    def type(self) -> str:
        """What kind of things its versions are."""
        return str(self._document["type"])

    @property
    def name(self) -> str:
        """What it is called; may be set."""
        return str(self._edited["name"])

    @name.setter
    def name(self, name: str) -> None:
        self._edited["name"] = check_name(name)

    @property
    def description(self) -> str | None:
        """A text for people; may be set."""
        found = self._edited["description"]
        return None if found is None else str(found)

    @description.setter
    def description(self, description: str | None) -> None:
        self._edited["description"] = check_description(description)

    @property
    def tags(self) -> list[str]:
        """Words to find it by; may be set, or changed in place."""
        found: list[str] = self._edited["tags"]
        return found

    @tags.setter
    def tags(self, tags: list[str]) -> None:
        self._edited["tags"] = check_tags(tags)

    @property
    def aliases(self) -> list[str]:
        """All aliases of its versions."""
        return list(self._document["aliases"])

    @property
    def created_at(self) -> str:
        """When it was made, ISO 8601, UTC."""
        return iso_time(self._document["created_unix_s"])

    def is_sequence(self) -> bool:
        """Say whether versions are logged into it; else they are linked into it, as into a registry's."""
        return bool(self._document["kind"] == "logged")

    def artifacts(self, per_page: int = 50) -> Pages[Artifact]:
        """Return its versions, newest first, as a lazy list."""
        return versions(self._connection, self.id, per_page=per_page)

    versions = artifacts

    def save(self) -> None:
        """Tell the server what was changed. CommError: it can't be reached, or refused."""
        changes: dict[str, Any] = {
            name: value for name, value in self._edited.items() if value != self._document[name]
        }
        if "tags" in changes:
            changes["tags"] = check_tags(changes["tags"])
        if changes:
            self._take(self._connection.patch_json(self._route(), changes)["collection"])

    def delete(self) -> None:
        """Delete it with its versions. CommError: the server can't be reached, or refused."""
        self._connection.delete(self._route(), {"force": True})

    def _route(self) -> str:
        return route("artifacts", "collections", self.id)

    def __repr__(self) -> str:
        return f"<ArtifactCollection {self.name} ({self.type})>"


class ArtifactType:
    """One kind of things in a project."""

    def __init__(self, connection: Connection, entity: str, project: str, name: str) -> None:
        self._connection, self.entity, self.project = connection, entity, project
        self._name = name

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def type(self) -> str:
        """The same as `name`, W&B's old word."""
        return self._name

    def collections(self, per_page: int = 50) -> Pages[ArtifactCollection]:
        """Return the collections of this type, by name, as a lazy list."""
        return collections(
            self._connection, self.entity, self.project, type_name=self._name, per_page=per_page
        )

    def collection(self, name: str) -> ArtifactCollection:
        """Return a collection. NotFoundError (a ValueError) if there is none of this type."""
        return find_collection(self._connection, self.entity, self.project, self._name, name)

    def __repr__(self) -> str:
        return f"<ArtifactType {self._name}>"


def versions(
    connection: Connection, collection_id: str, *, per_page: int, tags: list[str] | None = None
) -> Pages[Artifact]:
    """Return the versions of a collection, newest first."""
    return Pages(
        connection,
        route("artifacts", "collections", collection_id, "versions"),
        {"tags": tags},
        "artifacts",
        lambda document: Artifact._of_server(connection, document),  # noqa: SLF001  # one family
        per_page=per_page,
    )


def collections(
    connection: Connection, entity: str, project: str, *, type_name: str | None, per_page: int
) -> Pages[ArtifactCollection]:
    """Return the collections of a project, by name."""
    return Pages(
        connection,
        route("artifacts", "collections"),
        {"entity": entity, "project": project, "type": type_name},
        "collections",
        lambda document: ArtifactCollection(connection, document),
        per_page=per_page,
    )


def find_collection(
    connection: Connection, entity: str, project: str, type_name: str | None, name: str
) -> ArtifactCollection:
    """Return a collection. NotFoundError (a ValueError): there is none of this name and type."""
    parameters = {"entity": entity, "project": project, "name": check_path_name(name), "type": type_name}
    found = connection.get(route("artifacts", "collections"), parameters)["collections"]
    if not found:
        kind = f" of type {type_name!r}" if type_name else ""
        raise NotFoundError(f"there is no collection {entity}/{project}/{name}{kind}")
    return ArtifactCollection(connection, found[0])
