"""ApiArtifacts: what `Api` finds of artifacts. ArtifactRuns: what a stored run does. Parts of Api and Run."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError, RequestError
from runfold.api.paths import Defaults, parse_project_path, route
from runfold.api.run_document import RunDocument
from runfold.protocol.artifact_names import ArtifactNameError, ArtifactPath

if TYPE_CHECKING:
    from runfold.api.pages import Pages
    from runfold.artifacts.artifact import Artifact
    from runfold.artifacts.collections import ArtifactCollection, ArtifactType


class ApiArtifacts:
    """Versions by name, and lists of them, of collections and of types. Part of Api."""

    _connection: Connection
    _defaults: Defaults

    def artifact(self, name: str, type: str | None = None) -> Artifact:  # noqa: A002  # W&B's name
        """Return a version.

        Args:
            name: "[entity/[project/]]name:version", or with an alias ("latest" by default), or a digest.
            type: What its type must be; None: any.

        Raises:
            NotFoundError: (a CommError and a ValueError) There is none. ValueError: It has another type.
        """
        from runfold.artifacts.lookup import find_artifact

        found = find_artifact(self._connection, name, self._defaults.entity, self._defaults.project)
        if type is not None and found.type != type:
            raise ValueError(f"type {type} specified but this artifact is of type {found.type}")
        return found

    def artifact_exists(self, name: str, type: str | None = None) -> bool:  # noqa: A002  # W&B's name
        """Say whether there is such a version."""
        try:
            found = self.artifact(name)
        except NotFoundError:
            return False
        return type is None or found.type == type

    def artifacts(
        self, type_name: str, name: str, per_page: int = 50, tags: list[str] | str | None = None
    ) -> Pages[Artifact]:
        """Return the versions of a collection, newest first, as a lazy list.

        Args:
            type_name: The collection's type.
            name: "[entity/[project/]]name".
            per_page: Versions fetched at a time.
            tags: Only versions that have all of these.

        Raises:
            NotFoundError: (a CommError and a ValueError) There is no such collection.
        """
        from runfold.artifacts.collections import versions
        from runfold.artifacts.labels import as_list

        collection = self.artifact_collection(type_name, name)
        return versions(self._connection, collection.id, per_page=per_page, tags=as_list(tags) or None)

    artifact_versions = artifacts

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """Return a type of a project. NotFoundError if it has no collection of it.

        Args:
            project: "entity/project" or "project"; None: the default project.
        """
        for found in self.artifact_types(project):
            if found.name == type_name:
                return found
        raise NotFoundError(
            f"there is no artifact of type {type_name!r} in {project or 'the default project'}"
        )

    def artifact_types(self, project: str | None = None) -> list[ArtifactType]:
        """Return the types of a project's collections.

        Args:
            project: "entity/project" or "project"; None: the default project.
        """
        from runfold.artifacts.collections import ArtifactType

        entity, name = parse_project_path(project, self._defaults)
        answer = self._connection.get(route("artifacts", "types"), {"entity": entity, "project": name})
        return [ArtifactType(self._connection, entity, name, each["name"]) for each in answer["types"]]

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """Return a collection.

        Args:
            name: "[entity/[project/]]name".

        Raises:
            NotFoundError: (a CommError and a ValueError) There is none of this name and type.
        """
        from runfold.artifacts.collections import find_collection

        try:
            asked = ArtifactPath.parse(name)
        except ArtifactNameError as error:
            raise RequestError(str(error), field="name") from error
        return find_collection(
            self._connection,
            asked.entity or self._defaults.entity,
            asked.project or self._defaults.project,
            type_name,
            asked.name,
        )

    def artifact_collection_exists(self, name: str, type: str) -> bool:  # noqa: A002  # W&B's name
        """Say whether there is such a collection."""
        try:
            return bool(self.artifact_collection(type, name))
        except NotFoundError:
            return False

    def artifact_collections(
        self, project_name: str, type_name: str, per_page: int = 50
    ) -> Pages[ArtifactCollection]:
        """Return the collections of one type in a project, by name, as a lazy list."""
        from runfold.artifacts.collections import collections

        entity, project = parse_project_path(project_name, self._defaults)
        return collections(self._connection, entity, project, type_name=type_name, per_page=per_page)


class RunArtifacts(RunDocument):
    """What a stored run logged and used. Part of Run."""

    def logged_artifacts(self, per_page: int = 100) -> Pages[Artifact]:
        """Return the versions that the run logged, oldest first, as a lazy list."""
        return self._artifacts("logged", per_page)

    def used_artifacts(self, per_page: int = 100) -> Pages[Artifact]:
        """Return the versions that the run used, each once, oldest first, as a lazy list."""
        return self._artifacts("used", per_page)

    def use_artifact(self, artifact: Artifact, use_as: str | None = None) -> Artifact:
        """Note that the run used a version, and return it.

        Raises:
            ValueError: It is no version yet. CommError: The server can't be reached, or refused.
        """
        return self._note(artifact, {"relation": "used", "use_as": use_as})

    def log_artifact(
        self, artifact: Artifact, aliases: list[str] | str | None = None, tags: list[str] | str | None = None
    ) -> Artifact:
        """Note that the run brought a version that is there, and return it.

        Args:
            aliases, tags: Given to the version.

        Raises:
            TypeError: It is no artifact. ValueError: It is no version yet. CommError: As of use_artifact().
        """
        from runfold.artifacts.labels import check_aliases, check_tags

        said = {"relation": "logged", "aliases": check_aliases(aliases), "tags": check_tags(tags)}
        return self._note(artifact, said)

    def _note(self, artifact: Artifact, said: Mapping[str, object]) -> Artifact:
        from runfold.artifacts.artifact import Artifact

        if not isinstance(artifact, Artifact):
            raise TypeError("You must pass a wandb.Api().artifact() to use_artifact or log_artifact")
        if artifact.is_draft():
            raise ValueError(
                "Only existing artifacts are accepted by this api. Log the draft in a run first."
            )
        answer = self._connection.post(self._route("artifacts"), {**said, "artifact": artifact.id})
        return Artifact._of_server(self._connection, answer["artifact"])  # noqa: SLF001  # one family

    def _artifacts(self, relation: str, per_page: int) -> Pages[Artifact]:
        from runfold.api.pages import Pages
        from runfold.artifacts.artifact import Artifact

        return Pages(
            self._connection,
            self._route("artifacts"),
            {"relation": relation},
            "artifacts",
            lambda document: Artifact._of_server(self._connection, document),  # noqa: SLF001  # one family
            per_page=per_page,
            once=operator.itemgetter("id"),
        )
