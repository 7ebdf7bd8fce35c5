"""`Api`: the way into a server's runs, projects and groups."""

from __future__ import annotations

import os
from typing import Any

from runfold.api.artifacts import ApiArtifacts
from runfold.api.catalogue import Catalogue
from runfold.api.connection import Connection
from runfold.api.group import Group
from runfold.api.paths import Defaults, parse_group_path, parse_project_path, parse_run_path, route
from runfold.api.run import Run
from runfold.api.runs import Runs

DEFAULT_ENTITY = "local"
DEFAULT_PROJECT = "uncategorized"


class Api(Catalogue, ApiArtifacts):
    """One server. Opens nothing before it is asked something.

    Args:
        url: The server's address; None: RUNFOLD_URL, else the local server that `runfold up` registered.
        api_key: None: RUNFOLD_API_KEY.
        timeout: Longest wait for one answer, seconds; None: 30.
        overrides: W&B's way to give "entity", "project" and "base_url".

    Thread-safe, and usable after a fork. Every method that asks the server raises CommError when no answer
    comes (reads are repeated first), AuthenticationError when it asks for another key, RequestError (a
    ValueError too) when an argument is wrong.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        *,
        overrides: dict[str, Any] | None = None,
    ) -> None:
        said = overrides or {}
        self._connection = Connection(url or said.get("base_url"), api_key, timeout)
        self._defaults = Defaults(
            entity=said.get("entity") or _setting("ENTITY") or DEFAULT_ENTITY,
            project=said.get("project") or _setting("PROJECT") or DEFAULT_PROJECT,
        )

    @property
    def url(self) -> str:
        """The server's address; CommError if none is given, set or registered."""
        return self._connection.url

    def run(self, path: str) -> Run:
        """Return a run, loaded with config and summary.

        Args:
            path: "entity/project/run_id", "project/run_id" or "run_id".

        Raises:
            RunNotFoundError: (a CommError and a ValueError) There is no such run.
        """
        entity, project, run_id = parse_run_path(path, self._defaults)
        document = self._connection.get(
            route("runs", entity, project, run_id), {"include": ["config", "summary"]}
        )
        return Run(self._connection, document)

    def runs(  # noqa: PLR0917 - W&B's order of arguments
        self,
        path: str | None = None,
        filters: dict[str, Any] | None = None,
        order: str = "+created_at",
        per_page: int = 50,
        include_sweeps: bool = False,
        lazy: bool = True,
    ) -> Runs:
        """Return the runs of a project that pass `filters`, as a lazy list.

        Args:
            path: "entity/project" or "project"; None: the default project.
            filters: MongoDB style: {"state": "finished", "config.lr": {"$lt": 0.1}}; see docs/api.md.
            order: "+" or "-" and created_at, heartbeat_at, config.<key>.value, summary_metrics.<key>, ...
            include_sweeps: Accepted for W&B's scripts: `Run.sweep` is asked for when it is read.
            per_page: Runs fetched at a time, at most 1000.
            lazy: Leave config and summary to be fetched when they are read; False brings them with the list.

        Raises:
            RequestError: (a ValueError) `per_page` or `filters` is not what it should be. Of wrong fields,
                operators and orders the server tells when the first page is read.
        """
        del include_sweeps
        entity, project = parse_project_path(path, self._defaults)
        # W&B's client remembers lists; here a script that polls gets a new one.
        return Runs(
            self._connection,
            entity,
            project,
            filters=filters,
            order=order,
            per_page=per_page,
            include=() if lazy else ("config", "summary"),
        )

    def all_runs(
        self, filters: dict[str, Any] | None = None, order: str = "-created_at", per_page: int = 50
    ) -> Runs:
        """Return the runs of every project that pass `filters`, newest first, as a lazy list."""
        return Runs(self._connection, None, None, filters=filters, order=order, per_page=per_page)

    def group(self, path: str) -> Group:
        """Return a group.

        Args:
            path: "entity/project/group", "project/group" or "group".

        Raises:
            GroupNotFoundError: (a CommError and a ValueError) No run belongs to it.
        """
        entity, project, name = parse_group_path(path, self._defaults)
        return Group(self._connection, self._connection.get(route("groups", entity, project), {"name": name}))

    def nodes(self, host: str | None = None) -> list[dict[str, Any]]:
        """Return the nodes that agents work on, last heard of first, a dict each.

        host, boot_id, agent (its id), started_at, last_seen and sampled_at (unix s); gpus (dicts: index,
        uuid, name, memory_bytes, ...), facts (cpu_count, memory_bytes, driver, ...), metrics (the newest
        sample by name, without "system."), writers (the processes that run there: entity, project, run_id,
        writer, label, rank, pid, state).

        Args:
            host: Only nodes of this name.
        """
        found: list[dict[str, Any]] = self._connection.get("/nodes", {"host": host})["nodes"]
        return found

    def alerts(self, path: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest alerts of all runs, newest first, as `Run.alerts()` does.

        Args:
            path: "entity/project" or "project": only of its runs.
            limit: 1 to 1000.
        """
        entity, project = (None, None) if path is None else parse_project_path(path, self._defaults)
        wanted = {"entity": entity, "project": project, "limit": limit}
        found: list[dict[str, Any]] = self._connection.get("/alerts", wanted)["alerts"]
        return found

    def flush(self) -> None:
        """Do nothing: lists are never remembered here (W&B's name)."""

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._connection.close()


def _setting(name: str) -> str | None:
    """Return RUNFOLD_<name>, else W&B's variable."""
    return os.environ.get(f"RUNFOLD_{name}") or os.environ.get(f"WANDB_{name}") or None
