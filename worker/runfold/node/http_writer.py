"""Frames and control records to the coordinator's HTTP port, for machines that can't reach Redis.

In: `Outgoing`. Out: `Incoming` without entry ids (the coordinator adds the frames to the stream itself), so
only acks and the no-progress timer move the window. The worker's only user of httpx.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import msgpack

from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit
from runfold.protocol.streams import StopRequest

from .failures import LinkError, Reaction, http_reaction
from .link import Downlink, EntryId, Incoming, Outgoing, Refused
from .pace import Pace

#: Body of one request; the coordinator refuses much larger ones.
MAX_BODY_BYTES: Final = 4_000_000
MAX_BODY_FRAMES: Final = 5_000
#: Writers in one question for acks.
MAX_ASKED_WRITERS: Final = 10_000
_MSGPACK: Final = {"content-type": "application/msgpack", "accept": "application/msgpack, application/json"}


class HttpClient:
    """Requests to one coordinator: authorised, time-limited, answers decoded. Not thread-safe."""

    def __init__(self, url: str, api_key: str | None, *, timeout_s: float = 2.0) -> None:
        headers = dict(_MSGPACK)
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        try:
            self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
        except (httpx.InvalidURL, ValueError) as error:
            raise LinkError(f"not an HTTP address: {error}", Reaction.RESOLVE) from error

    def get(self, path: str) -> Any:
        """Return the decoded answer. Raises LinkError."""
        return self._ask("GET", path, None, self._timeout_s)

    def post(self, path: str, body: bytes, *, wait_s: float | None = None) -> Any:
        """Return the decoded answer. Raises LinkError."""
        return self._ask("POST", path, body, wait_s or self._timeout_s)

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._client.close()

    def _ask(self, method: str, path: str, body: bytes | None, wait_s: float) -> Any:
        limits = httpx.Timeout(wait_s, connect=self._timeout_s)
        try:
            answer = self._client.request(method, path, content=body, timeout=limits)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            kind = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
            raise LinkError(f"{method} {path}: {kind or type(error).__name__}") from error
        if answer.status_code >= 300:
            raise LinkError(f"{method} {path}: HTTP {answer.status_code}", http_reaction(answer.status_code))
        try:
            if "msgpack" in answer.headers.get("content-type", ""):
                return msgpack.unpackb(answer.content, strict_map_key=False)
            return answer.json()
        except ValueError as error:
            raise LinkError(f"{method} {path}: an answer that does not decode") from error


class HttpWriter:
    """The link over HTTP. Not thread-safe. `close` is idempotent."""

    name = "http"
    idle_poll_s = 1.0

    def __init__(self, url: str, api_key: str | None, *, pace: Pace | None = None) -> None:
        self._client = HttpClient(url, api_key)
        self._pace = pace or Pace()

    def exchange(self, outgoing: Outgoing) -> Incoming:
        """Send controls, then frames, then ask. Raises LinkError where the coordinator can't be reached."""
        incoming = Incoming()
        for _, message in outgoing.controls:
            incoming.controls.append(self._control(message))
        self._send_frames(outgoing, incoming)
        hit("agent.after_send")
        for partition, writers in outgoing.polls.items():
            stoppable = outgoing.stops.get(partition, [])
            first = self._acks(partition, writers[:MAX_ASKED_WRITERS], stoppable[:MAX_ASKED_WRITERS])
            incoming.downlinks[partition] = first
            for at in range(MAX_ASKED_WRITERS, max(len(writers), len(stoppable)), MAX_ASKED_WRITERS):
                some = slice(at, at + MAX_ASKED_WRITERS)
                more = self._acks(partition, writers[some], stoppable[some])
                first.acks.update(more.acks)
                first.stops.update(more.stops)
        return incoming

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _control(self, message: bytes) -> Refused | None:
        try:
            self._client.post("/api/v1/control", message)
        except LinkError as error:
            return _refused_or_raise(error)
        return None

    def _send_frames(self, outgoing: Outgoing, incoming: Incoming) -> None:
        batch: list[list[Any]] = []
        batch_bytes = 0
        for frame in outgoing.frames:
            if batch and (batch_bytes + len(frame.data) > MAX_BODY_BYTES or len(batch) == MAX_BODY_FRAMES):
                incoming.frames += self._post(batch, batch_bytes)
                batch, batch_bytes = [], 0
            batch.append([frame.partition, frame.data, frame.crc32])
            batch_bytes += len(frame.data)
        if batch:
            incoming.frames += self._post(batch, batch_bytes)

    def _post(self, batch: list[list[Any]], batch_bytes: int) -> list[EntryId | Refused | None]:
        """Return one answer a frame: the coordinator takes the first n of a batch."""
        try:
            answer = self._client.post(
                "/api/v1/frames", msgpack.packb(batch), wait_s=self._pace.wait_s(batch_bytes)
            )
        except LinkError as error:
            if error.reaction is Reaction.RECONNECT:
                self._pace.timed_out()
            refused = _refused_or_raise(error)
            return [refused] * len(batch)
        accepted = answer.get("accepted", 0) if isinstance(answer, dict) else 0
        rest = Refused(Reaction.BACK_PRESSURE, f"the coordinator took {accepted} of {len(batch)} frames")
        return [None if at < accepted else rest for at in range(len(batch))]

    def _acks(self, partition: int, writers: list[bytes], stoppable: list[bytes]) -> Downlink:
        question: dict[str, Any] = {"partition": partition, "writers": [writer.hex() for writer in writers]}
        if stoppable:
            question["stops"] = [writer.hex() for writer in stoppable]
        answer = self._client.post("/api/v1/acks", msgpack.packb(question))
        try:
            acks = {bytes.fromhex(writer): int(seq) for writer, seq in (answer.get("acks") or {}).items()}
            server, beat, parts = answer.get("srv"), answer.get("beat"), answer.get("parts")
            mark, requests = answer.get("stops"), answer.get("stop") or {}
            return Downlink(
                server_id=bytes.fromhex(server) if server else None,
                beat=None if beat is None else int(beat),
                partitions=None if parts is None else int(parts),
                acks={writer: acks.get(writer) for writer in writers},
                stops_mark=None if mark is None else str(mark).encode(),
                stops={bytes.fromhex(w): StopRequest.from_map(found) for w, found in requests.items()},
                stacks=bytes.fromhex(answer["stacks"]) if answer.get("stacks") else None,
            )
        except (AttributeError, TypeError, ValueError, ProtocolError) as error:
            raise LinkError("POST /api/v1/acks: an answer of another shape") from error


def _refused_or_raise(error: LinkError) -> Refused:
    """A status is an answer: this request was refused. No answer at all is a lost link."""
    if error.reaction is Reaction.RECONNECT:
        raise error
    return Refused(error.reaction, str(error))
