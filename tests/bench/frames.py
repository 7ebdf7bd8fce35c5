"""Frames made directly, as an agent would make them: history without the time it takes to log it."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator

import numpy as np
import redis

from runfold.protocol import streams
from runfold.protocol.blocks import RowBlock
from runfold.protocol.frames import Frame, encode_frame
from runfold.protocol.identity import Identity
from runfold.protocol.records import Record, RecordKind


def frames_of_writer(
    run_id: str,
    *,
    rows: int,
    keys: int,
    rank: int | None = None,
    world_size: int | None = None,
    group: str | None = None,
    target_bytes: int = 1_000_000,
    end: bool = True,
) -> Iterator[bytes]:
    """One writer's whole life: identity, `rows` rows of `keys` float64 values, exit."""
    writer, path = os.urandom(16), f"local/bench/{run_id}"
    now = time.time_ns()
    identity = Identity(
        project="bench",
        entity="local",
        run_id=run_id,
        mode="shared" if rank is not None and group is None else "grouped",
        group=group,
        rank=rank,
        world_size=world_size,
        label=f"rank-{rank}" if rank is not None else None,
        host="bench",
        pid=1,
        started_unix_ns=now,
    )
    yield encode_frame(
        Frame(writer, path, 1, 1, others=(Record(1, now, RecordKind.WRITER, 0, identity.pack()),))
    )
    paths = tuple((f"metric/{number}",) for number in range(keys))
    per_frame = max(1, target_bytes // (8 * keys + 17))
    rng = np.random.default_rng(rank or 0)
    done = 0
    while done < rows:
        n = min(per_frame, rows - done)
        steps = np.arange(done, done + n, dtype="<i8")
        block = RowBlock(
            paths=paths,
            kinds="d" * keys,
            n=n,
            seqs=2 + done,
            t_ns=(now + steps * 1000).astype("<u8").tobytes(),
            steps=steps.tobytes(),
            flags=1,
            columns=tuple(rng.standard_normal(n).astype("<f8").tobytes() for _ in range(keys)),
        )
        yield encode_frame(Frame(writer, path, 2 + done, 1 + done + n, blocks=(block,)))
        done += n
    if end:
        last = rows + 2
        yield encode_frame(
            Frame(writer, path, last, last, others=(Record(last, now, RecordKind.EXIT, 0, exit_payload()),))
        )


def exit_payload() -> bytes:
    """An exit record that says finish() with status 0."""
    from runfold.protocol.values import pack_value

    return pack_value({"code": 0, "how": "finish", "exception": None, "traceback": None, "runtime_s": 1.0})


def add_frames(
    url: str, frames: Iterator[bytes], *, partition: int = 0, limit_bytes: int = 200_000_000
) -> int:
    """Put frames into the stream, waiting while more than `limit_bytes` are unread; return their bytes."""
    sent = 0
    with redis.Redis.from_url(url) as client:
        for frame in frames:
            crc = zlib.crc32(frame).to_bytes(4, "little")
            client.xadd(streams.data_stream(partition), {streams.FRAME_FIELD: frame, streams.CRC_FIELD: crc})
            sent += len(frame)
            while sent % 16 == 0 and client.info("memory")["used_memory"] > limit_bytes:
                time.sleep(0.01)
    return sent
