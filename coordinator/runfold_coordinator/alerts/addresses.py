"""Which addresses a webhook may go to (OWASP's server-side request forgery rules).

A URL is resolved once, every address that comes out is checked, and one of these is what is connected to:
what the name says a moment later makes no difference.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: (host, port) -> the texts of its addresses; as `resolve`. Tests pass their own.
Resolver = Callable[[str, int], Sequence[str]]

#: Where clouds hand out credentials: no receiver of anybody, so allow_private does not open them.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
        *("fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not global, whatever this Python's tables say.
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "fc00::/7", "fec0::/10", "ff00::/8"),
    )
)


class ForbiddenAddressError(Exception):
    """Alerts are not sent to the receiver's address. The message has no part of the URL but the host."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL. `path` holds the query too, and secrets: never show it."""

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def check_url(url: str, *, allow_http: bool) -> Target:
    """Take a URL apart.

    Raises:
        ValueError: It is no https (or, where allowed, http) address of a host; the message has no part of it.
    """
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        raise ValueError("url: no spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("url: not an address") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError("url: https:// only")
    if parts.scheme == "http" and not allow_http:
        raise ValueError("url: https:// only; allow_http = true permits http:// for this receiver")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("url: no user or password in it")
    host = (parts.hostname or "").removesuffix(".")
    if not host or "%" in host:
        raise ValueError("url: no host in it")
    try:
        host = host if ":" in host else host.encode("idna").decode()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
    except UnicodeError:
        raise ValueError("url: not an address (characters outside ASCII are written as %XX)") from None
    is_tls = parts.scheme == "https"
    if port == 0:
        raise ValueError("url: port 1 to 65535")
    return Target(is_tls, host, port or (443 if is_tls else 80), path)


def resolve(host: str, port: int) -> list[str]:
    """Return the host's addresses, in the system's order; OSError where there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def allowed_addresses(target: Target, *, allow_private: bool, resolver: Resolver = resolve) -> list[str]:
    """Return the addresses of a target's host; they are what to connect to.

    Raises:
        ForbiddenAddressError: One of them is not to be reached.
        OSError: The name has no address.
    """
    texts = list(resolver(target.host, target.port))
    if not texts:
        raise OSError(f"{target.host} has no address")
    for text in texts:
        address = ipaddress.ip_address(text.partition("%")[0])
        for one in _meant(address):
            if any(one in network for network in _METADATA):
                raise ForbiddenAddressError(f"{target.host} leads to a metadata or link-local address")
            if not allow_private and not _is_public(one):
                raise ForbiddenAddressError(
                    f"{target.host} leads to an address of this machine or its network; allow_private = true "
                    "permits that for this receiver"
                )
    return texts


def _meant(address: Address) -> list[Address]:
    """Return the address and every IPv4 address that a gateway would make of it."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        number = int(address)
        inside = [address.ipv4_mapped, address.sixtofour]
        if address in _NAT64 or number >> 32 == 0:  # the well-known prefix; IPv4-compatible
            inside.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
        if address.teredo is not None:
            inside += address.teredo
        found += [each for each in inside if each is not None]
        if (address.ipv4_mapped or address in _NAT64) and inside:
            found.remove(address)  # it stands for the other one, and is itself in nobody's network
    return found


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _PRIVATE)
