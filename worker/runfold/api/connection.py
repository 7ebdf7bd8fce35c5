"""The client's end of the HTTP API: finds the server, asks, asks again after trouble, decodes.

The only module of the client that knows httpx, and turns its errors into ours. In: a path below /api/v1 and
parameters. Out: plain Python values.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runfold.api.errors import (
    GroupNotFoundError,
    NotFoundError,
    RequestError,
    RunEndedError,
    RunNotFoundError,
    UnavailableError,
)
from runfold.errors import AuthenticationError, CommError

if TYPE_CHECKING:
    import httpx

DEFAULT_TIMEOUT_S = 30.0
#: Pauses before the second, third, ... attempt of a read, each with up to as much again at random.
RETRY_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
#: Longest query of a request, in bytes; servers read 64 KiB of request line and headers.
MAX_QUERY_BYTES = 60_000
#: What is read of a body at a time.
PIECE_BYTES = 256 * 1024
#: Refusals with another status that asking again does not change.
_WRONG_REQUESTS = frozenset(
    {
        *("invalid_transition", "run_deleted"),
        *("artifact_has_aliases", "artifact_is_linked", "name_taken"),
    }
)
_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE_S = 30.0
_EXT_BIG_INT = 1
#: Codes of the `array` module by msgpack extension: little-endian typed arrays ("?": one byte each).
_ARRAY_CODES = {16: "d", 17: "q", 18: "Q", 19: "I", 20: "?"}

#: JSON, or msgpack that is packed already.
_Body = Mapping[str, Any] | bytes | None
_Query = list[tuple[str, "str | int | float | bool | None"]]
Parameters = Mapping[str, "str | int | float | bool | Sequence[str] | None"]


def server_url(environ: Mapping[str, str]) -> str | None:
    """Return the server that the environment names, else the one registered by `runfold up`, else None."""
    if url := environ.get("RUNFOLD_URL"):
        return url
    folder = Path(environ.get("RUNFOLD_DIR") or Path.home() / ".runfold").expanduser()
    try:
        return str(json.loads((folder / "server.json").read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Connection:
    """One server's HTTP API. Thread-safe; survives a fork. Nothing is opened before the first request."""

    def __init__(self, url: str | None, api_key: str | None, timeout_s: float | None) -> None:
        self._given_url = url.rstrip("/") if url else None
        self._api_key = api_key or os.environ.get("RUNFOLD_API_KEY") or None
        self._timeout_s = timeout_s if timeout_s is not None else DEFAULT_TIMEOUT_S
        self._client: httpx.Client | None = None
        self._client_pid = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The server's address.

        Raises:
            CommError: None is given, set or registered.
        """
        url = self._given_url or server_url(os.environ)
        if url is None:
            raise CommError(
                "no runfold server: start one with `runfold up`, or set RUNFOLD_URL to the address of one"
            )
        return url.rstrip("/")

    def get(self, path: str, parameters: Parameters | None = None) -> Any:
        """Return the answer of GET /api/v1{path}; safe to repeat, so trouble on the way is met with patience.

        Raises:
            CommError: No answer after all attempts, or one that is an error; subclasses tell which.
        """
        query = _query(parameters or {})
        _check_length(query)
        return self._ask("GET", path, query, None)

    def get_once(self, path: str, parameters: Parameters | None = None) -> Any:
        """Return the answer of GET /api/v1{path}, where nobody would wait for a second attempt.

        Raises:
            CommError: As of get().
        """
        query = _query(parameters or {})
        _check_length(query)
        found = self._attempt("GET", path, query, None)
        if isinstance(found, _TryAgain):
            raise found.error
        return found.value

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer of POST /api/v1{path} with a JSON body; only for what is safe to repeat.

        Raises:
            CommError: As of get().
        """
        return self._ask("POST", path, [], body)

    @contextlib.contextmanager
    def stream(self, path: str, parameters: Parameters | None = None, *, offset: int = 0) -> Iterator[Body]:
        """Open GET /api/v1{path} for its bytes from `offset` on: one attempt, nothing of it held in memory.

        Raises:
            UnavailableError: No answer, also in the middle of it; the next attempt may go on from there.
            CommError: An answer that is an error; subclasses tell which.
        """
        import httpx

        query = _query(parameters or {})
        _check_length(query)
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            with self._open().stream(
                "GET", f"{self.url}/api/v1{path}", params=query, headers=headers
            ) as response:
                if response.status_code not in (200, 206):
                    response.read()
                    if response.status_code in _RETRY_STATUSES:
                        raise UnavailableError(_error(response).message, after_s=_retry_after_s(response))
                    raise _error(response)
                yield Body(response, offset if response.status_code == 206 else 0)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommError(f"{self.url!r} is no address of a server: {error}", error) from error
        except httpx.TransportError as error:
            raise UnavailableError(f"{self.url} can't be read from: {error}", error) from error

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer of PATCH /api/v1{path} with exact values; only for what is safe to repeat.

        Raises:
            RequestError: A value can't travel.
            CommError: As of get().
        """
        return self._ask("PATCH", path, [], _packed(body))

    def patch_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer of PATCH /api/v1{path} with a JSON body; only for what is safe to repeat.

        Raises:
            CommError: As of get().
        """
        return self._ask("PATCH", path, [], body)

    def delete(self, path: str, parameters: Parameters | None = None) -> Any:
        """Return the answer of DELETE /api/v1{path}; only for what is safe to repeat.

        Raises:
            CommError: As of get().
        """
        return self._ask("DELETE", path, _query(parameters or {}), None)

    def _ask(self, method: str, path: str, query: _Query, body: _Body) -> Any:
        slow = 0
        for pause_s in (*RETRY_PAUSES_S, None):
            problem = self._attempt(method, path, query, body)
            if not isinstance(problem, _TryAgain):
                return problem.value
            slow += problem.is_slow
            # A server that is busy with our question is not helped by a third one.
            if pause_s is None or slow > 1:
                raise problem.error
            time.sleep(max(problem.after_s, pause_s * (1 + random.random())))  # noqa: S311 - spreads load only
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections; the next request opens new ones. Idempotent."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __del__(self) -> None:
        # Nobody closes an Api; an interpreter that ends may have taken httpx apart already.
        client = getattr(self, "_client", None)
        if client is not None and self._client_pid == os.getpid():
            with contextlib.suppress(Exception):
                client.close()

    def _attempt(self, method: str, path: str, query: _Query, body: _Body) -> _Answer | _TryAgain:
        import httpx

        url = f"{self.url}/api/v1{path}"
        try:
            if isinstance(body, bytes):
                headers = {"Content-Type": "application/msgpack"}
                response = self._open().request(method, url, params=query, content=body, headers=headers)
            else:
                response = self._open().request(method, url, params=query, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommError(f"{self.url!r} is no address of a server: {error}", error) from error
        except httpx.TimeoutException as error:
            text = f"{self.url} did not answer within {self._timeout_s:g} s; Api(timeout=...) waits longer"
            return _TryAgain(CommError(text, error), is_slow=isinstance(error, httpx.ReadTimeout))
        except httpx.TransportError as error:
            text = f"can't reach {self.url} ({error}): is `runfold up` running there, is RUNFOLD_URL right?"
            return _TryAgain(CommError(text, error))
        if response.status_code in _RETRY_STATUSES:
            return _TryAgain(_error(response), _retry_after_s(response))
        if response.status_code != 200:
            raise _error(response)
        return _Answer(_decode(response))

    def _open(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None or self._client_pid != os.getpid():
                # After a fork the parent's sockets must not be used by the child: let them go.
                headers = {"Accept": "application/msgpack"}
                if self._api_key:
                    headers["Authorization"] = f"Bearer {self._api_key}"
                self._client = httpx.Client(headers=headers, timeout=self._timeout_s)
                self._client_pid = os.getpid()
            return self._client


class Body:
    """The bytes of an answer that is on its way.

    Attributes:
        offset: Where they begin: 0 where the server did not want to begin later.
    """

    __slots__ = ("_response", "offset")

    def __init__(self, response: httpx.Response, offset: int) -> None:
        self._response = response
        self.offset = offset

    def pieces(self) -> Iterator[bytes]:
        """Yield them as they come; to be used within `Connection.stream`."""
        return self._response.iter_raw(PIECE_BYTES)


class _Answer:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _TryAgain:
    __slots__ = ("after_s", "error", "is_slow")

    def __init__(self, error: CommError, after_s: float = 0.0, *, is_slow: bool = False) -> None:
        self.error = error
        self.after_s = after_s
        self.is_slow = is_slow


def _packed(body: Mapping[str, Any]) -> bytes:
    from runfold.protocol.errors import LimitError
    from runfold.protocol.values import pack_value

    try:
        return pack_value(dict(body))
    except (LimitError, TypeError) as error:
        raise RequestError(f"a value can't be sent: {error}", field="value") from error


def _query(parameters: Parameters) -> _Query:
    query: _Query = []
    for name, value in parameters.items():
        if value is None:
            continue
        values = [value] if isinstance(value, (str, int, float)) else value
        query.extend((name, str(int(each)) if isinstance(each, bool) else str(each)) for each in values)
    return query


def _check_length(query: _Query) -> None:
    """Refuse what no server would read: an address has a limit."""
    size = len(urlencode(query))
    if size > MAX_QUERY_BYTES:
        name = max(query, key=lambda pair: sum(len(str(each[1])) for each in query if each[0] == pair[0]))[0]
        raise RequestError(
            f"{name} takes {size} bytes in one request",
            code="too_large",
            field=name,
            limit=MAX_QUERY_BYTES,
            hint=f"at most {MAX_QUERY_BYTES}: ask for fewer at a time",
        )


def _decode(response: httpx.Response) -> Any:
    import msgpack

    if "msgpack" not in response.headers.get("content-type", ""):
        raise CommError(f"{response.url} did not answer as a runfold server does: is RUNFOLD_URL right?")
    try:
        return msgpack.unpackb(response.content, strict_map_key=False, ext_hook=_extension)
    except (ValueError, msgpack.UnpackException) as error:
        raise CommError(f"an answer of {response.url} can't be decoded: {error}", error) from error


def _extension(code: int, data: bytes) -> Any:
    if code == _EXT_BIG_INT and len(data) <= 4097:
        return int(data)
    if code not in _ARRAY_CODES:
        raise ValueError(f"unknown msgpack extension {code}")
    if _ARRAY_CODES[code] == "?":
        return [byte != 0 for byte in data]
    numbers = array.array(_ARRAY_CODES[code], data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _error(response: httpx.Response) -> CommError:
    """Return the exception for an answer that is no success."""
    status = response.status_code
    try:
        said = response.json()["error"]
        code, message, hint = str(said["code"]), str(said["message"]), said.get("hint")
    except (ValueError, KeyError, TypeError):
        text = (
            f"{response.url} answered {status} without the words of a runfold server: is RUNFOLD_URL right?"
        )
        return CommError(text)
    text = message if hint is None else f"{message} ({hint})"
    if status == 401:
        return AuthenticationError(text)
    if code == "run_not_found":
        return RunNotFoundError(text)
    if code == "run_ended":
        return RunEndedError(text)
    if code == "group_not_found":
        return GroupNotFoundError(text)
    if status == 404:
        return NotFoundError(text)
    if status in (400, 413, 422) or code in _WRONG_REQUESTS:
        return RequestError(message, code=code, field=said.get("field"), limit=said.get("limit"), hint=hint)
    return CommError(text)


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(_LONGEST_PAUSE_S, max(0.0, float(response.headers.get("retry-after", "0"))))
    except ValueError:
        return 0.0
