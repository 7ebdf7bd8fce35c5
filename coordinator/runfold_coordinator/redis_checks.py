"""Is this Redis fit to carry records? Takes a URL, gives the facts or an error that tells the way out.

Used when the coordinator starts on an external Redis and by `runfold doctor`. Asks only what INFO and
harmless commands answer, because managed servers often forbid CONFIG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

#: XTRIM MINID and XADD NOMKSTREAM came with 6.2.
MIN_VERSION = (6, 2)
#: No stream is ever created under this name; it lies under the key pattern that an ACL user needs.
PROBE_KEY = "rf:{check}:in"


class RedisConfigurationError(RuntimeError):
    """This Redis can't be used as it is set up; the message names the setting to change."""


class RedisUnavailableError(RuntimeError):
    """This Redis did not answer, or is still loading; trying again may help."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What was found out about a server; shown by `runfold doctor`."""

    product: str  #: "redis" or "valkey"
    version: str
    policy: str  #: eviction policy
    max_memory_bytes: int  #: 0: no limit
    used_memory_bytes: int
    aof: bool  #: does a restart keep frames (nothing is lost without it, only sent again)


def check_redis(url: str, *, timeout_s: float = 5.0) -> RedisFacts:
    """Connect to `url` and return the facts.

    Raises:
        RedisConfigurationError: The server is too old, evicts, is read-only, or refuses what we need.
        RedisUnavailableError: The server did not answer in time or is still loading its data.
    """
    import redis as driver

    shown = redact(url)
    try:
        client = driver.Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
    except ValueError as error:
        raise RedisConfigurationError(
            f"{shown!r} is no Redis address ({error}); write redis://host:6379/0, rediss:// or unix:///path"
        ) from error
    try:
        return _check_client(client, shown)
    except (driver.AuthenticationError, driver.exceptions.NoPermissionError) as error:
        raise RedisConfigurationError(
            f"Redis at {shown} refuses our user: {error}. Put user and password into the URL "
            "(redis://user:password@host:6379) and allow: " + ACL_HINT
        ) from error
    except driver.exceptions.ReadOnlyError as error:
        raise RedisConfigurationError(
            f"Redis at {shown} is a read-only replica; give the address of its primary"
        ) from error
    except (driver.ConnectionError, driver.TimeoutError, driver.exceptions.BusyLoadingError) as error:
        raise RedisUnavailableError(f"Redis at {shown} does not answer: {error}") from error
    except driver.ResponseError as error:
        raise _explain(str(error), shown) from error
    finally:
        client.close()


#: What the coordinator's user must be allowed to do; an agent's needs only xadd, hmget, ping and info.
ACL_HINT = (
    "ACL SETUSER runfold on >PASSWORD ~rf:* resetchannels -@all "
    "+xadd +xread +xtrim +xlen +xinfo +xrange +xrevrange +hset +hget +hmget +hdel +del "
    "+ping +info +hello +client +select"
)


def check_info(info: Mapping[str, Any], shown: str) -> RedisFacts:
    """Judge the answer to INFO. Pure.

    Raises:
        RedisConfigurationError: What INFO says rules this server out.
    """
    facts = RedisFacts(
        product=str(info.get("server_name", "redis")),
        version=str(info.get("valkey_version") or info.get("redis_version", "0")),
        policy=str(info.get("maxmemory_policy", "noeviction")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
        used_memory_bytes=int(info.get("used_memory", 0)),
        aof=bool(info.get("aof_enabled", 0)),
    )
    if parse_version(facts.version) < MIN_VERSION:
        raise RedisConfigurationError(
            f"Redis at {shown} is {facts.version}; 6.2 or newer is needed (XTRIM MINID). Upgrade it, or "
            "leave --redis out to use the embedded one"
        )
    mode = str(info.get("redis_mode", "standalone"))
    if mode != "standalone":
        raise RedisConfigurationError(
            f"Redis at {shown} runs in {mode} mode, which is not supported yet; give a standalone server"
        )
    if str(info.get("role", "master")) != "master":
        raise RedisConfigurationError(
            f"Redis at {shown} is a replica of {info.get('master_host')}:{info.get('master_port')}; "
            "give the address of the primary"
        )
    if facts.policy != "noeviction":
        raise RedisConfigurationError(
            f"Redis at {shown} has maxmemory-policy {facts.policy}: when memory is full it would delete "
            "frames that nobody has read. Run `CONFIG SET maxmemory-policy noeviction` (and put it into "
            "redis.conf), or use another server for runfold"
        )
    return facts


def parse_version(text: str) -> tuple[int, ...]:
    """Return "7.0.15" as (7, 0, 15); parts that are no numbers end it."""
    parts: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def redact(url: str) -> str:
    """Return the URL without user and password, fit for messages and logs."""
    netloc = urlsplit(url).netloc
    return url.replace(netloc, netloc.rpartition("@")[2], 1) if "@" in netloc else url


def _check_client(client: redis.Redis, shown: str) -> RedisFacts:
    client.ping()
    info: Mapping[str, Any] = client.info()
    if int(info.get("loading", 0)):
        raise RedisUnavailableError(f"Redis at {shown} is still loading its data")
    facts = check_info(info, shown)
    _probe(client)
    return facts


def _probe(client: redis.Redis) -> None:
    """Use every command of ours in a way that changes nothing: rights and replicas show only then."""
    client.xread({PROBE_KEY: "0"}, count=1)
    client.xtrim(PROBE_KEY, minid="0", approximate=False)
    client.hmget(PROBE_KEY + ":none", ["cur"])
    client.hdel(PROBE_KEY + ":none", "cur")
    try:
        client.xadd(PROBE_KEY, {"f": b""}, nomkstream=True)
    except Exception as error:  # -OOM is back-pressure, which agents know how to meet; anything else counts
        if not str(error).startswith(("OOM", "command not allowed when used memory")):
            raise


def _explain(message: str, shown: str) -> Exception:
    if message.startswith("MISCONF"):
        return RedisConfigurationError(
            f"Redis at {shown} refuses writes because it can't save to its disk: {message}. Free space "
            'there, or switch snapshots off with `CONFIG SET save ""`'
        )
    if message.startswith("NOAUTH") or "WRONGPASS" in message:
        return RedisConfigurationError(
            f"Redis at {shown} asks for a password: {message}. Put it into the URL, redis://:password@host:6379"
        )
    if message.startswith(("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT")):
        return RedisConfigurationError(
            f"Redis at {shown} is a cluster, which is not supported yet: {message}"
        )
    if "unknown command" in message.lower():
        return RedisConfigurationError(
            f"Redis at {shown} lacks a command that runfold needs: {message}. Redis or Valkey 6.2 or newer "
            "is needed, with the stream commands not renamed"
        )
    return RedisUnavailableError(f"Redis at {shown} answered with an error: {message}")
