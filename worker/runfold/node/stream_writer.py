"""Frames and control records into Redis streams, acks out of the downlink hash; the only user of redis.

In: `Outgoing`. Out: `Incoming`; a driver's error becomes a `Refused` (this command) or a `LinkError` (all).
One connection, one pipeline a round trip. The driver's own retries and pools are not used: they reconnect
silently, and what was in flight on a lost connection must be sent again.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

import redis.connection
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from runfold.protocol import streams
from runfold.protocol.errors import ProtocolError
from runfold.protocol.failpoints import hit

from .failures import LinkError, Reaction, redis_reaction
from .link import Downlink, EntryId, Incoming, Outgoing, Refused
from .pace import Pace

#: Frames go to the socket in pieces of this many bytes, each under the time limit of its own, so that a
#: slow link is no dead link.
PIECE_BYTES: Final = 64 * 1024
#: The kernel gives a connection up when nothing is acknowledged for this long, milliseconds.
USER_TIMEOUT_MS: Final = 5_000

_DOWNLINK_FIELDS: Final = (
    streams.SERVER_FIELD,
    streams.CURSOR_FIELD,
    streams.BEAT_FIELD,
    streams.PARTITIONS_FIELD,
    streams.STOPS_FIELD,
    streams.STACKS_FIELD,
)
#: Driver class -> first word of the reply that it stands for, where the driver strips the word.
_WORDS: Final[dict[str, str]] = {
    "OutOfMemoryError": "OOM",
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "NOAUTH",
    "AuthorizationError": "NOPERM",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}


class StreamWriter:
    """One connection to Redis. Not thread-safe. When closed, what is unanswered counts as not sent."""

    name = "redis"
    idle_poll_s = 0.5

    def __init__(self, url: str, *, pace: Pace | None = None, io_timeout_s: float = 1.5) -> None:
        """Connect.

        Args:
            url: redis://, rediss:// or unix://, with user, password, database and TLS options.
            pace: What is known of the link's speed; shared over reconnects.
            io_timeout_s: Limit for connecting and for each piece of a read or write.

        Raises:
            LinkError: No connection, or refused.
        """
        self._pace = pace or Pace()
        self._connection = _connection(url, io_timeout_s)
        try:
            self._connection.connect()
        except (redis.exceptions.RedisError, OSError, ValueError) as error:
            raise _link_error(error) from error

    def exchange(self, outgoing: Outgoing) -> Incoming:
        """Send everything in one pipeline, then read every answer. Raises LinkError."""
        frames_bytes = sum(len(frame.data) for frame in outgoing.frames)
        began_s = time.monotonic()
        try:
            self._connection.send_packed_command(_joined(self._pieces(outgoing)))
            hit("agent.after_send")
            incoming = self._read(outgoing, began_s + self._pace.wait_s(frames_bytes))
        except Exception as error:  # bytes that were damaged on the way make the driver raise anything
            if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
                self._pace.timed_out()
            self.close()
            raise _link_error(error) from error
        if any(isinstance(answer, Refused) for answer in incoming.frames):
            self._pace.was_full()
        else:
            self._pace.succeeded(frames_bytes, time.monotonic() - began_s)
        return incoming

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    # --- questions --------------------------------------------------------------------------------------

    def _pieces(self, outgoing: Outgoing) -> Iterator[Any]:
        yield from self._pack(
            [
                (b"XADD", streams.control_stream(partition), b"*", streams.MESSAGE_FIELD, message)
                for partition, message in outgoing.controls
            ]
        )
        for frame in outgoing.frames:
            yield _frame_head(streams.data_stream(frame.partition), len(frame.data))
            view = memoryview(frame.data)
            for at in range(0, len(view), PIECE_BYTES):
                yield view[at : at + PIECE_BYTES]
            yield _frame_tail(frame.crc32)
        questions: list[tuple[Any, ...]] = [
            (
                b"HMGET",
                streams.downlink(partition),
                *_DOWNLINK_FIELDS,
                *map(streams.ack_field, writers),
                *map(streams.stop_field, outgoing.stops.get(partition, ())),
            )
            for partition, writers in outgoing.polls.items()
        ]
        questions += [(b"XLEN", streams.data_stream(partition)) for partition in outgoing.lengths]
        if outgoing.ask_run_id:
            questions.append((b"INFO", b"server"))
        yield from self._pack(questions)

    def _pack(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        packed: list[Any] = self._connection.pack_commands(commands) if commands else []
        return packed

    # --- answers ----------------------------------------------------------------------------------------

    def _read(self, outgoing: Outgoing, deadline_s: float) -> Incoming:
        incoming = Incoming()
        for _ in outgoing.controls:
            answer = self._answer(deadline_s)
            incoming.controls.append(answer if isinstance(answer, Refused) else None)
        for _ in outgoing.frames:
            answer = self._answer(deadline_s)
            incoming.frames.append(answer if isinstance(answer, Refused) else EntryId.parse(answer))
        for partition, writers in outgoing.polls.items():
            answer = self._answer(deadline_s)
            if not isinstance(answer, Refused):
                stoppable = outgoing.stops.get(partition, [])
                incoming.downlinks[partition] = _downlink(answer, writers, stoppable)
        for partition in outgoing.lengths:
            answer = self._answer(deadline_s)
            if not isinstance(answer, Refused):  # without the right to ask, the no-progress timer remains
                incoming.lengths[partition] = int(answer)
        if outgoing.ask_run_id:
            incoming.run_id = _run_id(self._answer(deadline_s))
        return incoming

    def _answer(self, deadline_s: float) -> Any:
        left_s = max(0.05, deadline_s - time.monotonic())
        if not self._connection.can_read(timeout=left_s):
            raise redis.exceptions.TimeoutError("no answer from Redis in time")
        try:
            return self._connection.read_response()
        except redis.exceptions.ResponseError as error:
            message = _message(error)
            return Refused(redis_reaction(message), message)


def _joined(pieces: Iterator[Any]) -> Iterator[Any]:
    """Join small pieces, so that a thousand small frames are not three thousand packets."""
    waiting: list[Any] = []
    waiting_bytes = 0
    for piece in pieces:
        if len(piece) >= PIECE_BYTES // 4:
            if waiting:
                yield b"".join(waiting)
                waiting, waiting_bytes = [], 0
            yield piece
            continue
        waiting.append(piece)
        waiting_bytes += len(piece)
        if waiting_bytes >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, waiting_bytes = [], 0
    if waiting:
        yield b"".join(waiting)


def _connection(url: str, io_timeout_s: float) -> Any:
    try:
        options: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise LinkError(f"not a Redis address: {error}", Reaction.RESOLVE) from error
    kind = options.pop("connection_class", redis.connection.Connection)
    if not issubclass(kind, redis.connection.UnixDomainSocketConnection):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _tcp_options()}
        options["socket_connect_timeout"] = io_timeout_s
    options |= {"socket_timeout": io_timeout_s, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
    try:
        return kind(**options)
    except (TypeError, ValueError, redis.exceptions.RedisError) as error:  # an option that does not exist
        raise LinkError(f"not a usable Redis address: {error}", Reaction.RESOLVE) from error


def _tcp_options() -> dict[int, int]:
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {} if user_timeout is None else {user_timeout: USER_TIMEOUT_MS}


def _frame_head(stream: str, length: int) -> bytes:
    key = stream.encode()
    return b"*7\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\n%s\r\n$%d\r\n" % (
        len(key),
        key,
        streams.FRAME_FIELD,
        length,
    )


def _frame_tail(crc32: int) -> bytes:
    return b"\r\n$1\r\n%s\r\n$4\r\n%s\r\n" % (streams.CRC_FIELD, struct.pack("<I", crc32))


def _downlink(values: list[bytes | None], writers: list[bytes], stoppable: list[bytes]) -> Downlink:
    """Read the published hash; a field that does not parse counts as not published: it is only a hint."""
    server, cursor, beat, partitions, stops_mark, stacks = values[: len(_DOWNLINK_FIELDS)]
    rest = values[len(_DOWNLINK_FIELDS) :]
    acks = zip(writers, rest[: len(writers)], strict=True)
    requests = zip(stoppable, map(_stop, rest[len(writers) :]), strict=True)
    return Downlink(
        server_id=_hex(server),
        cursor=_entry(cursor),
        beat=_int(beat),
        partitions=_int(partitions),
        acks={writer: _int(ack) for writer, ack in acks},
        stops_mark=stops_mark,
        stops={writer: request for writer, request in requests if request is not None},
        stacks=stacks,
    )


def _stop(value: bytes | None) -> streams.StopRequest | None:
    try:
        return None if value is None else streams.StopRequest.unpack(value)
    except ProtocolError:
        return None


def _int(value: bytes | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _hex(value: bytes | None) -> bytes | None:
    try:
        return None if value is None else bytes.fromhex(value.decode("ascii"))
    except ValueError:
        return None


def _entry(value: bytes | None) -> EntryId | None:
    try:
        return None if value is None else EntryId.parse(value)
    except ValueError:
        return None


def _run_id(answer: Any) -> str | None:
    """Return the run id of an INFO answer; None where the right to ask is missing."""
    if isinstance(answer, Refused):
        return None
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "run_id":
            return value.strip()
    return None


def _message(error: Exception) -> str:
    """Return the reply as the server sent it: the driver strips the first word of some."""
    text = str(error)
    known = (_WORDS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _WORDS)
    word = getattr(error, "status_code", None) or next(known, None)
    if isinstance(word, str) and not text.startswith(word):
        return f"{word} {text}"
    return text


def _link_error(error: Exception) -> LinkError:
    if isinstance(error, LinkError):
        return error
    message = _message(error)
    reaction = redis_reaction(message)
    if isinstance(error, redis.exceptions.AuthenticationError):
        reaction = Reaction.REFUSED
    elif reaction is Reaction.RETRY:
        reaction = Reaction.RECONNECT
    return LinkError(message, reaction)
