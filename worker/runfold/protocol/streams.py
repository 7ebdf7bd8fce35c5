"""Names and small messages in Redis: streams, fields, the heartbeat, the downlink hash."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runfold.protocol.errors import DecodeError, VersionError
from runfold.protocol.limits import WRITER_ID_BYTES
from runfold.protocol.values import pack_value, unpack_value

#: Fields of a data entry: the frame, and its crc32 as 4 bytes little-endian.
FRAME_FIELD = b"f"
CRC_FIELD = b"c"
#: Field of a control entry: a packed Heartbeat.
MESSAGE_FIELD = b"m"

#: Fields of the downlink hash. All of it is a hint that may be lost; the database is the truth.
SERVER_FIELD = b"srv"
CURSOR_FIELD = b"cur"
BEAT_FIELD = b"beat"
PARTITIONS_FIELD = b"parts"
#: Names the set of open stop requests; absent while there are none. Who sees another name than before asks
#: for the stop fields of its own writers: a poll costs one field, however many are asked to stop.
STOPS_FIELD = b"stops"
#: Whose stacks are wanted: packed StackRequests; absent while nobody's are.
STACKS_FIELD = b"stacks"
_ACK_PREFIX = b"a:"
_STOP_PREFIX = b"stop:"

#: Longest time that a stop request may leave between SIGTERM and SIGKILL, seconds.
MAX_GRACE_S = 86_400.0

#: All requests for stacks that are open at once.
MAX_STACK_REQUESTS_BYTES = 256 * 1024

#: Largest heartbeat that is read: about 25,000 writers.
MAX_HEARTBEAT_BYTES = 1024 * 1024


def data_stream(partition: int) -> str:
    """Return the key of the stream of frames; the braces keep a partition in one Cluster slot."""
    return f"rf:{{{partition}}}:in"


def control_stream(partition: int) -> str:
    """Return the key of the stream of heartbeats and evidence, which is read before data."""
    return f"rf:{{{partition}}}:ctl"


def downlink(partition: int) -> str:
    """Return the key of the hash that the coordinator publishes."""
    return f"rf:{{{partition}}}:down"


def ack_field(writer: bytes) -> bytes:
    """Return the downlink field that holds the durable ack of `writer`."""
    return _ACK_PREFIX + writer.hex().encode("ascii")


def stop_field(writer: bytes) -> bytes:
    """Return the downlink field that asks `writer` to stop."""
    return _STOP_PREFIX + writer.hex().encode("ascii")


def partition_of(run_path: str, group: str | None, partitions: int) -> int:
    """Return the partition of a run: a hash of its group within the project, else of its whole path."""
    if partitions <= 1:
        return 0
    name = run_path
    if group:
        entity_project, _, _ = run_path.rpartition("/")
        name = f"{entity_project}/group/{group}"
    # Imported when needed: most have one partition, and OpenSSL takes its time.
    import hashlib

    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") % partitions


@dataclass(frozen=True, slots=True)
class WriterBeat:
    """What an agent knows of one writer; `alive` is None when it cannot tell.

    Attributes:
        is_stopped: It lives and does not run: SIGSTOP, or a debugger.
        phase: The run.timer() that it is in, None outside of any or where it has none.
        phase_s: For how long, seconds.
        is_collective: It waits for other ranks in there.
    """

    writer: bytes
    head_seq: int
    alive: bool | None
    is_stopped: bool = False
    phase: str | None = None
    phase_s: float | None = None
    is_collective: bool = False

    def to_list(self) -> list[object]:
        """Return what travels: three parts, and a map of what else there is."""
        parts: list[object] = [self.writer, self.head_seq, None if self.alive is None else int(self.alive)]
        more: dict[str, object] = {"stopped": 1} if self.is_stopped else {}
        if self.phase is not None:
            more |= {"phase": self.phase, "phase_s": self.phase_s}
            more |= {"waits": 1} if self.is_collective else {}
        return [*parts, more] if more else parts


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody wants a writer's process to end: SIGTERM now, SIGKILL after `grace_s`.

    Attributes:
        request: Id; the same request told again is the same.
        by: Who asked, for people.
        is_whole: The whole run is to end, so that a launcher that would start it again has to end too.
    """

    request: str
    by: str
    grace_s: float
    is_whole: bool = False

    def to_map(self) -> dict[str, str | float | bool]:
        """Return what travels; these are also the facts of STOP evidence."""
        return {"request": self.request, "by": self.by, "grace_s": self.grace_s, "whole": self.is_whole}

    def pack(self) -> bytes:
        """Return the value of the downlink's stop field."""
        return pack_value(self.to_map())

    @classmethod
    def unpack(cls, data: bytes) -> StopRequest:
        """Return the request in `data`; ProtocolError if there is none."""
        return cls.from_map(unpack_value(data, max_bytes=4096))

    @classmethod
    def from_map(cls, found: Any) -> StopRequest:
        """Return the request in a decoded map; ProtocolError if there is none."""
        try:
            request, by, grace_s = str(found["request"]), str(found["by"]), float(found["grace_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"no stop request: {error}", field="stop") from error
        if not 0 <= grace_s <= MAX_GRACE_S:
            raise DecodeError(f"a grace of {grace_s} s", field="grace_s")
        return cls(request, by, grace_s, found.get("whole") is True)


@dataclass(frozen=True, slots=True)
class StackRequest:
    """The stacks of these writers' processes are wanted, once; `why` is for people."""

    request: str
    why: str
    writers: tuple[bytes, ...]


def pack_stack_requests(requests: Iterable[StackRequest]) -> bytes:
    """Return the value of the downlink's stacks field."""
    return pack_value([[one.request, one.why, b"".join(one.writers)] for one in requests])


def unpack_stack_requests(data: bytes) -> list[StackRequest]:
    """Return the requests in `data`; ProtocolError if there are none."""
    found = unpack_value(data, max_bytes=MAX_STACK_REQUESTS_BYTES)
    try:
        return [
            StackRequest(
                str(request),
                str(why),
                tuple(writers[at : at + WRITER_ID_BYTES] for at in range(0, len(writers), WRITER_ID_BYTES)),
            )
            for request, why, writers in found
            if isinstance(writers, bytes) and len(writers) % WRITER_ID_BYTES == 0
        ]
    except (TypeError, ValueError) as error:
        raise DecodeError(f"no requests for stacks: {error}", field="stacks") from error


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One agent's word for all its writers."""

    node: str
    host: str
    boot_id: str
    unix_s: float
    interval_s: float
    writers: tuple[WriterBeat, ...]

    def pack(self) -> bytes:
        """Return the control entry's message."""
        return pack_value(
            {
                "v": 1,
                "kind": "heartbeat",
                "node": self.node,
                "host": self.host,
                "boot_id": self.boot_id,
                "unix_s": self.unix_s,
                "interval_s": self.interval_s,
                "writers": [beat.to_list() for beat in self.writers],
            },
            max_bytes=MAX_HEARTBEAT_BYTES,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Heartbeat:
        """Return the heartbeat in `data`; ProtocolError if there is none."""
        return cls.from_message(unpack_value(data, max_bytes=MAX_HEARTBEAT_BYTES))

    @classmethod
    def from_message(cls, message: Any) -> Heartbeat:
        """Return the heartbeat in a decoded control message; ProtocolError if there is none."""
        if not isinstance(message, dict) or message.get("kind") != "heartbeat":
            raise DecodeError("not a heartbeat", field="kind")
        if message.get("v") != 1:
            raise VersionError(f"heartbeat version {message.get('v')!r}", field="v")
        try:
            writers = tuple(_writer_beat(*entry) for entry in message["writers"])
            return cls(
                node=str(message["node"]),
                host=str(message["host"]),
                boot_id=str(message["boot_id"]),
                unix_s=float(message["unix_s"]),
                interval_s=float(message["interval_s"]),
                writers=writers,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DecodeError(f"a damaged heartbeat: {error}", field="writers") from error


def _writer_beat(writer: object, head_seq: object, alive: object, more: object = None) -> WriterBeat:
    if not isinstance(writer, bytes) or len(writer) != WRITER_ID_BYTES:
        raise DecodeError("a writer id has 16 bytes", field="writers")
    if not isinstance(head_seq, int) or alive not in (None, 0, 1):
        raise DecodeError("a writer's beat is [id, head_seq, alive]", field="writers")
    if more is not None and not isinstance(more, dict):
        raise DecodeError("what else is known of a writer is a map", field="writers")
    said = more or {}
    phase, phase_s = said.get("phase"), said.get("phase_s")
    return WriterBeat(
        writer,
        head_seq,
        None if alive is None else bool(alive),
        is_stopped=bool(said.get("stopped")),
        phase=phase[:200] if isinstance(phase, str) else None,
        phase_s=float(phase_s) if isinstance(phase_s, int | float) else None,
        is_collective=bool(said.get("waits")),
    )
