"""`Project`: a project of a server, with W&B's names; a dict of what the server said of it too."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from runfold.api.connection import Connection
from runfold.api.runs import Runs
from runfold.api.sweep import Sweep


class Project(dict[str, Any]):
    """`entity`, `name` and `run_count`, as of asking."""

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        super().__init__(document)
        self._connection = connection

    @property
    def name(self) -> str:
        """Its name."""
        return str(self["name"])

    @property
    def entity(self) -> str:
        """Whose it is."""
        return str(self["entity"])

    @property
    def id(self) -> str:
        """An id unique on the server."""
        return f"{self.entity}/{self.name}"

    @property
    def run_count(self) -> int:
        """How many runs it has."""
        return int(self["run_count"])

    @property
    def path(self) -> list[str]:
        """[entity, name]."""
        return [self.entity, self.name]

    @property
    def url(self) -> str:
        """Address of its page."""
        return f"{self._connection.url}/{quote(self.entity, safe='')}/{quote(self.name, safe='')}"

    def runs(
        self, filters: dict[str, Any] | None = None, order: str = "+created_at", per_page: int = 50
    ) -> Runs:
        """Return its runs, as `Api.runs` does."""
        return Runs(self._connection, self.entity, self.name, filters=filters, order=order, per_page=per_page)

    def sweeps(self, per_page: int = 50) -> list[Sweep]:
        """Return the sweeps that runs of it belong to, the newest first.

        Args:
            per_page: Accepted for W&B's scripts: all of them come at once.
        """
        del per_page
        return self.sweeps_of(self._connection, self.entity, self.name)

    @staticmethod
    def sweeps_of(connection: Connection, entity: str, project: str) -> list[Sweep]:
        """Return the sweeps of a project, the newest first."""
        found = connection.get("/sweeps", {"entity": entity, "project": project})["sweeps"]
        return [Sweep(connection, document) for document in found]

    def __repr__(self) -> str:
        return f"<Project {self.id}>"
