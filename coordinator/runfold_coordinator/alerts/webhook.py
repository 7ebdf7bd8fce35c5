"""Sends one webhook: to an address that was checked, TLS verified, without redirects, in bounded time.

Of the answer only the status counts; its body is not read, and nothing that the other side says is repeated.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from runfold_coordinator.alerts.addresses import (
    ForbiddenAddressError,
    Resolver,
    Target,
    allowed_addresses,
    check_url,
    resolve,
)

#: Longest body that is sent.
MAX_BODY_BYTES = 128 * 1024


class DeliveryError(Exception):
    """Not delivered; may be tried again. The message has no secret and no word of the other side."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    allow_http: bool = False,
    allow_private: bool = False,
    ca_file: Path | None = None,
    resolver: Resolver = resolve,
) -> int:
    """Send `body`; return the status, 200 to 299.

    Args:
        timeout_s: For everything after the name was resolved, however slowly the other side drips.

    Raises:
        DeliveryError: No answer, or one that is no success.
    """
    if len(body) > MAX_BODY_BYTES:
        raise DeliveryError(f"a body of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}")
    try:
        target = check_url(url, allow_http=allow_http)
        addresses = allowed_addresses(target, allow_private=allow_private, resolver=resolver)
    except (ValueError, ForbiddenAddressError) as error:
        raise DeliveryError(str(error)) from None
    except OSError as error:
        raise DeliveryError(f"the name has no address ({type(error).__name__})") from error
    deadline_s = time.monotonic() + timeout_s
    try:
        connection = _connect(target, addresses, deadline_s, ca_file)
    except OSError as error:  # TLS errors too
        raise DeliveryError(f"no connection: {_reason(error)}") from error
    try:
        return _talk(connection, target, body, headers, deadline_s)
    finally:
        connection.close()


def _connect(target: Target, addresses: list[str], deadline_s: float, ca_file: Path | None) -> socket.socket:
    """Return a connection to the first address that answers, TLS done with the name of the URL."""
    failed: OSError = TimeoutError("timed out")
    for address in addresses:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            plain = socket.create_connection((address, target.port), timeout=left_s)
        except OSError as error:
            failed = error
            continue
        if not target.is_tls:
            return plain
        return _encrypt(plain, target.host, deadline_s, ca_file)
    raise failed


def _encrypt(plain: socket.socket, host: str, deadline_s: float, ca_file: Path | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    encrypted = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        with _Watchdog(encrypted, deadline_s):
            encrypted.do_handshake()
    except BaseException:
        encrypted.close()
        raise
    return encrypted


def _talk(
    connection: socket.socket, target: Target, body: bytes, headers: Mapping[str, str], deadline_s: float
) -> int:
    client = http.client.HTTPConnection(target.host, target.port)
    client.sock = connection
    with _Watchdog(connection, deadline_s):
        try:
            client.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
            client.putheader("Host", target.host_header)
            client.putheader("Content-Length", str(len(body)))
            client.putheader("Connection", "close")
            for name, value in headers.items():
                client.putheader(name, value)
            client.endheaders(body)
            with client.getresponse() as answer:
                status, retry_after = answer.status, answer.headers.get("retry-after", "")
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline_s:
                raise DeliveryError("no answer in time") from error
            raise DeliveryError(f"no answer: {_reason(error)}") from error
    if time.monotonic() >= deadline_s:  # headers that the watchdog has cut short look complete
        raise DeliveryError("no answer in time")
    if 200 <= status < 300:
        return status
    asked_s = (
        float(retry_after)
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7
        else 0.0
    )
    note = " (redirects are not followed)" if 300 <= status < 400 else ""
    raise DeliveryError(f"answered {status}{note}", retry_after_s=asked_s)


def _reason(error: Exception) -> str:
    """Return what kind of fault it is; never words that came over the line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid for this host: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror
    return type(error).__name__


class _Watchdog:
    """Ends a socket at a time: its own timeout counts from each byte anew."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection = connection
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        self._timer = threading.Timer(max(0.0, deadline_s - time.monotonic()), self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        try:
            # The method of the plain socket: TLS would want to say goodbye first.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        except OSError:  # it ended by itself
            pass
