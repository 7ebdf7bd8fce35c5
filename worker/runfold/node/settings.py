"""`NodeSettings`: what an agent is told, built once from the environment. Secrets never show in repr."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

AgentMode = Literal["process", "thread", "none"]
AGENT_MODES: Final[tuple[AgentMode, ...]] = ("process", "thread", "none")

#: Seconds between samples of what processes use.
DEFAULT_STATS_INTERVAL_S: Final = 10.0
#: What says no in a variable that is on by default.
OFF: Final = frozenset({"0", "false", "f", "no", "n", "off"})
#: Where the metadata services of the clouds answer: a link-local address.
METADATA_URL: Final = "http://169.254.169.254"
#: Who can tell that a machine will be taken away, or why a job was.
NOTICE_SYSTEMS: Final = frozenset({"aws", "gcp", "azure", "kubernetes", "slurm"})

#: Name of the target whose server is whatever `runfold up` registered on this node.
LOCAL_TARGET: Final = "local"
#: Name of the target that nobody ships until `runfold sync` does.
OFFLINE_TARGET: Final = "offline"


def public_url(url: str) -> str:
    """Return a URL without user, password, query and trailing slash, to be shown, hashed and written down."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme.lower(), place.lower(), parts.path.rstrip("/"), "", ""))


def target_of(url: str | None, redis_url: str | None) -> str:
    """Return the name of the spool directory for a destination: one directory and one agent for each.

    A changed password is the same destination.
    """
    address = url or redis_url
    if not address:
        return LOCAL_TARGET
    return hashlib.sha256(public_url(address).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What one agent is told."""

    #: RUNFOLD_DIR: spools, lock files, the local server's registration.
    runfold_dir: Path
    #: the target directory's name, see `target_of`.
    target: str
    #: RUNFOLD_URL: the coordinator's HTTP address; None: not said.
    url: str | None = None
    #: RUNFOLD_REDIS_URL: overrides what the coordinator hands out; None: not said.
    redis_url: str | None = field(default=None, repr=False)
    #: RUNFOLD_API_KEY.
    api_key: str | None = field(default=None, repr=False)
    #: RUNFOLD_AGENT: a process of its own, a thread where children are forbidden, or none.
    mode: AgentMode = "process"
    #: RUNFOLD_HEARTBEAT_S: seconds between heartbeats.
    heartbeat_interval_s: float = 5.0
    #: RUNFOLD_AGENT_IDLE_S: seconds without a live writer and with all acked, then the agent ends.
    idle_exit_s: float = 60.0
    #: RUNFOLD_AGENT_PATIENCE_S: seconds without live writers and without a server, then the agent ends.
    unreachable_exit_s: float = 3600.0
    #: RUNFOLD_AGENT_DRAIN_S: seconds the agent goes on delivering after SIGTERM.
    drain_s: float = 10.0
    #: RUNFOLD_WINDOW_BYTES: frames sent and not yet acked, all writers together.
    window_bytes: int = 16_000_000
    #: RUNFOLD_SPOOL_SYNC_S: seconds until what no server has stored is on disk; 0: as the kernel likes.
    sync_spool_s: float = 1.0
    #: RUNFOLD_SPOOL_KEEP_S: seconds the spool of an ended process is kept after everything in it was acked.
    keep_spool_s: float = 3600.0
    #: RUNFOLD_SPOOL_KEEP_BYTES: acked spools of a target are removed above this, oldest first.
    keep_spool_bytes: int = 1_000_000_000
    #: RUNFOLD_STATS: whether this agent samples processors, memory, GPUs and so on at all.
    stats: bool = True
    #: RUNFOLD_STATS_INTERVAL_S: seconds between samples for writers that say nothing else, > 0.
    stats_interval_s: float = DEFAULT_STATS_INTERVAL_S
    #: RUNFOLD_ALLOW_STOP: whether processes of this node may be stopped on request.
    allow_stop: bool = True
    #: RUNFOLD_STACKS: whether processes of this node may be asked for their stacks.
    stacks: bool = True
    #: RUNFOLD_NOTICES: who is asked whether this machine will be taken away: auto, off, or NOTICE_SYSTEMS.
    notices: tuple[str, ...] = ("auto",)
    #: RUNFOLD_METADATA_URL: where a cloud's metadata service answers.
    metadata_url: str = METADATA_URL
    #: RUNFOLD_UPLOAD_THREADS: files that are uploaded at a time.
    upload_threads: int = 4
    #: RUNFOLD_LIVE_S: seconds between uploads of a file saved with policy "live" that goes on changing.
    live_interval_s: float = 10.0
    #: seconds between attempts to reach Redis while frames travel by HTTP.
    http_retry_redis_s: float = 30.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, target: str | None = None) -> NodeSettings:
        """Build from RUNFOLD_* variables.

        Raises:
            ValueError: A variable does not hold what it should; the message names it.
        """
        url = environ.get("RUNFOLD_URL") or None
        redis_url = environ.get("RUNFOLD_REDIS_URL") or None
        mode = environ.get("RUNFOLD_AGENT") or "process"
        if mode not in AGENT_MODES:
            raise ValueError(f"RUNFOLD_AGENT is {mode!r}; it may be one of {', '.join(AGENT_MODES)}")
        settings = cls(
            runfold_dir=Path(environ.get("RUNFOLD_DIR") or Path.home() / ".runfold").expanduser(),
            target=target or target_of(url, redis_url),
            url=url,
            redis_url=redis_url,
            api_key=environ.get("RUNFOLD_API_KEY") or None,
            mode=mode,
            stats=environ.get("RUNFOLD_STATS", "").strip().lower() not in OFF,
            notices=_notices(environ),
            metadata_url=environ.get("RUNFOLD_METADATA_URL") or METADATA_URL,
            allow_stop=environ.get("RUNFOLD_ALLOW_STOP", "").strip().lower() not in OFF,
            stacks=environ.get("RUNFOLD_STACKS", "").strip().lower() not in OFF,
        )
        given: dict[str, Any] = {
            name: type(getattr(settings, name))(_number(environ, variable))
            for name, variable in _NUMBERS.items()
            if environ.get(variable)
        }
        if given.get("stats_interval_s") == 0:
            given |= {"stats": False, "stats_interval_s": settings.stats_interval_s}
        return replace(settings, **given)

    def to_env(self) -> dict[str, str]:
        """Return the variables that make `from_env` build the same again, for the agent's own process."""
        env = {"RUNFOLD_DIR": str(self.runfold_dir), "RUNFOLD_AGENT": self.mode}
        optional = {
            "RUNFOLD_URL": self.url,
            "RUNFOLD_REDIS_URL": self.redis_url,
            "RUNFOLD_API_KEY": self.api_key,
        }
        env |= {variable: value or "" for variable, value in optional.items()}
        return env | {variable: repr(getattr(self, name)) for name, variable in _NUMBERS.items()}

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that change with the addresses and the credentials."""
        secret = "\0".join((self.url or "", self.redis_url or "", self.api_key or ""))
        return hashlib.sha256(secret.encode()).hexdigest()[:8]

    @property
    def spool_root(self) -> Path:
        """Where the directories of all targets lie."""
        return self.runfold_dir / "spool"

    @property
    def target_dir(self) -> Path:
        """Where the spools of this target lie, and the agent's lock and log."""
        return self.spool_root / self.target

    @property
    def registration(self) -> Path:
        """The file in which `runfold up` says where the local server is."""
        return self.runfold_dir / "server.json"


_NUMBERS: Final = {
    "heartbeat_interval_s": "RUNFOLD_HEARTBEAT_S",
    "idle_exit_s": "RUNFOLD_AGENT_IDLE_S",
    "unreachable_exit_s": "RUNFOLD_AGENT_PATIENCE_S",
    "drain_s": "RUNFOLD_AGENT_DRAIN_S",
    "window_bytes": "RUNFOLD_WINDOW_BYTES",
    "sync_spool_s": "RUNFOLD_SPOOL_SYNC_S",
    "keep_spool_s": "RUNFOLD_SPOOL_KEEP_S",
    "keep_spool_bytes": "RUNFOLD_SPOOL_KEEP_BYTES",
    "stats_interval_s": "RUNFOLD_STATS_INTERVAL_S",
    "upload_threads": "RUNFOLD_UPLOAD_THREADS",
    "live_interval_s": "RUNFOLD_LIVE_S",
}


def _notices(environ: Mapping[str, str]) -> tuple[str, ...]:
    text = environ.get("RUNFOLD_NOTICES", "").strip().lower() or "auto"
    words = ("off",) if text in OFF else tuple(word.strip() for word in text.split(",") if word.strip())
    if words in (("auto",), ("off",)) or (words and set(words) <= NOTICE_SYSTEMS):
        return words
    raise ValueError(
        f"RUNFOLD_NOTICES is {text!r}; it should be auto, off, or some of {', '.join(sorted(NOTICE_SYSTEMS))}"
    )


def _number(environ: Mapping[str, str], variable: str) -> float:
    text = environ[variable]
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{variable} is {text!r}; it should be a number") from None
    if not value >= 0:
        raise ValueError(f"{variable} is {text!r}; it should be 0 or more")
    return value
