"""Where the server is: what was set, what the coordinator hands out, or what `runfold up` registered here.

In: settings and the registration file. Out: an `Address`, then an open `Link` to it: Redis, else HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .failures import LinkError, NoServerError, Reaction
from .link import Link
from .pace import Pace
from .settings import NodeSettings


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send. One of the two addresses is always there; secrets do not show in repr."""

    redis_url: str | None = field(default=None, repr=False)
    http_url: str | None = None
    server_id: bytes | None = None
    #: None: not said here; the downlink says it.
    partitions: int | None = None


def resolve(settings: NodeSettings) -> Address:
    """Find the server: RUNFOLD_REDIS_URL, else RUNFOLD_URL, else the local registration.

    Raises:
        NoServerError: Nothing is set and no server is registered on this node.
        LinkError: The coordinator did not answer.
    """
    if settings.redis_url:
        return Address(redis_url=settings.redis_url, http_url=settings.url)
    if settings.url:
        return _ask_coordinator(settings.url, settings.api_key)
    return _registered(settings.registration)


def http_address(settings: NodeSettings) -> str | None:
    """Return where the coordinator answers HTTP, as far as it is set or registered here; None: not known.

    Asks nobody. Where only Redis is known, files have to wait: they never travel through it.
    """
    if settings.url or settings.redis_url:
        return settings.url
    try:
        return _registered(settings.registration).http_url
    except LinkError:
        return None


def _ask_coordinator(url: str, api_key: str | None) -> Address:
    from .http_writer import HttpClient

    client = HttpClient(url, api_key)
    try:
        answer = client.get("/api/v1/connect")
    finally:
        client.close()
    if not isinstance(answer, dict):
        raise LinkError("GET /api/v1/connect: an answer of another shape", Reaction.RESOLVE)
    return _address(answer, url)


def _registered(path: Path) -> Address:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NoServerError(
            "no server: set RUNFOLD_URL, or start one on this machine with `runfold up`"
        ) from error
    if not isinstance(said, dict) or not (said.get("redis_url") or said.get("url")):
        raise NoServerError(f"{path} names no server; `runfold up` writes it anew")
    return _address(said, said.get("url"))


def _address(said: dict[str, Any], http_url: str | None) -> Address:
    try:
        server_id = bytes.fromhex(said["server_id"]) if said.get("server_id") else None
        partitions = int(said["partitions"]) if said.get("partitions") else None
    except (TypeError, ValueError) as error:
        raise LinkError(
            "the server described itself in a way that does not parse", Reaction.RESOLVE
        ) from error
    return Address(said.get("redis_url"), http_url, server_id, partitions)


class Connector:
    """Opens links, and remembers which way worked. Not thread-safe.

    Redis is tried first. Where it can't be reached and the coordinator can, frames travel by HTTP, and
    Redis is tried again every `http_retry_redis_s`.
    """

    def __init__(self, settings: NodeSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._redis_pace = Pace()
        self._http_pace = Pace(base_wait_s=5.0)
        self._redis_tried_s = -1e9
        self._registered_at: tuple[int, int] | None = None
        self._known: Address | None = None
        self.pace = self._redis_pace

    def open(self) -> tuple[Link, Address]:
        """Return an open link and the address behind it. Raises LinkError when nothing answers."""
        self._registered_at = self._registration_mark()
        address = self._resolve()
        if not address.redis_url:
            return self._fall_back(address), address
        try:
            self._redis_tried_s = self._clock()
            link = self._open_redis(address.redis_url)
        except LinkError:
            if not address.http_url:
                raise
            return self._fall_back(address), address
        self.pace = self._redis_pace
        return link, address

    def should_try_redis(self, link: Link, address: Address) -> bool:
        """Return True when frames travel by HTTP and it is time to look for Redis again."""
        if link.name != "http" or not address.redis_url:
            return False
        return self._clock() - self._redis_tried_s >= self._settings.http_retry_redis_s

    def reopen_redis(self, address: Address) -> Link | None:
        """Try Redis while HTTP works; None if it still can't be reached."""
        assert address.redis_url, "asked only where there is an address"
        self._redis_tried_s = self._clock()
        try:
            link = self._open_redis(address.redis_url)
        except LinkError:
            return None
        self.pace = self._redis_pace
        return link

    def registration_changed(self) -> bool:
        """Return True when a server came or went on this node since `open`."""
        if self._settings.url or self._settings.redis_url:
            return False
        return self._registration_mark() != self._registered_at

    def _resolve(self) -> Address:
        try:
            self._known = resolve(self._settings)
        except NoServerError:
            raise
        except LinkError:
            if self._known is None or not self._known.redis_url:
                raise
            # The coordinator is away; Redis may still take frames where it was before.
        return self._known

    def _open_redis(self, url: str) -> Link:
        from .stream_writer import StreamWriter

        return StreamWriter(url, pace=self._redis_pace)

    def _fall_back(self, address: Address) -> Link:
        self.pace = self._http_pace
        return self.open_http(address)

    def open_http(self, address: Address) -> Link:
        """Return a link over HTTP, which connects when it is used. Raises LinkError."""
        from .http_writer import HttpWriter

        assert address.http_url, "an address has a Redis or an HTTP part"
        return HttpWriter(address.http_url, self._settings.api_key, pace=self._http_pace)

    def _registration_mark(self) -> tuple[int, int] | None:
        try:
            stat = self._settings.registration.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino
