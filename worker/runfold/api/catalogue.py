"""Catalogue: projects and sweeps of a server; runs that are made by hand, or were deleted. Part of Api."""

from __future__ import annotations

from typing import Any, Literal

from runfold.api.connection import Connection
from runfold.api.errors import NotFoundError, RequestError
from runfold.api.paths import Defaults, parse_project_path, parse_run_path, route
from runfold.api.project import Project
from runfold.api.run import Run
from runfold.api.sweep import Sweep


class Catalogue:
    """What there is beside runs and groups."""

    _connection: Connection
    _defaults: Defaults

    @property
    def default_entity(self) -> str:
        """The entity of paths that name none."""
        return self._defaults.entity

    @property
    def default_project(self) -> str:
        """The project of paths that name none."""
        return self._defaults.project

    @property
    def connection(self) -> Connection:
        """What asks the server."""
        return self._connection

    def projects(self, entity: str | None = None, per_page: int = 200) -> list[Project]:
        """Return the projects, of one entity or of all.

        Args:
            per_page: Accepted for W&B's scripts: all of them come at once.
        """
        del per_page
        found = self._connection.get("/projects", {"entity": entity})["projects"]
        return [Project(self._connection, document) for document in found]

    def project(self, name: str, entity: str | None = None) -> Project:
        """Return a project.

        Raises:
            NotFoundError: (a ValueError) There is none of this name.
        """
        owner, name = parse_project_path(name if entity is None else f"{entity}/{name}", self._defaults)
        for found in self.projects(owner):
            if found.name == name:
                return found
        raise NotFoundError(f"no project {owner}/{name}")

    def create_project(self, name: str, entity: str | None = None) -> None:
        """Make a project without runs; one that is there stays as it is.

        Raises:
            RequestError: (a ValueError) A name that a project can't have.
        """
        self._connection.post("/projects", {"entity": entity or self.default_entity, "name": name})

    def create_run(
        self,
        *,
        run_id: str | None = None,
        project: str | None = None,
        entity: str | None = None,
        state: Literal["running", "pending"] = "running",
    ) -> Run:
        """Make a run that has no process yet; see `Run.create`."""
        return Run.create(self, run_id, project, entity, state)

    def deleted_runs(self, path: str | None = None) -> list[dict[str, Any]]:
        """Return the runs that were deleted and can be brought back, the newest deletion first, a dict each.

        entity, project, id, name, state, ..., deleted_at, deleted_by and purged_after (ISO 8601 in UTC).

        Args:
            path: "entity/project" or "project": only of its runs.
        """
        entity, project = (None, None) if path is None else parse_project_path(path, self._defaults)
        wanted = {"entity": entity, "project": project}
        found: list[dict[str, Any]] = self._connection.get("/deleted-runs", wanted)["runs"]
        return found

    def undelete(self, path: str) -> Run:
        """Bring a deleted run back, with all that its processes have logged meanwhile; return it.

        Raises:
            RunNotFoundError: (a ValueError) There was none of this path, or it has been removed for good.
        """
        names = parse_run_path(path, self._defaults)
        self._connection.post(route("runs", *names, "undelete"), {})
        document = self._connection.get(route("runs", *names), {"include": ["config", "summary"]})
        return Run(self._connection, document)

    def sweep(self, path: str = "") -> Sweep:
        """Return a sweep: the runs that were started under one sweep id.

        Args:
            path: "entity/project/sweep_id", "project/sweep_id" or "sweep_id".

        Raises:
            NotFoundError: (a ValueError) No run has this sweep id.
        """
        if not path.strip("/"):
            raise RequestError("a sweep has an id", field="path", hint="entity/project/sweep_id")
        parts = [part for part in path.strip("/").split("/") if part != "sweeps"]
        entity, project, sweep_id = parse_run_path("/".join(parts), self._defaults)
        for found in Project.sweeps_of(self._connection, entity, project):
            if found.id == sweep_id:
                return found
        raise NotFoundError(f"no run of {entity}/{project} belongs to sweep {sweep_id}")
