"""Which Redis address a worker can use: one of this machine only is told to workers of this machine only.

In: the address, and the request that asks for it. Out: yes or no. Who gets none ships frames over HTTP.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from runfold_coordinator.api.gate import is_loopback

#: A proxy on this machine passes requests on from anywhere; these tell that one did.
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def can_reach(request: Request, redis_url: str) -> bool:
    """Tell whether who asks can open `redis_url`, as far as its form tells. Other users of this machine may
    not have the right to; agents that are refused fall back to HTTP by themselves.
    """
    return not is_of_this_machine(redis_url) or is_from_this_machine(request)


def is_of_this_machine(redis_url: str) -> bool:
    """Tell whether an address is a unix socket or a loopback port."""
    parts = urlsplit(redis_url)
    if parts.scheme in ("unix", "redis+socket", "valkey+socket"):
        return True
    host = parts.hostname or "localhost"  # as redis-py reads an address without one
    return is_loopback(host) or _is_any(host)


def is_from_this_machine(request: Request) -> bool:
    """Tell whether a connection comes from loopback, or from the very address that it was made to."""
    if request.client is None or any(name in request.headers for name in _PROXY_HEADERS):
        return False
    server = request.scope.get("server") or (None, None)
    return is_loopback(_plain(request.client.host)) or request.client.host == server[0]


def _is_any(host: str) -> bool:
    """0.0.0.0 and :: reach this machine when they are connected to."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _plain(host: str) -> str:
    """Return an IPv4 address that a listener on :: saw as ::ffff:127.0.0.1."""
    return host.removeprefix("::ffff:")
