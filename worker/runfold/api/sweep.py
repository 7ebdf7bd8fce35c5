"""`Sweep`: the runs that were started under one sweep id. There is no tuner here: whoever starts the runs
chooses their configs.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from runfold.api.connection import Connection
from runfold.api.errors import RequestError
from runfold.api.run import Run
from runfold.api.runs import Runs


class Sweep:
    """Its facts are as of asking; `runs` are asked for anew each time."""

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._document = document
        self._entity: str = document["entity"]
        self._project: str = document["project"]
        self._id: str = document["id"]

    @property
    def id(self) -> str:
        """The sweep id, as its runs were told."""
        return self._id

    @property
    def name(self) -> str:
        """The same as `id`: nobody gives sweeps a name here."""
        return self._id

    @property
    def entity(self) -> str:
        """Whose it is."""
        return self._entity

    @property
    def project(self) -> str:
        """The project of its runs."""
        return self._project

    @property
    def path(self) -> list[str]:
        """[entity, project, id]."""
        return [self._entity, self._project, self._id]

    @property
    def url(self) -> str:
        """Address of its page."""
        entity, project, sweep_id = (quote(part, safe="") for part in self.path)
        return f"{self._connection.url}/{entity}/{project}/sweeps/{sweep_id}"

    @property
    def state(self) -> str:
        """RUNNING while one of its runs goes on, or waits to; else FINISHED."""
        going_on = {"running", "preempting", "pending"}
        return "RUNNING" if going_on & self._document["states"].keys() else "FINISHED"

    @property
    def run_count(self) -> int:
        """How many runs it has."""
        return sum(self._document["states"].values())

    @property
    def expected_run_count(self) -> int | None:
        """None: whoever starts the runs knows."""
        return None

    @property
    def config(self) -> dict[str, Any]:
        """{}: whoever starts the runs knows what is searched for."""
        return {}

    @property
    def runs(self) -> Runs:
        """Its runs, oldest first, as a lazy list."""
        return self._runs("+created_at")

    def best_run(self, order: str | None = None) -> Run | None:
        """Return the first of its runs in this order, such as "-summary_metrics.accuracy"; None without runs.

        Raises:
            RequestError: (a ValueError) No order: there is no sweep configuration that would name a metric.
        """
        if not order:
            raise RequestError(
                "best_run needs an order", field="order", hint='for example "+summary_metrics.loss"'
            )
        return next(iter(self._runs(order)), None)

    def __repr__(self) -> str:
        return f"<Sweep {'/'.join(self.path)} ({self.state})>"

    def _runs(self, order: str) -> Runs:
        return Runs(
            self._connection,
            self._entity,
            self._project,
            filters={"sweep": self._id},
            order=order,
            per_page=50,
        )
