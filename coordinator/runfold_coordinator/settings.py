"""Settings of the coordinator: argument > environment RUNFOLD_* > default. Built once, at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """What one coordinator process needs to know. Secrets do not show in repr."""

    #: Where the database, the embedded Redis and cold history live (RUNFOLD_DATA).
    data_dir: Path
    #: RUNFOLD_DIR: where a local server registers itself, ~/.runfold by default.
    runfold_dir: Path
    #: sqlite:///path or postgresql://...; None: SQLite in data_dir (RUNFOLD_DB).
    db_url: str | None = field(default=None, repr=False)
    #: redis://, rediss:// or unix://; None: an embedded server (RUNFOLD_SERVER_REDIS_URL).
    redis_url: str | None = field(default=None, repr=False)
    #: Address to listen on; anything but loopback needs api_key (RUNFOLD_HOST).
    host: str = "127.0.0.1"
    #: Port to listen on; 0 takes a free one (RUNFOLD_PORT).
    port: int = 8765
    #: Streams that runs are spread over; never change it on a database in use (RUNFOLD_PARTITIONS).
    partitions: int = 1
    #: Key that clients have to show; None: none is asked for (RUNFOLD_API_KEY).
    api_key: str | None = field(default=None, repr=False)
    #: Silence after which a writer is flagged unreachable, seconds (RUNFOLD_UNREACHABLE_S).
    unreachable_s: float = 15.0
    #: Silence after which a writer reads crashed, seconds (RUNFOLD_LOST_S).
    lost_s: float = 300.0
    #: A writer without progress is not called stalled earlier, seconds (RUNFOLD_STALL_MIN_S).
    stall_min_s: float = 60.0
    #: Nor before so many of its own robust step times (RUNFOLD_STALL_FACTOR).
    stall_factor: float = 10.0
    #: Memory of the embedded Redis, bytes (RUNFOLD_REDIS_MEMORY).
    redis_memory_bytes: int = 512 * MIB
    #: Where cold history goes: a folder or an fsspec URL; None: data_dir/cold (RUNFOLD_COLD_URL).
    cold_url: str | None = None
    #: Quiet time after which a run's history is made cold, seconds; 0 never (RUNFOLD_COLD_AFTER_S).
    cold_after_s: float = 24 * 3600.0
    #: Receivers and rules of alerts, TOML; None: alerts are kept and shown only (RUNFOLD_ALERTS).
    alerts_path: Path | None = None
    #: Disk kept aside so that a full disk can be got out of, bytes; 0 for none (RUNFOLD_BALLAST).
    ballast_bytes: int = 64 * MIB
    #: Where the content of files lies: a folder or an fsspec URL; None: data_dir/blobs (RUNFOLD_BLOBS).
    blobs_url: str | None = field(default=None, repr=False)
    #: Content that nobody refers to stays so long after it was sent or asked for (RUNFOLD_BLOB_MIN_AGE_S).
    blob_min_age_s: float = 86400.0
    #: Bytes of content in an object store that are read again and hashed in a day (RUNFOLD_BLOB_SCRUB_BYTES).
    blob_scrub_bytes: int = 1024 * MIB
    #: How long a deleted run can be brought back before it is purged, seconds (RUNFOLD_DELETED_KEEP_S).
    deleted_keep_s: float = 30 * 86400.0
    #: How long samples of nodes are kept, days; 0: for ever (RUNFOLD_NODE_STATS_DAYS).
    node_stats_days: float = 90.0
    #: Origins of notebooks on other machines that may show runs, by comma (RUNFOLD_NOTEBOOKS).
    notebooks: str = ""
    #: Names of metrics for /metrics, by comma; "*" and "?" stand for anything (RUNFOLD_METRICS_KEYS).
    metrics_keys: str = "*"

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **arguments: Any) -> Self:
        """Return the settings; arguments that are None count as not given.

        Raises:
            ValueError: A value is not what its setting takes; the message names it.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        for name, (variable, convert) in _VARIABLES.items():
            text = environ.get(variable)
            if name in given or not text:
                continue
            try:
                given[name] = convert(text)
            except ValueError as error:
                raise ValueError(f"{variable}={text!r}: {error}") from error
        runfold_dir = Path(given.pop("runfold_dir", Path.home() / ".runfold")).expanduser()
        data_dir = Path(given.pop("data_dir", runfold_dir / "server")).expanduser().resolve()
        settings = cls(data_dir=data_dir, runfold_dir=runfold_dir, **given)
        settings.check()
        return settings

    def check(self) -> None:
        """Raise ValueError when a value is out of its range."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port}: 0 to 65535")
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"partitions {self.partitions}: 1 to 1024")
        if not self.blob_min_age_s >= 0:
            raise ValueError(f"blob_min_age_s {self.blob_min_age_s}: 0 or more")
        if self.blob_scrub_bytes < 0:
            raise ValueError(f"blob_scrub_bytes {self.blob_scrub_bytes}: 0 or more")
        if not self.deleted_keep_s >= 0:
            raise ValueError(f"deleted_keep_s {self.deleted_keep_s}: 0 or more")
        if not 0 <= self.node_stats_days <= 36500:
            raise ValueError(f"node_stats_days {self.node_stats_days}: 0 to 36500")
        for name in ("unreachable_s", "lost_s", "stall_min_s", "stall_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)}: more than 0")

    @property
    def database_url(self) -> str:
        """The database to open."""
        return self.db_url or f"sqlite:///{self.data_dir / 'runfold.db'}"


_VARIABLES: dict[str, tuple[str, Any]] = {
    "data_dir": ("RUNFOLD_DATA", str),
    "runfold_dir": ("RUNFOLD_DIR", str),
    "db_url": ("RUNFOLD_DB", str),
    "redis_url": ("RUNFOLD_SERVER_REDIS_URL", str),
    "host": ("RUNFOLD_HOST", str),
    "port": ("RUNFOLD_PORT", int),
    "partitions": ("RUNFOLD_PARTITIONS", int),
    "api_key": ("RUNFOLD_API_KEY", str),
    "unreachable_s": ("RUNFOLD_UNREACHABLE_S", float),
    "lost_s": ("RUNFOLD_LOST_S", float),
    "stall_min_s": ("RUNFOLD_STALL_MIN_S", float),
    "stall_factor": ("RUNFOLD_STALL_FACTOR", float),
    "redis_memory_bytes": ("RUNFOLD_REDIS_MEMORY", int),
    "cold_url": ("RUNFOLD_COLD_URL", str),
    "cold_after_s": ("RUNFOLD_COLD_AFTER_S", float),
    "deleted_keep_s": ("RUNFOLD_DELETED_KEEP_S", float),
    "node_stats_days": ("RUNFOLD_NODE_STATS_DAYS", float),
    "alerts_path": ("RUNFOLD_ALERTS", Path),
    "ballast_bytes": ("RUNFOLD_BALLAST", int),
    "blobs_url": ("RUNFOLD_BLOBS", str),
    "blob_min_age_s": ("RUNFOLD_BLOB_MIN_AGE_S", float),
    "blob_scrub_bytes": ("RUNFOLD_BLOB_SCRUB_BYTES", int),
    "notebooks": ("RUNFOLD_NOTEBOOKS", str),
    "metrics_keys": ("RUNFOLD_METRICS_KEYS", str),
}
assert set(_VARIABLES) == {found.name for found in fields(CoordinatorSettings)}, "each setting has a variable"
