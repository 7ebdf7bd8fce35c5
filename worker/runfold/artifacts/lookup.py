"""Finding versions on the server by the names that people type."""

from __future__ import annotations

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError, RequestError
from runfold.api.paths import route
from runfold.artifacts.artifact import Artifact
from runfold.protocol.artifact_names import ArtifactNameError, ArtifactPath


def find_artifact(connection: Connection, path: str, entity: str, project: str) -> Artifact:
    """Return a version.

    Args:
        path: "[entity/[project/]]name:version", an alias for the version, or a digest.
        entity, project: What a path means that names none.

    Raises:
        RequestError: (a ValueError) It is no such path. NotFoundError: (a ValueError) There is none.
        CommError: The server can't be reached.
    """
    try:
        asked = ArtifactPath.parse(path)
    except ArtifactNameError as error:
        raise RequestError(str(error), field="name") from error
    parameters = {
        "entity": asked.entity or entity,
        "project": asked.project or project,
        "name": asked.name,
        "version": asked.version,
    }
    document = connection.get("/artifacts/find", parameters)["artifact"]
    return Artifact._of_server(connection, document)  # noqa: SLF001  # one family


def type_of_collection(connection: Connection, entity: str, project: str, name: str) -> str | None:
    """Return the type of a collection that versions are logged into; None where there is none yet.

    Raises:
        CommError: The server did not answer; asked once only.
    """
    parameters = {"entity": entity, "project": project, "name": name, "kind": "logged"}
    try:
        found = connection.get_once(route("artifacts", "collections"), parameters)["collections"]
    except NotFoundError:
        return None
    return str(found[0]["type"]) if found else None
