"""The one choke point: every request passes here before a route sees it, every answer on its way out.

In: ASGI requests and a GatePolicy. Out: the request, or a refusal (host, key, origin, size); answers with
security headers. Users, keys and tenants will be checked here and nowhere else.
"""

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runfold_coordinator.api.errors import ApiError, OverLimitError

logger = logging.getLogger(__name__)

#: Largest body of a request, in bytes, where no other limit is given for its path.
MAX_BODY_BYTES = 1024 * 1024
#: Longest wait for the next piece of a body; a client that stalls longer is let go.
BODY_PIECE_TIMEOUT_S = 30.0
#: Longest time for a whole body.
BODY_TIMEOUT_S = 300.0
#: Answered without a key, so that load balancers and clients can ask whether anybody is there.
PUBLIC_PATHS = frozenset({"/api/v1/health"})

_ADMITTED = "runfold.admitted"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ANSWER_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_CONTENT_POLICY = (
    "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors {framed_by}; form-action 'self'"
)
#: Set in a request's scope by a route whose page may be shown inside of a notebook: it changes nothing.
MAY_BE_FRAMED = "runfold.may_be_framed"
#: Notebooks on the machine in front of which a person sits.
LOCAL_NOTEBOOKS = "'self' http://localhost:* http://127.0.0.1:* https://localhost:* vscode-webview:"
_ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:([0-9]{1,5}|\*))?")
#: For what users sent: opened in a browser it loads nothing, runs nothing and has no origin.
FILE_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
#: What a route may answer in place of the policy of our own pages.
STRICTER_POLICIES = frozenset({FILE_POLICY})


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """Who may pass. Built once by the service from its settings."""

    #: Host names a request may be addressed to; None accepts any (a public address, where a key is required).
    allowed_hosts: frozenset[str] | None
    #: The key to show, None where none is asked for.
    api_key: str | None = field(default=None, repr=False)
    #: Largest body by path, in bytes; "{}" stands for any one part. Other paths have MAX_BODY_BYTES.
    body_limits: Mapping[str, int] = field(default_factory=dict)
    #: Pages that may show a run's page inside of them, as frame-ancestors has it.
    framed_by: str = LOCAL_NOTEBOOKS

    @classmethod
    def for_address(
        cls,
        host: str,
        *,
        api_key: str | None = None,
        body_limits: Mapping[str, int] | None = None,
        notebooks: str = "",
    ) -> "GatePolicy":
        """Return the policy for a server bound to `host`.

        A loopback server answers only to loopback names: a page of a foreign site whose name resolves to
        127.0.0.1 (DNS rebinding) would otherwise read everything.

        Args:
            notebooks: Origins of notebooks on other machines, by comma.

        Raises:
            ValueError: `host` can be reached from other machines and there is no key; or what is no origin.
        """
        local = is_loopback(host)
        if not local and not api_key:
            raise ValueError(
                f"refusing to listen on {host!r} without a key: set RUNFOLD_API_KEY, or listen on 127.0.0.1"
            )
        hosts = frozenset({"localhost", "127.0.0.1", "::1", host}) if local else None
        framed_by = " ".join([LOCAL_NOTEBOOKS, *origins(notebooks)])
        return cls(hosts, api_key, dict(body_limits or {}), framed_by)


