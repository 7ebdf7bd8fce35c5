"""The loop on a real Redis: cursor, trim, acks, control first; and what Redis and the database do to it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold.protocol.frames import Frame, encode_frame
from runfold.protocol.streams import Heartbeat, WriterBeat
from runfold_coordinator.downlink import Downlink
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.ingest.loop import Attempt, IngestLoop
from runfold_coordinator.store.errors import StoreFullError
from runfold_coordinator.stream_reader import StreamReader, StreamUnavailableError, is_behind
from support.frames import START_NS, Bench, Speaker

DATA, CONTROL, DOWN = "rf:{0}:in", "rf:{0}:ctl", "rf:{0}:down"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), persistent=False, supervise=False) as started:
        yield started


class Stage:
    """A loop whose turns are taken by hand, and a client beside it."""

    def __init__(self, server: EmbeddedRedis, bench: Bench, folder: Path) -> None:
        self.client = redis.Redis.from_url(server.url)
        self.client.flushall()
        self.client.config_set("maxmemory", 512 * 1024 * 1024)
        self.bench = bench
        self.folder = folder
        self.freed = 0
        self.url = server.url
        self.reader = StreamReader(server.url, 0)
        self.loop = self.new_loop()
        self.loop.cursor = bench.cursor

    def new_loop(self, *, reads_ahead: bool = True) -> IngestLoop:
        store = self.bench.store
        downlink = Downlink(
            self.reader,
            self.bench.clock,
            server_id=store.server_id,
            partitions=1,
            recent_acks=lambda: {bytes.fromhex(w): s for w, s in store.recent_acks(0, 0.0).items()},
        )
        return IngestLoop(
            self.reader,
            self.bench.ingest,
            downlink,
            liveness=self.bench.liveness,
            board=self.bench.board,
            clock=self.bench.clock,
            attempt_path=self.folder / "attempt",
            free_ballast=self.free,
            ahead=StreamReader(self.url, 0) if reads_ahead else None,
        )

    def free(self) -> None:
        self.freed += 1

    def put(self, *frames: Frame | bytes) -> None:
        for frame in frames:
            data = frame if isinstance(frame, bytes) else encode_frame(frame)
            self.client.xadd(DATA, {"f": data, "c": zlib.crc32(data).to_bytes(4, "little")})

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.bench.clock.now_s += 1.1
            self.loop.turn()

    def ack(self, speaker: Speaker) -> int | None:
        found: Any = self.client.hget(DOWN, f"a:{speaker.writer_id}")
        return None if found is None else int(found)


@pytest.fixture
def stage(server: EmbeddedRedis, bench: Bench, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(server, bench, tmp_path)
    yield made
    made.loop.stop()
    made.reader.close()
    made.client.close()


def test_a_batch_is_stored_trimmed_and_acknowledged(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello(), *(speaker.rows({"loss": [float(i)]}) for i in range(50)))
    stage.turn()
    assert stage.ack(speaker) == 51
    assert stage.client.xlen(DATA) == 0
    down: Any = stage.client.hgetall(DOWN)
    assert down[b"srv"].decode() == stage.bench.store.server_id
    assert down[b"cur"].decode() == stage.loop.cursor == stage.bench.store.cursor(0)
    assert int(down[b"parts"]) == 1
    beat = int(down[b"beat"])
    stage.turn()
    assert int(stage.client.hget(DOWN, "beat")) > beat  # type: ignore[arg-type]


def test_large_batches_are_read_in_bounded_steps(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    big = [float(i) for i in range(200_000)]
    stage.put(*(speaker.rows({"loss": big}) for _ in range(8)))
    found = stage.reader.read("0-0", "0-0", block_s=0.1, max_entries=3)
    assert len(found.entries) == 3 and found.is_full
    found = stage.reader.read("0-0", found.cursor, block_s=0.1)
    assert len(found.entries) == 6


def test_control_is_heard_before_data_and_is_trimmed(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()
    beat = Heartbeat("n", "h", "b", 0.0, 5.0, (WriterBeat(speaker.writer, 1, False),))
    stage.client.xadd(CONTROL, {"m": beat.pack()})
    stage.client.xadd(CONTROL, {"m": b"\xc1"})
    stage.client.xadd(CONTROL, {"else": b"x"})
    stage.turn()
    (run,) = stage.bench.store.list_runs()
    assert run.state == "crashed"
    assert stage.client.xlen(CONTROL) == 0


def killed(speaker: Speaker) -> bytes:
    return Evidence(speaker.writer, e.WAIT, START_NS + 10**9, {"status": 9, "by": "pidfd"}).pack()


def test_evidence_is_stored_before_its_message_goes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()
    stage.client.xadd(CONTROL, {"m": killed(speaker)})
    tick = stage.bench.board.tick

    def full(*_: object) -> None:
        raise StoreFullError("full")

    monkeypatch.setattr(stage.bench.board, "tick", full)
    with pytest.raises(StoreFullError):
        stage.turn()
    assert stage.client.xlen(CONTROL) == 1
    monkeypatch.setattr(stage.bench.board, "tick", tick)
    stage.turn()
    assert stage.client.xlen(CONTROL) == 0
    (run,) = stage.bench.store.list_runs()
    assert (run.state, run.confidence) == ("killed", "certain")


def test_evidence_that_can_not_be_stored_stops_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()

    def fail(*_: object) -> None:
        raise ArithmeticError("odd")

    monkeypatch.setattr(stage.bench.board.evidence, "add", fail)
    stage.client.xadd(CONTROL, {"m": killed(speaker)})
    stage.put(speaker.rows({"loss": [1.0]}))
    stage.turn()
    assert stage.client.xlen(CONTROL) == 0 and stage.ack(speaker) == 2


def test_silence_counts_up_to_what_was_read(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()

    def say(writer: bytes) -> None:
        beat = Heartbeat("n", "h", "b", 0.0, 5.0, (WriterBeat(writer, 1, True),))
        stage.client.xadd(CONTROL, {"m": beat.pack()})

    for _ in range(100):  # more than one read brings
        say(b"o" * 16)
    say(speaker.writer)
    stage.bench.clock.now_s += 10_000  # as if it had been stopped
    turns = 0
    while stage.client.xlen(CONTROL):
        turns += 1
        stage.turn()
        (run,) = stage.bench.store.list_runs()
        assert (run.state, run.unreachable) == ("running", False)
    assert turns > 1
    stage.bench.clock.now_s += 20
    stage.turn()
    assert stage.bench.store.list_runs()[0].unreachable


def test_judges_are_asked_at_each_tick_and_their_faults_stop_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def judge() -> None:
        asked.append(1)
        raise ArithmeticError("odd")

    stage.loop.judges.append(judge)
    stage.turn(3)
    assert len(asked) == 3
    assert caplog.text.count("a judge failed") == 1


def test_a_flushed_redis_begins_anew_and_all_acks_are_told_again(stage: Stage) -> None:
    old, speaker = Speaker(b"o" * 16, "local/demo/old"), Speaker(b"w" * 16)
    stage.put(old.hello(), speaker.hello(), speaker.rows({"loss": [1.0]}))
    stage.turn()
    stage.client.flushall()
    stage.turn(2)
    assert stage.ack(speaker) == 2
    assert stage.ack(old) == 1
    assert stage.loop.cursor == "0-0"
    stage.put(speaker.rows({"loss": [2.0]}))
    stage.turn()
    assert stage.ack(speaker) == 3


def test_a_stream_whose_clock_went_back_is_read_from_its_start(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()
    stage.client.delete(DATA)
    data = encode_frame(speaker.rows({"loss": [1.0]}))
    stage.client.xadd(DATA, {"f": data, "c": zlib.crc32(data).to_bytes(4, "little")}, id="5-1")
    stage.turn(2)
    assert stage.ack(speaker) == 2
    assert is_behind("5-1", "17-0") and is_behind(None, "1-0") and not is_behind(None, "0-0")


def test_entries_with_a_wrong_crc_are_passed_over(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    hello, rows = speaker.hello(), speaker.rows({"loss": [1.0]})
    stage.put(hello)
    stage.client.xadd(DATA, {"f": encode_frame(rows), "c": b"\0\0\0\0"})
    stage.client.xadd(DATA, {"who": "knows"})
    stage.turn()
    assert stage.ack(speaker) == 1
    assert stage.bench.ingest.counts.bad_crc == 2
    assert stage.client.xlen(DATA) == 0
    stage.put(rows)
    stage.turn()
    assert stage.ack(speaker) == 2


def test_acks_refused_for_want_of_memory_are_told_when_there_is_room(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()
    stage.put(speaker.rows({"loss": [1.0]}))
    stage.client.config_set("maxmemory", 1)
    with pytest.raises(StreamUnavailableError, match=r"(?i)memory|OOM"):
        stage.turn()
    assert stage.bench.store.acks([speaker.writer_id]) == {speaker.writer_id: 2}
    assert stage.client.xlen(DATA) == 0
    stage.client.config_set("maxmemory", 0)
    stage.turn()
    assert stage.ack(speaker) == 2


def test_a_full_database_loses_nothing(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello())
    stage.turn()
    writer = stage.bench.store.engines.writer
    with writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    stage.put(*(speaker.rows({"loss": [float(i) for i in range(20_000)]}) for i in range(3)))
    with pytest.raises(StoreFullError):
        stage.turn()
    assert stage.ack(speaker) == 1
    assert stage.client.xlen(DATA) == 3
    with writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    stage.turn()
    assert stage.ack(speaker) == 60_001
    (run,) = stage.bench.store.list_runs()
    assert sum(len(cells.seq) for cells in stage.bench.store.read_cells(run.run_pk, "loss")) == 60_000


def test_a_batch_that_killed_the_process_is_cut_until_the_entry_stands_alone(stage: Stage) -> None:
    speaker = Speaker(b"w" * 16)
    frames = [speaker.hello(), *(speaker.rows({"loss": [float(i)]}) for i in range(7))]
    stage.put(*frames)
    (first, *_) = [entry_id.decode() for entry_id, _ in stage.client.xrange(DATA)]  # type: ignore[union-attr]
    Attempt(stage.folder / "attempt").save("0-0", 8)
    loop = stage.loop = stage.new_loop(reads_ahead=False)
    loop.start()
    loop.stop()
    assert loop.cursor == "0-0" or loop.cursor >= first
    stage.turn(4)
    assert stage.ack(speaker) == 8
    attempt = Attempt(stage.folder / "attempt", deaths=4)
    attempt.save(loop.cursor, 1)
    stage.put(speaker.rows({"loss": [8.0]}))
    loop = stage.loop = stage.new_loop(reads_ahead=False)
    loop.start()
    loop.stop()
    stage.turn(2)
    (run,) = stage.bench.store.list_runs()
    accounting = stage.bench.store.accounting(run.run_pk)
    assert (accounting.dead_letters, accounting.stored) == (1, 8)


def test_a_backlog_is_read_ahead_and_what_was_read_for_another_cursor_is_dropped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold_coordinator.stream_reader.BATCH_BYTES", 100_000)
    speaker = Speaker(b"w" * 16)
    stage.put(speaker.hello(), *(speaker.rows({"loss": [float(i) for i in range(2000)]}) for i in range(60)))
    stage.turn()
    assert 1 < (stage.ack(speaker) or 0) < speaker.seq
    middle = stage.bench.store.cursor(0)
    stage.loop.cursor = "0-0"
    stage.turn()
    assert stage.loop.cursor >= middle
    while stage.client.xlen(DATA):
        stage.turn()
    assert stage.ack(speaker) == speaker.seq
    (run,) = stage.bench.store.list_runs()
    cells = list(stage.bench.store.read_cells(run.run_pk, "loss"))
    assert [seq for found in cells for seq in found.seq.tolist()] == list(range(2, speaker.seq + 1))
    stage.loop.stop()


def test_an_unreachable_redis_is_an_error_of_ours(tmp_path: Path) -> None:
    reader = StreamReader(f"unix://{tmp_path}/none.sock", 0)
    with pytest.raises(StreamUnavailableError):
        reader.read("0-0", "0-0", block_s=0.1)
    with pytest.raises(StreamUnavailableError):
        reader.last_id()
    reader.close()
