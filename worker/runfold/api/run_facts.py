"""RunFacts: who a stored run is and how it stands, as of loading. Attributes only; part of Run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runfold.api.run_document import RunDocument
from runfold.api.said import Said

if TYPE_CHECKING:
    from runfold.api.sweep import Sweep


class User(str):
    """A name, which has W&B's attributes too."""

    __slots__ = ()

    @property
    def username(self) -> str:
        """The name."""
        return str(self)

    @property
    def name(self) -> str:
        """The name."""
        return str(self)

    @property
    def email(self) -> None:
        """None: nobody is asked for one."""
        return


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
    forked_from = Said["dict[str, Any] | None"](
        "The moment of another run that its history begins with: run_id, step (the last of that run's)."
    )
    branch_points = Said["list[dict[str, Any]]"](
        'Where it was resumed, rewound or forked from: kind ("resume", "rewind", "fork"), run_id, step (the '
        "last before it), at_unix_s."
    )
    version = Said[int]("Grows with every change: equal versions mean equal content.")
    sweep_id = Said["str | None"]("The sweep that it was started for.", name="sweep")
    sweep_name = Said["str | None"]("The same as `sweep_id` (W&B's name).", name="sweep")

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
    def user(self) -> User | None:
        """Who started it, by the name of the account on its machine; None where that is not known."""
        name = (self.metadata or {}).get("username")
        return None if name is None else User(name)

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What it was started from and what it runs on, in the words of W&B's wandb-metadata.json.

        startedAt, host, program, args (secrets replaced), executable, python, os, root, username, git
        (commit, branch, remote, root), sdk, launcher, worldSize, writerId; of its node cpu_count,
        cpu_count_logical, memory, gpu, gpu_count, gpu_nvidia, cudaVersion, driver, kernel. Of the run's
        primary process; what is not known is left out. None for a run without processes.
        """
        if "metadata" not in self._document:
            self._document["metadata"] = self._connection.get(self._route("metadata"))["metadata"]
        return self._document["metadata"] or None

    @property
    def commit(self) -> str | None:
        """The git commit of the folder that it was started in, or None."""
        commit: str | None = ((self.metadata or {}).get("git") or {}).get("commit")
        return commit

    @property
    def sweep(self) -> Sweep | None:
        """The sweep that it was started for, asked for when it is read; None without one."""
        from runfold.api.project import Project

        wanted = self._document["sweep"]
        if wanted is None:
            return None
        found = Project.sweeps_of(self._connection, self._entity, self._project)
        return next((sweep for sweep in found if sweep.id == wanted), None)

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
