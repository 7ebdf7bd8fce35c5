"""BlobClient: blobs to one server over HTTP, resumed where they broke off.

In: digests and open files. Out: blobs that the server has verified, or one of `failures`. Memory is bounded:
a file is read by the mebibyte, whatever its size. (docs/api.md, blobs)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import httpx
import msgpack

from runfold.batches import batches
from runfold.node.back_off import BackOff
from runfold.protocol.failpoints import hit
from runfold.uploads.failures import NotYetError, RefusedError, SourceError, StoppedError, TryLaterError
from runfold.uploads.source import Source

#: Body of one request of an upload; the server takes up to 64 MiB.
PIECE_BYTES: Final = 16 * 1024 * 1024
#: Digests in one question.
MAX_ASKED: Final = 10_000
#: Seconds without a byte from the server, which answers the last piece of a blob when all of it was hashed.
ANSWER_S: Final = 60.0
CONNECT_S: Final = 5.0
#: Answers that say "not there" in a row, to pieces at the offset that the server itself named.
MAX_CONFLICTS: Final = 20
LONGEST_ASKED_WAIT_S: Final = 60.0
#: Statuses that a person or time may change; every 5xx too.
_TRY_LATER: Final = frozenset({401, 403, 404, 408, 409, 425, 429})

T = TypeVar("T")
Query = Mapping[str, "str | int | Sequence[str] | None"]


class BlobClient:
    """One server. Thread-safe. `close` is idempotent; what is under way fails, and is gone on from later."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        patience_s: float = 5.0,
        stop: threading.Event | None = None,
        connections: int = 8,
        on_bytes: Callable[[int], None] = lambda _: None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            patience_s: How long to try again without any progress before `TryLaterError`.
            stop: When it is set, `StoppedError` is raised soon.
            on_bytes: Called, in the thread of the call, with the bytes that go out.
            wait: Sleeps that many seconds; returns True when told to stop.

        Raises:
            TryLaterError: `url` is no address.
        """
        headers = {"accept": "application/msgpack, application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._stop = stop or threading.Event()
        self._wait = wait or self._stop.wait
        self._patience_s = patience_s
        self._on_bytes = on_bytes
        self._clock = clock
        try:
            self._client = httpx.Client(
                base_url=f"{url.rstrip('/')}/api/v1",
                headers=headers,
                timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
                limits=httpx.Limits(max_connections=connections),
                transport=transport,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise TryLaterError(f"{url!r} is no HTTP address: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- blobs -------------------------------------------------------------------------------------------

    def missing(self, digests: Iterable[str]) -> set[str]:
        """Return those of the digests whose blobs the server has not. Raises TryLaterError, RefusedError."""
        wanted = list(dict.fromkeys(digests))
        found: set[str] = set()
        for at in range(0, len(wanted), MAX_ASKED):
            answer = self.ask("POST", "/blobs/missing", {"digests": wanted[at : at + MAX_ASKED]})
            found.update(answer["missing"])
        return found

    def upload(
        self,
        digest: str,
        source: Source,
        *,
        on_sent: Callable[[int], None] = lambda _: None,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Upload a blob, from where the server has it; return True when the server has all of it.

        Args:
            digest: SHA-256 of the first `source.size` bytes.
            on_sent: Called with the bytes that each piece brought.
            is_enough: Asked after each piece: True has False returned, and another call goes on.

        Raises:
            SourceError: The content is not what `digest` says: it changed, or became shorter.
            TryLaterError, RefusedError, StoppedError: See there.
        """
        conflicts = 0
        offset, is_complete = self._persist(lambda: self._offset(digest))
        while not is_complete:
            if offset > source.size:
                raise SourceError(f"{source.path} became shorter while it was read")
            before = offset
            try:
                offset, is_complete = self._persist(lambda at=before: self._piece(digest, source, at))  # type: ignore[misc]
            except _ConflictError as error:
                # Somebody else uploads the same, or the server forgot what it had.
                conflicts += 1
                if conflicts > MAX_CONFLICTS:
                    raise NotYetError(str(error), status=409) from error
                if self._wait(min(error.after_s, LONGEST_ASKED_WAIT_S)):
                    raise StoppedError(f"{source.path} was being uploaded") from error
                offset, is_complete = self._persist(lambda: self._offset(digest))
                continue
            conflicts = 0
            on_sent(max(0, offset - before))
            hit("uploads.after_piece")
            if not is_complete and is_enough():
                return False
        return True

    def upload_small(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """Upload many small blobs, several in a request; raises as `upload` does."""
        for batch in batches(blobs, lambda blob: len(blob[1])):
            self.ask("POST", "/blobs/batch", msgpack.packb(batch))
            self._on_bytes(sum(len(data) for _, data in batch))

    # --- anything else -----------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        query: Query | None = None,
    ) -> Any:
        """Return the decoded answer of a request that may be repeated: `path` below /api/v1, JSON or msgpack.

        Raises:
            TryLaterError, RefusedError, StoppedError: See there.
        """
        said = {name: value for name, value in (query or {}).items() if value is not None}
        about: dict[str, Any] = {"params": said}
        if isinstance(body, bytes):
            about |= {"content": body, "headers": {"content-type": "application/msgpack"}}
        elif body is not None:
            # Half of a surrogate pair, as names of files that are no Unicode hold them, is said as "?".
            text = json.dumps(body, ensure_ascii=False, allow_nan=False)
            about |= {
                "content": text.encode(errors="replace"),
                "headers": {"content-type": "application/json"},
            }
        return self._persist(lambda: self._once(method, path, about))

    # --- one attempt, and many ---------------------------------------------------------------------------

    def _offset(self, digest: str) -> tuple[int, bool]:
        return _progress(self._once("GET", f"/blobs/{digest}/upload", {}))

    def _piece(self, digest: str, source: Source, offset: int) -> tuple[int, bool]:
        length = min(PIECE_BYTES, source.size - offset)
        try:
            return _progress(
                self._once(
                    "PUT",
                    f"/blobs/{digest}/upload",
                    {
                        "params": {"offset": offset, "size": source.size},
                        "content": self._body(source, offset, length),
                        "headers": {
                            "content-type": "application/octet-stream",
                            "content-length": str(length),
                        },
                    },
                )
            )
        except TryLaterError as error:
            if error.status == 409:
                raise _ConflictError(str(error), error.after_s) from error
            raise

    def _body(self, source: Source, offset: int, length: int) -> Iterator[bytes]:
        for chunk in source.chunks(offset, length):
            if self._stop.is_set():
                raise StoppedError(f"{source.path} was being uploaded")
            self._on_bytes(len(chunk))
            yield chunk

    def _once(self, method: str, path: str, about: dict[str, Any]) -> Any:
        if self._stop.is_set():
            raise StoppedError(f"{method} {path}")
        try:
            answer = self._client.request(method, path, **about)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise TryLaterError(
                f"{method} {self._client.base_url}: {error or type(error).__name__}"
            ) from error
        except RuntimeError as error:  # httpx: the client was closed meanwhile
            raise StoppedError(f"{method} {path}: {error}") from error
        if answer.status_code >= 300:
            raise _failure(method, path, answer)
        return _decoded(answer)

    def _persist(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` gives, trying again for as long as the patience lasts."""
        back_off = BackOff(0.1, 5.0)
        began_s = self._clock()
        while True:
            try:
                return attempt()
            except TryLaterError as error:
                if error.status is not None and error.status < 500 and error.status != 429:
                    raise  # an answer, not a mishap: not to be had by asking again at once
                wait_s = max(back_off.fail(), min(error.after_s, LONGEST_ASKED_WAIT_S))
                if self._clock() - began_s + wait_s > self._patience_s:
                    raise
            if self._wait(wait_s):
                raise StoppedError("told to stop while the server was away")


class _ConflictError(Exception):
    """The server has another offset than we thought, or takes the blob from somebody else just now."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


def _progress(answer: Any) -> tuple[int, bool]:
    try:
        return int(answer["offset"]), bool(answer["complete"])
    except (TypeError, KeyError, ValueError) as error:
        raise TryLaterError("an answer of another shape than an upload's") from error


def _failure(method: str, path: str, answer: httpx.Response) -> Exception:
    status = answer.status_code
    text = f"{method} {path}: HTTP {status}{_reason(answer)}"
    if status == 422 and path.startswith("/blobs/"):
        return SourceError(f"the content changed while it was uploaded{_reason(answer)}")
    if status >= 500 or status in _TRY_LATER:
        return TryLaterError(text, status=status, after_s=_retry_after_s(answer))
    return RefusedError(text, status=status)


def _reason(answer: httpx.Response) -> str:
    try:
        said = answer.json()["error"]
        return f": {str(said['message'])[:500]}"
    except (ValueError, KeyError, TypeError):
        return ""


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0


def _decoded(answer: httpx.Response) -> Any:
    try:
        if "msgpack" in answer.headers.get("content-type", ""):
            return msgpack.unpackb(answer.content, strict_map_key=False)
        return answer.json()
    except ValueError as error:
        raise TryLaterError(
            f"{answer.url}: an answer that does not decode: is this a runfold server?"
        ) from error
