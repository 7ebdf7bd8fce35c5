"""Routes for workers: is anybody there, where is Redis, frames over HTTP where it can't be reached."""

from __future__ import annotations

from typing import Any

import msgpack
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from runfold.protocol.errors import ProtocolError
from runfold.protocol.evidence import Evidence, control_kind
from runfold.protocol.limits import MAX_FRAME_BYTES, WRITER_ID_BYTES
from runfold.protocol.streams import MAX_HEARTBEAT_BYTES, Heartbeat
from runfold.protocol.values import unpack_value
from runfold_coordinator.api.backend import Backend
from runfold_coordinator.api.encoding import answer
from runfold_coordinator.api.errors import BadRequestError, OverLimitError
from runfold_coordinator.api.gate import require_admission
from runfold_coordinator.api.parameters import At
from runfold_coordinator.api.reachable import can_reach

router = APIRouter(prefix="/api/v1", tags=["workers"], dependencies=[Depends(require_admission)])

#: Largest body of frames: one frame of the largest size with its envelope, or many small ones.
MAX_FRAMES_BODY_BYTES = MAX_FRAME_BYTES + 1024 * 1024
#: Most frames in one body.
MAX_FRAMES = 10_000
#: Most writers in one question for acks.
MAX_ACK_WRITERS = 20_000
_MAX_ACKS_BODY_BYTES = 1024 * 1024

#: For the gate: bodies that may be larger than others.
BODY_LIMITS = {
    "/api/v1/frames": MAX_FRAMES_BODY_BYTES,
    "/api/v1/control": MAX_HEARTBEAT_BYTES,
    "/api/v1/acks": _MAX_ACKS_BODY_BYTES,
}


@router.get("/health")
def health(request: Request, backend: At) -> Response:
    """Tell that the server answers. Needs no key."""
    return answer(request, {"status": "ok", "server_id": backend.server_id, "api": 1})


@router.get("/connect")
def connect(request: Request, backend: At) -> Response:
    """Tell a worker where to send its frames: redis_url (null: send them here), server_id, partitions."""
    facts = backend.intake.connect_facts()
    if facts["redis_url"] is not None and not can_reach(request, facts["redis_url"]):
        facts["redis_url"] = None
    return answer(request, facts)


@router.post("/frames")
async def frames(request: Request, backend: At) -> Response:
    """Append frames to the streams. Body: msgpack [[partition, frame, crc], ...]."""
    body = await request.body()
    return await run_in_threadpool(_add_frames, request, backend, body)


@router.post("/control")
async def control(request: Request, backend: At) -> Response:
    """Append a heartbeat to the control stream. Body: msgpack, as on the wire."""
    body = await request.body()
    return await run_in_threadpool(_add_control, request, backend, body)


@router.post("/acks")
async def acks(request: Request, backend: At) -> Response:
    """Tell the durable acks, and whether anybody of the partition is asked to stop.

    Body: msgpack {"writers": [writer id, hex], "partition", "stops": [writer id, hex]}; answers "stops", the
    name of the partition's open requests (null: none), and "stop", the requests for the writers asked about.
    """
    body = await request.body()
    return await run_in_threadpool(_tell_acks, request, backend, body)


def _add_frames(request: Request, backend: Backend, body: bytes) -> Response:
    return answer(request, {"accepted": backend.intake.add_frames(_frame_entries(body))})


def _frame_entries(body: bytes) -> list[tuple[int, bytes, bytes]]:
    """Decode the envelope header by header: nothing is allocated for what is not a frame."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=0, max_array_len=0, max_map_len=0, max_ext_len=0, max_str_len=0
    )
    unpacker.feed(body)
    try:
        count = unpacker.read_array_header()
        if count > MAX_FRAMES:
            raise OverLimitError(f"more than {MAX_FRAMES} frames", field="body", limit=MAX_FRAMES)
        entries = []
        for place in range(count):
            if unpacker.read_array_header() != 3:
                raise BadRequestError(f"entry {place}: not [partition, frame, crc]", field="body")
            entries.append(_frame_entry(place, unpacker.unpack(), unpacker.unpack(), unpacker.unpack()))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadRequestError(f"the body is no msgpack list of frames: {error}", field="body") from error
    if unpacker.tell() != len(body):
        raise BadRequestError("there are bytes after the list of frames", field="body")
    return entries


def _frame_entry(place: int, partition: Any, frame: Any, crc: Any) -> tuple[int, bytes, bytes]:
    # The crc is the 4 bytes of the stream's field, or the number that they hold.
    if isinstance(crc, int) and not isinstance(crc, bool) and 0 <= crc < 2**32:
        crc = crc.to_bytes(4, "little")
    if not isinstance(partition, int) or isinstance(partition, bool) or not 0 <= partition < 2**31:
        raise BadRequestError(f"entry {place}: the partition is no small whole number", field="partition")
    if not isinstance(frame, bytes) or not isinstance(crc, bytes) or len(crc) != 4:
        raise BadRequestError(f"entry {place}: not [partition, frame bytes, crc]", field="frame")
    if len(frame) > MAX_FRAME_BYTES:
        raise OverLimitError(f"entry {place} is too large", field="frame", limit=MAX_FRAME_BYTES)
    return partition, frame, crc


def _add_control(request: Request, backend: Backend, body: bytes) -> Response:
    try:
        kind, found = control_kind(body)
        if kind == "evidence":
            Evidence.from_message(found)
        else:
            Heartbeat.from_message(found)
    except ProtocolError as error:
        raise BadRequestError(f"no control message: {error}", field="body") from error
    backend.intake.add_control(body)
    return answer(request, {"accepted": 1})


def _tell_acks(request: Request, backend: Backend, body: bytes) -> Response:
    try:
        asked = unpack_value(body, max_bytes=_MAX_ACKS_BODY_BYTES, max_elements=2 * MAX_ACK_WRITERS + 8)
        writers, stoppable = _writer_ids(asked["writers"]), _writer_ids(asked.get("stops") or ())
        partition = int(asked.get("partition") or 0)
    except (ProtocolError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadRequestError(f'the body is no {{"writers": [hex]}}: {error}', field="writers") from error
    mark = backend.stops.told(partition).mark
    requests = backend.stops.of_writers(stoppable)
    document = backend.intake.acks(writers) | {
        "stops": mark.decode() or None,
        "stop": {writer: found.to_map() for writer, found in requests.items()},
        "stacks": backend.intake.stacks(partition).hex() or None,
    }
    return answer(request, document)


def _writer_ids(said: Any) -> list[str]:
    """Return writer ids (hex) as they are written here; ValueError where one is none."""
    found = [bytes.fromhex(writer).hex() for writer in said]
    if any(len(writer) != 2 * WRITER_ID_BYTES for writer in found):
        raise ValueError(f"a writer id has {WRITER_ID_BYTES} bytes")
    return found
