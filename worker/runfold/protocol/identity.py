"""Who a writer is: the payload of the WRITER record (always seq 1) and of writer.msgpack in its spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from runfold.protocol.errors import DecodeError, VersionError
from runfold.protocol.records import FieldTypes, MapPayload

IDENTITY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Launcher(MapPayload):
    """Who started the process. `source` is torchrun, ray, slurm, ...; None where unknown."""

    source: str | None = None
    job_id: str | None = None
    restart_hint: int | None = None
    launcher_pid: int | None = None
    launcher_start: float | None = None

    TYPES: ClassVar[FieldTypes] = {
        "source": str,
        "job_id": str,
        "restart_hint": int,
        "launcher_pid": int,
        "launcher_start": (int, float),
    }


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

    TYPES: ClassVar[FieldTypes] = {
        **dict.fromkeys(("entity", "project", "run_id", "mode", "group", "job_type", "name", "notes"), str),
        **dict.fromkeys(("label", "host", "boot_id", "program", "python", "sdk_version", "forked_from"), str),
        **dict.fromkeys(("rank", "local_rank", "world_size", "node_rank"), int),
        **dict.fromkeys(("pid", "pid_namespace", "started_unix_ns", "start_step"), int),
        "fold": (int, str),
        "tags": list,
        "config": dict,
        "primary": bool,
        "update_finish_state": bool,
        "launcher": dict,
        "pid_start": (int, float),
    }
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"entity", "project", "run_id", "mode"})

    @property
    def run_path(self) -> str:
        """entity/project/run_id."""
        return f"{self.entity}/{self.project}/{self.run_id}"

    def to_map(self) -> dict[str, Any]:
        """Return the identity map, version included."""
        found = {"v": IDENTITY_VERSION, **MapPayload.to_map(self)}
        found["launcher"] = self.launcher.to_map()
        for name in ("pid_namespace", "forked_from"):
            if found[name] is None:  # younger than version 1: it travels only where it says something
                del found[name]
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
        # The map's launcher passes the type check as a map; the class is put in its place after.
        identity = super(Identity, cls).from_map({**found, "launcher": {}})
        object.__setattr__(identity, "launcher", launcher)
        if identity.mode not in ("grouped", "shared"):
            raise DecodeError(f"mode {identity.mode!r}", field="mode")
        return identity
