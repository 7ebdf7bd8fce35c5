"""Stop requests on their way in: asked for only while there are any, and the second way while Redis is mute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold.node.delivery import Delivery
from runfold.node.link import Downlink, Incoming, Outgoing
from runfold.node.shipper import Shipper
from runfold.node.tail import WriterTail
from runfold.protocol.streams import StopRequest
from support.spooler import open_writer

SERVER = b"S" * 16
REQUEST = StopRequest("r1", "eve", 3.0, is_whole=True)


class Recorder:
    """A link that remembers its questions and answers with `mark`, and a request for each who is asked about."""

    name = "recorder"
    idle_poll_s = 0.5

    def __init__(self) -> None:
        self.mark: bytes | None = None
        self.acked = 0
        self.asked: list[list[bytes]] = []

    def exchange(self, outgoing: Outgoing) -> Incoming:
        stops = outgoing.stops.get(0, [])
        self.asked.append(stops)
        acks = dict.fromkeys(outgoing.polls.get(0, ()), self.acked)
        requests = dict.fromkeys(stops, REQUEST)
        down = Downlink(SERVER, beat=len(self.asked), acks=acks, stops_mark=self.mark, stops=requests)
        return Incoming(downlinks=dict.fromkeys(outgoing.polls, down))

    def close(self) -> None:
        pass


class Node:
    """Spools with nothing to send, and a delivery over them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.now_s = 0.0
        self.shipper = Shipper()
        self.tails: dict[bytes, WriterTail] = {}
        self.delivery = Delivery(self.shipper, self.tails, lambda: self.now_s)
        self.link = Recorder()

    def writer(self, *, alive: bool | None = True, **identity: Any) -> bytes:
        spool = open_writer(self.base, "local", **identity)
        spool.close()
        tail = WriterTail(self.base / "local" / spool.writer_id.hex())
        tail.is_alive = alive
        self.tails[tail.writer] = tail
        self.link.acked = tail.head_seq()
        self.shipper.add(tail.writer, partition=0, acked=tail.head_seq(), server_id=SERVER)
        return tail.writer

    def round(self, after_s: float = 0.1) -> dict[bytes, StopRequest]:
        self.now_s += after_s
        return self.delivery.round(self.link, budget_bytes=1_000_000).stops


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for tail in made.tails.values():
        tail.close()


def test_only_living_processes_are_asked_about_and_only_while_there_are_requests(node: Node):
    here = node.writer()
    node.writer(alive=False), node.writer(alive=None), node.writer(role="console"), node.writer(role="node")
    assert node.round(1.0) == {}
    assert node.link.asked == [[]]
    node.link.mark = b"m"
    assert node.round(1.0) == {}, "now it is known that there are some"
    assert node.round(0.03) == {here: REQUEST}, "and the next round asks, however soon"
    assert node.round(1.0) == {}
    later = node.writer()
    assert node.round(0.03) == {later: REQUEST}


def test_with_nothing_in_flight_the_server_is_asked_as_often_as_the_link_says(node: Node):
    node.writer()
    for _ in range(3):  # until the server has confirmed its ack
        node.round(1.0)
    before = len(node.link.asked)
    for _ in range(10):
        node.round(0.1)
    assert len(node.link.asked) - before in (1, 2)


def test_while_redis_tells_nothing_requests_come_the_second_way(node: Node):
    here, gone = node.writer(), node.writer(alive=False)
    questions: list[Outgoing] = []

    def ask(question: Outgoing) -> dict[int, Downlink]:
        questions.append(question)
        return {0: Downlink(beat=1, stops={here: REQUEST})}

    node.now_s = 100.0
    assert node.delivery.ask_another_way(ask) == {here: REQUEST}
    assert gone not in questions[0].stops[0]
