"""Who a writer is: the payload of the WRITER record (always seq 1) and of writer.msgpack in its spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from runfold.protocol.branching import FORK, MAX_RUNTIME_S, Branch
from runfold.protocol.errors import DecodeError, VersionError
from runfold.protocol.records import FieldTypes, MapPayload

IDENTITY_VERSION = 1
#: What a writer may be; only those of role process count as a run's processes.
ROLES = ("process", "console", "node")
#: Entity of the runs in which agents keep what they see of their nodes; nobody else may write there.
NODE_ENTITY = "_nodes"


@dataclass(frozen=True, slots=True)
class Launcher(MapPayload):
    """Who started the process. `source` is torchrun, ray, slurm, ...; None where unknown."""

    source: str | None = None
    job_id: str | None = None
    restart_hint: int | None = None
    launcher_pid: int | None = None
    launcher_start: float | None = None
    #: Where torchelastic wants the process to write its error (TORCHELASTIC_ERROR_FILE).
    error_file: str | None = None
    #: Slurm's job id as scontrol takes it; for other schedulers, their own name of the job.
    scheduler_job: str | None = None

    TYPES: ClassVar[FieldTypes] = {
        "source": str,
        "job_id": str,
        "restart_hint": int,
        "launcher_pid": int,
        "launcher_start": (int, float),
        "error_file": str,
        "scheduler_job": str,
    }
    YOUNG: ClassVar[frozenset[str]] = frozenset({"error_file", "scheduler_job"})


@dataclass(frozen=True, slots=True)
class Identity(MapPayload):
    """One incarnation of one process in one run. None means unknown or not said."""

    entity: str = ""
    project: str = ""
    run_id: str = ""
    mode: str = "grouped"  # or "shared"
    group: str | None = None
    job_type: str | None = None
    fold: int | str | None = None
    name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    node_rank: int | None = None
    primary: bool | None = None
    update_finish_state: bool = True
    launcher: Launcher = field(default_factory=Launcher)
    host: str | None = None
    pid: int | None = None
    pid_start: float | None = None
    boot_id: str | None = None
    #: Linux: number of the PID namespace, without which a pid means nothing beside containers.
    pid_namespace: int | None = None
    #: Writer id (hex) of the process that handed the run on, by fork or pickle.
    forked_from: str | None = None
    started_unix_ns: int = 0
    program: str | None = None
    python: str | None = None
    sdk_version: str | None = None
    start_step: int = 0
    #: process: a user's; console: keeps what `console_of` prints; node: the agent's own, of host and GPUs.
    role: str = "process"
    #: Writer id (hex) of the process whose console output this is.
    console_of: str | None = None
    #: CUDA_VISIBLE_DEVICES as the process has it; None: not set.
    visible_devices: str | None = None
    #: A signal that makes the process write its stacks (faulthandler) into its spool; None: it has no such.
    stack_signum: int | None = None
    #: Seconds between samples of what the process uses; 0: it is not to be sampled. None: as the agent likes.
    stats_interval_s: float | None = None
    #: The sweep that the run was started for.
    sweep_id: str | None = None
    #: What the process was started from (origin.py): args, executable, os, root, username, git.
    origin: dict[str, Any] | None = None
    #: Where it goes on from, when the run was resumed, rewound or forked; None: none of these.
    branch: Branch | None = None

    TYPES: ClassVar[FieldTypes] = {
        **dict.fromkeys(("entity", "project", "run_id", "mode", "group", "job_type", "name", "notes"), str),
        **dict.fromkeys(("label", "host", "boot_id", "program", "python", "sdk_version", "forked_from"), str),
        **dict.fromkeys(("role", "console_of", "visible_devices", "sweep_id"), str),
        "origin": dict,
        **dict.fromkeys(("rank", "local_rank", "world_size", "node_rank"), int),
        **dict.fromkeys(("pid", "pid_namespace", "started_unix_ns", "start_step", "stack_signum"), int),
        "fold": (int, str),
        "tags": list,
        "config": dict,
        "primary": bool,
        "update_finish_state": bool,
        "launcher": dict,
        "branch": dict,
        "pid_start": (int, float),
        "stats_interval_s": (int, float),
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"entity", "project", "run_id", "mode"})
    YOUNG: ClassVar[frozenset[str]] = frozenset(
        {
            "pid_namespace",
            "forked_from",
            "role",
            "console_of",
            "visible_devices",
            "stack_signum",
            "stats_interval_s",
            "sweep_id",
            "origin",
            "branch",
        }
    )

    @property
    def begins_unix_ns(self) -> int:
        """Its place in time among the run's writers: after those that it goes on from."""
        return self.started_unix_ns if self.branch is None else self.branch.begins_at(self.started_unix_ns)

    @property
    def zero_unix_ns(self) -> int:
        """When `_runtime` was 0: a run that was resumed goes on where it stood."""
        branch = self.branch
        if branch is None or branch.kind == FORK or not 0 <= (branch.runtime_s or 0.0) < MAX_RUNTIME_S:
            return self.started_unix_ns
        return self.started_unix_ns - int((branch.runtime_s or 0.0) * 1e9)

    @property
    def run_path(self) -> str:
        """entity/project/run_id."""
        return f"{self.entity}/{self.project}/{self.run_id}"

    def to_map(self) -> dict[str, Any]:
        """Return the identity map, version included."""
        found = {"v": IDENTITY_VERSION, **MapPayload.to_map(self)}
        found["launcher"] = self.launcher.to_map()
        if self.branch is not None:
            found["branch"] = self.branch.to_map()
        return found

    @classmethod
    def from_map(cls, found: Any) -> Self:
        """Return the identity in a decoded map; ProtocolError if it is not one."""
        if not isinstance(found, dict):
            raise DecodeError("an identity is a map", field="payload")
        version = found.get("v")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise DecodeError(f"identity version {version!r}", field="v")
        if version > IDENTITY_VERSION:
            raise VersionError(f"identity version {version}", field="v")
        launcher = Launcher.from_map(found.get("launcher") or {})
        branch = None if found.get("branch") is None else Branch.from_map(found["branch"])
        # The map's launcher passes the type check as a map; the class is put in its place after.
        identity = super(Identity, cls).from_map({**found, "launcher": {}, "branch": None})
        object.__setattr__(identity, "launcher", launcher)
        object.__setattr__(identity, "branch", branch)
        if identity.mode not in ("grouped", "shared"):
            raise DecodeError(f"mode {identity.mode!r}", field="mode")
        if identity.role not in ROLES:
            raise DecodeError(f"role {identity.role!r}", field="role")
        return identity
