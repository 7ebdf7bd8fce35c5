"""Stop requests in a real Redis: told at once, told again after it has lost them, taken out at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from runfold.protocol.records import ExitRecord, RecordKind
from runfold.protocol.streams import STOPS_FIELD, StopRequest, stop_field
from runfold_coordinator.downlink import TELL_STOPS_EVERY_S, Downlink
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.stops import Stops
from runfold_coordinator.stream_reader import StreamReader
from support.frames import Bench, Speaker, only_run

DOWN = "rf:{0}:down"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), persistent=False, supervise=False) as started:
        yield started


class Stage:
    """A run with one process, a desk for requests, and a downlink that publishes when told."""

    def __init__(self, server: EmbeddedRedis, bench: Bench) -> None:
        self.client = redis.Redis.from_url(server.url)
        self.client.flushall()
        self.bench = bench
        self.speaker = Speaker(b"w" * 16)
        bench.feed(self.speaker.hello())
        self.stops = Stops(bench.store, bench.clock)
        self.reader = StreamReader(server.url, 0)
        self.downlink = Downlink(
            self.reader,
            bench.clock,
            server_id=bench.store.server_id,
            partitions=1,
            recent_acks=dict,
            stops=lambda: self.stops.told(0),
        )

    def ask(self, grace_s: float = 30.0) -> StopRequest:
        return self.stops.ask(only_run(self.bench.store), grace_s=grace_s, by="eve").request

    def publish(self, after_s: float = 0.0) -> None:
        self.bench.clock.now_s += after_s
        self.downlink.publish("0-0")

    def told(self) -> tuple[bytes | None, StopRequest | None]:
        found: Any = self.client.hmget(DOWN, [STOPS_FIELD, stop_field(self.speaker.writer)])
        return found[0], None if found[1] is None else StopRequest.unpack(found[1])


@pytest.fixture
def stage(server: EmbeddedRedis, bench: Bench) -> Iterator[Stage]:
    made = Stage(server, bench)
    yield made
    made.reader.close()
    made.client.close()


def test_a_request_is_told_at_once_and_a_shorter_grace_too(stage: Stage) -> None:
    stage.publish()
    assert stage.told() == (None, None)
    request = stage.ask()
    stage.publish()  # the beat is not due
    mark, told = stage.told()
    assert told == request
    assert mark
    shorter = stage.ask(grace_s=1)
    stage.publish()
    assert stage.told()[1] == shorter
    assert stage.told()[0] != mark


@pytest.mark.parametrize("lost", ["all", "request", "mark"])
def test_what_redis_has_lost_is_told_again(stage: Stage, lost: str) -> None:
    request = stage.ask()
    stage.publish()
    mark, _ = stage.told()
    if lost == "all":
        stage.client.flushall()
    else:
        stage.client.hdel(DOWN, STOPS_FIELD if lost == "mark" else stop_field(stage.speaker.writer))
    stage.publish(after_s=TELL_STOPS_EVERY_S)
    assert stage.told() == (mark, request)


def test_after_the_end_nothing_of_it_is_left(stage: Stage) -> None:
    stage.ask()
    stage.publish()
    stage.bench.feed(stage.speaker.others((RecordKind.EXIT, ExitRecord(code=0).pack())))
    stage.publish(after_s=1.0)
    assert stage.told() == (None, None)
    assert stage.client.hget(DOWN, "beat")


def test_a_new_coordinator_clears_what_an_old_one_asked_and_tells_what_is_open(stage: Stage) -> None:
    stage.client.hset(DOWN, stop_field(b"x" * 16), b"old")
    request = stage.ask()
    stage.stops = Stops(stage.bench.store, stage.bench.clock)
    stage.stops.load()
    stage.publish()
    assert stage.told()[1] == request
    assert stage.client.hget(DOWN, stop_field(b"x" * 16)) is None
