"""One partition's streams in Redis: reads both from a cursor, trims, publishes, appends.

Every error of Redis, known or not, becomes StreamUnavailableError: wait and try again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runfold.protocol.streams import (
    CRC_FIELD,
    FRAME_FIELD,
    MESSAGE_FIELD,
    control_stream,
    data_stream,
    downlink,
)
from runfold_coordinator.ingest.transaction import Entry

logger = logging.getLogger(__name__)

START = "0-0"
CONNECT_TIMEOUT_S = 2.0
#: Longest wait for an answer beside BLOCK: a big reply over a slow link.
SOCKET_TIMEOUT_S = 10.0
#: A batch ends at these.
BATCH_BYTES = 32 * 1024 * 1024
BATCH_ENTRIES = 2048
#: Entries asked for at once, by the largest of the last ones. Few even of small ones, because the next may be
#: large: XREAD can't be bounded in bytes.
COUNT_LARGE, COUNT_MIDDLE, COUNT_SMALL = 2, 16, 32
_SMALL_BYTES, _LARGE_BYTES = 32 * 1024, 2 * 1024 * 1024
#: Fields in one HSET.
FIELDS_AT_ONCE = 2000


class StreamUnavailableError(Exception):
    """Redis did not answer, or refused; trying again later may help."""


@dataclass(slots=True)
class Read:
    """What was read: control messages, then data entries; the cursors after them."""

    control: list[bytes] = field(default_factory=list)
    control_cursor: str = START
    #: Whether more control messages than these may have been there.
    has_more_control: bool = False
    entries: list[Entry] = field(default_factory=list)
    cursor: str = START
    #: Whether the batch ended because it was full, so that more is waiting.
    is_full: bool = False


class StreamReader:
    """Reads and trims one partition. Not thread-safe: each thread has its own."""

    def __init__(self, url: str, partition: int) -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            # A unix socket knows no keepalive, and the driver refuses to be asked.
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            max_connections=2,
        )
        # Replies are taken as they come: the driver's own conversions copy, and differ between its versions.
        for command in ("XREAD", "XINFO STREAM", "HGET", "HSET", "XTRIM", "HDEL"):
            self._client.response_callbacks.pop(command, None)
        self._data, self._control = data_stream(partition), control_stream(partition)
        self._downlink = downlink(partition)
        self._count = COUNT_MIDDLE

    def read(
        self, control_cursor: str, cursor: str, *, block_s: float, max_entries: int = BATCH_ENTRIES
    ) -> Read:
        """Return what lies after the cursors, waiting `block_s` when there is nothing.

        Raises:
            StreamUnavailableError: Nothing was read.
        """
        found = Read(control_cursor=control_cursor, cursor=cursor)
        size = self._read_once(found, round(block_s * 1000), max_entries)
        while size and size < BATCH_BYTES and len(found.entries) < max_entries and found.is_full:
            more = self._read_once(found, None, max_entries - len(found.entries))
            if not more:
                break
            size += more
        found.is_full = found.is_full or size >= BATCH_BYTES or len(found.entries) >= max_entries
        return found

    def _read_once(self, found: Read, block_ms: int | None, most: int) -> int:
        """Add what one XREAD returns; return the bytes of frames. Sets is_full when the count was reached."""
        count = min(self._count, most)
        block = () if block_ms is None else ("BLOCK", max(1, block_ms))
        streams = ("STREAMS", self._control, self._data, found.control_cursor, found.cursor)
        reply = self._ask("XREAD", "COUNT", count, *block, *streams)
        found.is_full = found.has_more_control = False
        size = largest = 0
        for name, entries in _streams(reply):
            if name == self._control.encode():
                found.has_more_control = len(entries) >= count
                for entry_id, values in entries:
                    found.control_cursor = entry_id.decode()
                    found.control.append(_field(values, MESSAGE_FIELD))
                continue
            found.is_full = len(entries) >= count
            for entry_id, values in entries:
                frame = _field(values, FRAME_FIELD)
                found.cursor = entry_id.decode()
                found.entries.append(Entry(found.cursor, frame, _field(values, CRC_FIELD)))
                size += len(frame)
                largest = max(largest, len(frame))
        if largest:
            is_small, is_large = largest <= _SMALL_BYTES, largest >= _LARGE_BYTES
            self._count = COUNT_SMALL if is_small else COUNT_LARGE if is_large else COUNT_MIDDLE
        return size

    def last_id(self) -> str | None:
        """Return the newest id that the data stream has given; None when there is no stream."""
        try:
            reply = self._execute("XINFO STREAM", self._data)
        except redis.ResponseError as error:
            if "no such key" in str(error).lower():
                return None
            raise self._failed(error) from error
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(error) from error
        facts = dict(zip(reply[::2], reply[1::2], strict=False)) if isinstance(reply, list) else reply
        return _text(facts[b"last-generated-id"])

    def trim(self, *, cursor: str | None = None, control_cursor: str | None = None) -> None:
        """Delete entries up to and including these ids."""
        for stream, upto in ((self._data, cursor), (self._control, control_cursor)):
            if upto is not None and upto != START:
                self._ask("XTRIM", stream, "MINID", _after(upto))

    def publish(self, fields: Mapping[bytes, Any]) -> bool:
        """Set fields of the downlink hash; return whether the hash was there before.

        Raises:
            StreamUnavailableError: Not all were set (memory full, connection lost): publish them again.
        """
        names = list(fields)
        was_there = self._ask("HGET", self._downlink, "srv") is not None
        for at in range(0, len(names), FIELDS_AT_ONCE):
            pairs = [part for name in names[at : at + FIELDS_AT_ONCE] for part in (name, fields[name])]
            self._ask("HSET", self._downlink, *pairs)
        return was_there

    def clear_downlink(self) -> None:
        """Delete the downlink hash whole."""
        self._ask("DEL", self._downlink)

    def unpublish(self, fields: Sequence[bytes]) -> None:
        """Delete fields of the downlink hash."""
        for at in range(0, len(fields), FIELDS_AT_ONCE):
            self._ask("HDEL", self._downlink, *fields[at : at + FIELDS_AT_ONCE])

    def append_frame(self, frame: bytes, crc: bytes) -> None:
        """Add a data entry."""
        self._ask("XADD", self._data, "*", FRAME_FIELD, frame, CRC_FIELD, crc)

    def append_control(self, message: bytes) -> None:
        """Add a control entry."""
        self._ask("XADD", self._control, "*", MESSAGE_FIELD, message)

    def close(self) -> None:
        """Drop the connection; idempotent."""
        self._client.close()

    def _ask(self, *command: Any) -> Any:
        try:
            return self._execute(*command)
        except (redis.RedisError, OSError, ValueError) as error:
            raise self._failed(error) from error

    def _execute(self, *command: Any) -> Any:
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # the driver's own

    def _failed(self, error: Exception) -> StreamUnavailableError:
        # A reply may be half read: never go on with this connection.
        self._client.connection_pool.disconnect()
        return StreamUnavailableError(f"{type(error).__name__}: {error}")


def is_behind(last_id: str | None, cursor: str) -> bool:
    """Return whether the stream has never come as far as the cursor: Redis has lost it and began anew."""
    if cursor == START:
        return False
    return last_id is None or _pair(last_id) < _pair(cursor)


def _streams(reply: Any) -> Any:
    if reply is None:
        return ()
    return reply.items() if isinstance(reply, dict) else reply


def _field(values: Any, name: bytes) -> bytes:
    """Return a field of an entry; empty when it has none (a foreign entry: its crc will be wrong)."""
    if isinstance(values, dict):
        values = [part for pair in values.items() for part in pair]
    for at in range(0, len(values or ()) - 1, 2):
        if values[at] == name:
            return bytes(values[at + 1])
    return b""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pair(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)


def _after(entry_id: str) -> str:
    ms, seq = _pair(entry_id)
    return f"{ms}-{seq + 1}" if seq < 2**64 - 1 else f"{ms + 1}-0"
