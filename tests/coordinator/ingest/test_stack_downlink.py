"""Requests for stacks in a real Redis: told at once, again after it has lost them, and no longer than useful."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from runfold.node.link import Outgoing
from runfold.node.stream_writer import StreamWriter
from runfold.protocol.streams import STACKS_FIELD, StackRequest, downlink, unpack_stack_requests
from runfold_coordinator.downlink import MAX_STACK_REQUESTS, TELL_STACKS_S, Downlink
from runfold_coordinator.embedded_redis import EmbeddedRedis
from runfold_coordinator.stream_reader import StreamReader
from support.frames import FakeClock

WRITER = b"w" * 16


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedRedis(tmp_path, persistent=False, supervise=False) as started:
        yield started.url


def heard(url: str) -> list[StackRequest]:
    """As an agent hears it."""
    link = StreamWriter(url)
    try:
        packed = link.exchange(Outgoing(polls={0: [WRITER]})).downlinks[0].stacks
    finally:
        link.close()
    return [] if packed is None else unpack_stack_requests(packed)


def test_requests_come_to_agents_and_go(url: str) -> None:
    clock, reader = FakeClock(), StreamReader(url, 0)
    told = Downlink(reader, clock, server_id="ab" * 16, partitions=1, recent_acks=dict)
    told.publish("0-0")
    assert heard(url) == []
    told.ask_stacks([WRITER], "no progress at step 7")
    told.publish("0-0")
    (request,) = heard(url)
    assert (request.why, request.writers) == ("no progress at step 7", (WRITER,))
    client = redis.Redis.from_url(url)
    client.delete(downlink(0))
    clock.now_s += 1
    told.ask_stacks([b"x" * 16], "another")
    told.publish("0-0")
    assert [one.why for one in heard(url)] == ["no progress at step 7", "another"]
    clock.now_s += TELL_STACKS_S - 0.5
    told.publish("0-0")
    assert [one.why for one in heard(url)] == ["another"]
    clock.now_s += 1
    told.publish("0-0")
    assert heard(url) == [] and client.hget(downlink(0), STACKS_FIELD) is None
    for at in range(2 * MAX_STACK_REQUESTS):
        told.ask_stacks([WRITER] * 16, f"stall {at}")
    told.publish("0-0")
    assert len(heard(url)) == MAX_STACK_REQUESTS
    reader.close()
    client.close()
