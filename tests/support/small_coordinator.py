"""The least that a coordinator does, in a thread: read, watermark, acknowledge, trim, beat. Keeps all in memory.

For tests of what stands before the coordinator; what it stored is looked at directly.
"""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections import defaultdict
from typing import Any

import redis

from runfold.protocol import streams
from runfold.protocol.evidence import Evidence, control_kind
from runfold.protocol.frames import Frame, decode_frame
from runfold.protocol.records import EvidenceRecord, RecordKind
from runfold.protocol.streams import Heartbeat


class SmallCoordinator:
    """Reads partition 0 of a Redis; a context manager. `pause()` is a dead coordinator, `resume()` a new one."""

    def __init__(self, url: str, *, server_id: bytes = b"S" * 16) -> None:
        self.url = url
        self.server_id = server_id
        self.last: dict[bytes, int] = defaultdict(int)
        #: writer -> seq -> how often it was stored; anything but 1 is a fault.
        self.stored: dict[bytes, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.points: dict[bytes, int] = defaultdict(int)
        self.gaps: dict[bytes, list[tuple[int, int, str]]] = defaultdict(list)
        self.kinds: dict[bytes, list[int]] = defaultdict(list)
        self.beats: dict[bytes, list[tuple[float, int, bool | None]]] = defaultdict(list)
        #: Whether a writer's process was stopped, by the last heartbeat.
        self.stopped: dict[bytes, bool] = {}
        #: Evidence from control messages, and from records of agents.
        self.heard: dict[bytes, list[Evidence]] = defaultdict(list)
        self.kept: dict[bytes, list[Evidence]] = defaultdict(list)
        self.frames = 0
        self.frames_bytes = 0
        self.duplicates = 0
        self.refused = 0
        self.keeps_seqs = True
        self._beat = 0
        self._cursor = b"0-0"
        self._control = b"$"
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> SmallCoordinator:
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Stop reading and beating."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def resume(self) -> None:
        """Go on from the cursor, as a coordinator that was started again does."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, writer: bytes, seq: int, timeout_s: float = 45.0) -> None:
        """Return when `seq` is stored; AssertionError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.last[writer] < seq:
            assert time.monotonic() < deadline, f"stored up to {self.last[writer]}, waiting for {seq}"
            time.sleep(0.005)

    def check(self, writer: bytes, seqs: int) -> None:
        """Check that 1..seqs were stored exactly once each."""
        stored = self.stored[writer]
        assert sorted(stored) == list(range(1, seqs + 1))
        assert set(stored.values()) <= {1}

    def _run(self) -> None:
        client: Any = redis.Redis.from_url(self.url, socket_timeout=2.0)
        # What another server left here would be taken for our acks.
        with contextlib.suppress(redis.RedisError):
            client.delete(streams.downlink(0))
        while not self._stop.is_set():
            try:
                self._turn(client)
            except redis.RedisError:
                self._stop.wait(0.05)
        client.close()

    def _turn(self, client: Any) -> None:
        data, control = streams.data_stream(0), streams.control_stream(0)
        self._rewind_cursor_if_the_stream_is_new(client, data)
        found = client.xread({control: self._control, data: self._cursor}, count=64, block=20) or []
        for stream, entries in found:
            for entry, fields in entries:
                if stream == control.encode():
                    self._control = entry
                    self._take_control(fields[streams.MESSAGE_FIELD])
                else:
                    self._cursor = entry
                    self._take_frame(fields)
        if self._control == b"$":
            self._control = b"0-0"
        client.xtrim(data, minid=_after(self._cursor), approximate=False)
        client.xtrim(control, minid=_after(self._control), approximate=False)
        self._publish(client)

    def _rewind_cursor_if_the_stream_is_new(self, client: Any, data: str) -> None:
        try:
            newest = client.xinfo_stream(data)["last-generated-id"]
        except redis.ResponseError:  # no stream at all
            newest = b"0-0"
        if _parts(newest) < _parts(self._cursor):
            self._cursor = b"0-0"

    def _take_frame(self, fields: dict[bytes, bytes]) -> None:
        data = fields[streams.FRAME_FIELD]
        self.frames += 1
        self.frames_bytes += len(data)
        assert zlib.crc32(data) == int.from_bytes(fields[streams.CRC_FIELD], "little")
        frame = decode_frame(data)
        last = self.last[frame.writer]
        if frame.lo > last + 1:
            self.refused += 1
            return
        rest = frame.after(last)
        if rest is None:
            self.duplicates += 1
            return
        self._store(rest)
        self.last[frame.writer] = rest.hi

    def _store(self, frame: Frame) -> None:
        writer = frame.writer
        self.gaps[writer] += [(gap.lo, gap.hi, gap.why) for gap in frame.gaps]
        self.kinds[writer] += [record.kind for record in frame.others]
        for record in frame.others:
            if record.kind == RecordKind.EVIDENCE:
                evidence = Evidence.from_record(EvidenceRecord.unpack(record.payload), record.t_ns)
                self.kept[evidence.writer].append(evidence)
        self.points[writer] += sum(block.n * len(block.paths) for block in frame.blocks)
        if not self.keeps_seqs:
            return
        counts = self.stored[writer]
        for block in frame.blocks:
            for seq in block.seq_list():
                counts[seq] += 1
        for record in frame.others:
            counts[record.seq] += 1

    def _take_control(self, message: bytes) -> None:
        kind, found = control_kind(message)
        if kind == "evidence":
            evidence = Evidence.from_message(found)
            self.heard[evidence.writer].append(evidence)
            return
        for beat in Heartbeat.unpack(message).writers:
            self.beats[beat.writer].append((time.monotonic(), beat.head_seq, beat.alive))
            self.stopped[beat.writer] = beat.is_stopped

    def _publish(self, client: Any) -> None:
        self._beat += 1
        fields: dict[Any, Any] = {
            streams.SERVER_FIELD: self.server_id.hex(),
            streams.CURSOR_FIELD: self._cursor,
            streams.BEAT_FIELD: self._beat,
            streams.PARTITIONS_FIELD: 1,
        }
        fields |= {streams.ack_field(writer): last for writer, last in self.last.items()}
        client.hset(streams.downlink(0), mapping=fields)


def _parts(entry: bytes) -> tuple[int, int]:
    ms, _, n = entry.partition(b"-")
    return int(ms), int(n or 0)


def _after(entry: bytes) -> str:
    ms, n = _parts(entry)
    return f"{ms}-{n + 1}"