def origins(text: str) -> list[str]:
    """Return the origins in a list by comma, such as "https://hub.example.com, http://lab:8888".

    Raises:
        ValueError: Something else is in it.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for each in found:
        if _ORIGIN.fullmatch(each) is None:
            raise ValueError(f"{each!r} is no origin: scheme://host[:port], without a path")
    return found


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_admission(request: Request) -> None:
    """Refuse a request that did not come through the gate. Every router carries this dependency."""
    if not request.scope.get(_ADMITTED):
        raise ApiError(500, "not_admitted", "this route is served without the gate in front of it")


class Gate:
    """ASGI middleware that admits or refuses. Holds no state between requests."""

    def __init__(self, app: ASGIApp, policy: GatePolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass `scope` on if the policy admits it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # no such routes yet, so no such door

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, scope, self._policy.framed_by)
        body = None
        try:
            self._admit(scope)
            body = _BoundedBody(receive, self._body_limit(scope))
            scope[_ADMITTED] = True
            await self._app(scope, body, answer)
        except ApiError as error:
            await answer.refuse(scope, error)
        except Exception:
            if body is not None and body.refusal is not None:
                await answer.refuse(scope, body.refusal)  # frameworks wrap what their body reader raised
                return
            logger.exception("request failed", extra={"event": "request_failed", "path": scope["path"]})
            hint = "the coordinator's log has the details"
            await answer.refuse(
                scope, ApiError(500, "internal", "the coordinator failed to answer", hint=hint)
            )

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in _SAFE_METHODS:
            _check_origin(headers)
        if scope["path"] not in PUBLIC_PATHS:
            self._check_key(headers)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "unsupported_encoding", "compressed bodies are not accepted", field="body")

    def _check_host(self, headers: Headers) -> None:
        names = headers.getlist("host")
        allowed = self._policy.allowed_hosts
        if len(names) != 1:
            raise ApiError(400, "bad_host", "a request carries exactly one Host header", field="Host")
        if allowed is not None and _host_name(names[0]) not in allowed:
            raise ApiError(
                421,
                "wrong_host",
                "this server listens on the local machine only and is not known by that name",
                field="Host",
                hint="use http://127.0.0.1:PORT; for other names start it with --host and RUNFOLD_API_KEY",
            )

    def _check_key(self, headers: Headers) -> None:
        key = self._policy.api_key
        if key is None:
            return
        shown = _shown_key(headers.get("authorization", ""))
        if shown is None or not hmac.compare_digest(shown.encode(), key.encode()):
            raise ApiError(
                401,
                "wrong_key" if shown else "no_key",
                "this server asks for an API key",
                field="Authorization",
                hint="set RUNFOLD_API_KEY to the key that the server was started with",
                headers={"WWW-Authenticate": 'Basic realm="runfold", charset="UTF-8"'},
            )

    def _body_limit(self, scope: Scope) -> int:
        limit = _limit_of(self._policy.body_limits, scope["path"])
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise ApiError(400, "bad_length", "Content-Length is not a number", field="Content-Length")
        if len(length) > 18 or int(length) > limit:
            raise _too_large(limit)
        return limit


class _BoundedBody:
    """The request's `receive`, which ends a body that is too long or too slow."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen_bytes = 0
        self._ended = False
        self._deadline_s: float | None = None
        self.refusal: ApiError | None = None

    async def __call__(self) -> Message:
        if self._ended:
            return await self._receive()  # waits for the disconnect, as long as the answer takes
        now_s = asyncio.get_running_loop().time()
        if self._deadline_s is None:
            self._deadline_s = now_s + BODY_TIMEOUT_S
        try:
            async with asyncio.timeout(min(BODY_PIECE_TIMEOUT_S, max(0.0, self._deadline_s - now_s))):
                message = await self._receive()
        except TimeoutError as error:
            self.refusal = ApiError(408, "body_timeout", "the body took too long to arrive", field="body")
            raise self.refusal from error
        self._seen_bytes += len(message.get("body", b""))
        if self._seen_bytes > self._limit:
            self.refusal = _too_large(self._limit)
            raise self.refusal
        self._ended = not message.get("more_body", False)
        return message


class _Answer:
    """The request's `send`, which adds the security headers and knows whether an answer has begun."""

    def __init__(self, send: Send, scope: Scope, framed_by: str) -> None:
        self._send = send
        self._scope = scope
        self._framed_by = framed_by
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _ANSWER_HEADERS.items():
                headers[name] = value
            # A route may forbid a page more than this, never less: see files.
            if headers.get("content-security-policy") not in STRICTER_POLICIES:
                framed_by = self._framed_by if self._scope.get(MAY_BE_FRAMED) else "'none'"
                headers["Content-Security-Policy"] = _CONTENT_POLICY.format(framed_by=framed_by)
                if framed_by != "'none'":
                    del headers["X-Frame-Options"]  # it can't name who may
            if self._scope["path"].startswith("/api/"):
                headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    async def refuse(self, scope: Scope, error: ApiError) -> None:
        """Answer `error`, unless the answer is already on its way: then the connection just ends."""
        if self._begun:
            return

        async def no_body() -> Message:
            return {"type": "http.disconnect"}

        await error.response()(scope, no_body, self)


def _limit_of(limits: Mapping[str, int], path: str) -> int:
    """Return the limit of a path, or of the pattern that it fits."""
    if path in limits:
        return limits[path]
    parts = path.split("/")
    for pattern, limit in limits.items():
        wanted = pattern.split("/")
        if len(wanted) == len(parts) and all(map(_fits, wanted, parts)):
            return limit
    return MAX_BODY_BYTES


def _fits(wanted: str, part: str) -> bool:
    return wanted in ("{}", part)


def _too_large(limit: int) -> OverLimitError:
    return OverLimitError(
        f"the body is larger than {limit} bytes", field="body", limit=limit, hint="send less"
    )


def _host_name(header: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets; "" when it can't be read."""
    try:
        return urlsplit("//" + header).hostname or ""
    except ValueError:
        return ""


def _check_origin(headers: Headers) -> None:
    """Refuse a write that a page of another site made the browser send."""
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    if foreign or headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
        raise ApiError(403, "foreign_origin", "writes from pages of other sites are refused", field="Origin")


def _shown_key(authorization: str) -> str | None:
    """Return the key of `Bearer KEY`, or of `Basic` with the key as password; None when there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        _user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password or None
