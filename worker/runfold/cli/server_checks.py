"""Checks of the server that this machine would talk to: API, Redis, clock; and of this machine's agent."""

from __future__ import annotations

import email.utils
import importlib.util
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from runfold.cli.checks import Check

#: A clock that is further off is a warning: times would be shown in the wrong order.
CLOCK_OFF_S = 5.0
_TIMEOUT_S = 5.0


def server_checks(url: str | None, redis_url: str | None) -> list[Callable[[], Check]]:
    """Return the checks that ask a server; without one they are skipped."""
    from runfold.api.connection import server_url

    address = url or server_url(os.environ)
    return [partial(server, address), partial(clock, address), partial(redis, address, redis_url), agent]


def server(address: str | None) -> Check:
    """Ask the API for its health, and whether our key opens it."""
    if address is None:
        return Check(
            "server", "skip", "none is set or registered", "`runfold up` starts one; RUNFOLD_URL names one"
        )
    import httpx

    try:
        answer = _ask(address, "/api/v1/health")
        facts = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Check(
            "server",
            "fail",
            f"{address} does not answer: {error}",
            "is `runfold up` running, is RUNFOLD_URL right?",
        )
    if not isinstance(facts, dict) or facts.get("status") != "ok":
        return Check(
            "server",
            "fail",
            f"{address} is no runfold server (status {answer.status_code})",
            "check RUNFOLD_URL",
        )
    opened = _ask(address, "/api/v1/connect").status_code
    if opened == 401:
        return Check(
            "server", "fail", f"{address} asks for another key", "set RUNFOLD_API_KEY to the server's key"
        )
    if opened != 200:
        return Check("server", "fail", f"{address} answers status {opened}", "look at the server's log")
    return Check("server", "ok", f"{address}, id {facts.get('server_id')}")


def clock(address: str | None) -> Check:
    """Compare our clock with the server's."""
    if address is None:
        return Check("clock", "skip", "no server to compare with")
    import httpx

    began_unix_s = time.time()
    try:
        said = _ask(address, "/api/v1/health").headers.get("date", "")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check("clock", "skip", f"{address} does not answer: {error}")
    try:
        there_unix_s = email.utils.parsedate_to_datetime(said).timestamp()
    except (TypeError, ValueError):
        return Check("clock", "skip", f"{address} does not tell its time")
    # The header has whole seconds, cut off: half a second is the fairest guess.
    off_s = (began_unix_s + time.time()) / 2 - there_unix_s - 0.5
    if abs(off_s) > CLOCK_OFF_S:
        detail = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the server"
        return Check(
            "clock",
            "warn",
            detail,
            "let NTP set both clocks (timedatectl set-ntp true); order does not depend on them",
        )
    return Check("clock", "ok", f"within {max(1.0, abs(off_s)):.0f} s of the server's")


def redis(address: str | None, redis_url: str | None) -> Check:
    """Look at the Redis that records would travel through: version, eviction policy, rights."""
    name = "redis"
    if redis_url is None and address is not None:
        redis_url = _handed_out(address)
    if redis_url is None:
        return Check(
            name, "skip", "no Redis is set or handed out; frames travel over HTTP, or wait in the spool"
        )
    if importlib.util.find_spec("fastapi") is None:
        return _ping(redis_url)
    from runfold_coordinator.redis_checks import RedisConfigurationError, RedisUnavailableError, check_redis

    try:
        facts = check_redis(redis_url, timeout_s=_TIMEOUT_S)
    except RedisConfigurationError as error:
        return Check(name, "fail", "it can't carry records as it is set up", str(error))
    except RedisUnavailableError as error:
        return Check(
            name, "fail", str(error), "start it, or check RUNFOLD_REDIS_URL and the firewall between"
        )
    memory = f"{facts.used_memory_bytes / 1e6:.0f} MB used"
    if facts.max_memory_bytes:
        memory += f" of {facts.max_memory_bytes / 1e6:.0f} MB"
    return Check(name, "ok", f"{facts.product} {facts.version}, {facts.policy}, {memory}")


def agent() -> Check:
    """Look whether an agent ships this machine's spools."""
    from runfold.node.lock import is_held
    from runfold.node.settings import NodeSettings
    from runfold.spool import list_writers

    settings = NodeSettings.from_env(os.environ)
    if not settings.target_dir.is_dir():
        return Check("agent", "ok", "nothing was logged to this server from here yet")
    spools = len(list_writers(settings.target_dir))
    if is_held(settings.target_dir):
        return Check("agent", "ok", f"one is at work on {spools} spools")
    return Check("agent", "ok", f"none is running; {spools} spools are kept; the next run starts one")


def _ask(address: str, path: str) -> Any:
    import httpx

    key = os.environ.get("RUNFOLD_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(address.rstrip("/") + path, headers=headers, timeout=_TIMEOUT_S)


def _handed_out(address: str) -> str | None:
    import httpx

    try:
        said = _ask(address, "/api/v1/connect").json().get("redis_url")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        return None
    return str(said) if said else None


def _ping(redis_url: str) -> Check:
    """Without the coordinator's checks: does it answer at all."""
    import redis as driver

    try:
        client = driver.Redis.from_url(
            redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        info: dict[str, Any] = client.info("server")
    except (driver.RedisError, ValueError, OSError) as error:
        return Check(
            "redis",
            "fail",
            f"it does not answer: {error}",
            "check RUNFOLD_REDIS_URL and the firewall between",
        )
    return Check("redis", "ok", f"{info.get('server_name', 'redis')} {info.get('redis_version')}")
