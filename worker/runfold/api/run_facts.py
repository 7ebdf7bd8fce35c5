"""RunFacts: who a stored run is and how it stands, as of loading. Attributes only; part of Run."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from runfold.api.run_document import RunDocument
from runfold.api.said import Said

#: A run in one of these goes on no more.
TERMINAL_STATES = frozenset({"finished", "failed", "killed", "crashed", "preempted"})


class RunFacts(RunDocument):
    """Read-only, under W&B's names and ours."""

    state = Said[str]("running, finished, failed, killed, crashed, preempting or preempted.")
    reason = Said[str]("Why it is in this state; never empty on a terminal one.")
    confidence = Said[str]('How sure the state is: "certain", "said", "inferred"; "" while it goes on.')
    first_failure = Said["dict[str, Any] | None"](
        "The first primary failure: rank, label, host, reason, traceback, console, signal, exit_code, ..."
    )
    unreachable = Said[bool]("No heartbeat for some seconds, though nothing says that it ended.")
    mode = Said[str]('"grouped": one process, "shared": many.')
    fold = Said[Any]("As given to init(fold=).")
    host = Said["str | None"]("Where its primary process runs.")
    created_at = Said[str]("When its first process started, ISO 8601 in UTC.")
    heartbeat_at = Said[str]("When the server last heard of it, ISO 8601 in UTC.")
    ended_at = Said["str | None"]("When it ended, ISO 8601 in UTC; None while it goes on.")
    config_conflicts = Said["dict[str, Any]"]("Config keys for which writers said different values.")
    version = Said[int]("Grows with every change: equal versions mean equal content.")
    #: W&B's, which we have not: the names exist so that scripts read None instead of failing.
    commit: str | None = None
    metadata: dict[str, Any] | None = None
    sweep: object = None
    sweep_name: str | None = None

    @property
    def id(self) -> str:
        """The run id, unique in its project."""
        return self._id

    @property
    def entity(self) -> str:
        """Whose it is; "local" on a server without users."""
        return self._entity

    @property
    def username(self) -> str:
        """The same as `entity` (W&B's deprecated name)."""
        return self._entity

    @property
    def user(self) -> None:
        """None: servers have no users yet."""
        return

    @property
    def project(self) -> str:
        """Its project."""
        return self._project

    @property
    def path(self) -> list[str]:
        """[entity, project, id], each quoted for an address."""
        return [quote(part, safe="") for part in (self._entity, self._project, self._id)]

    @property
    def url(self) -> str:
        """Address of the run's page."""
        return f"{self._connection.url}/{'/'.join([*self.path[:2], 'runs', self.path[2]])}"

    @property
    def storage_id(self) -> str:
        """An id unique on the server."""
        return "/".join((self._entity, self._project, self._id))
