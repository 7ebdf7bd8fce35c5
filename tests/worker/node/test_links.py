"""Links against servers that refuse in every known way; and where the agent looks for its server."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgpack
import pytest

from runfold.node.connect import Connector, resolve
from runfold.node.failures import REDIS_REACTIONS, LinkError, NoServerError, Reaction
from runfold.node.http_writer import HttpWriter
from runfold.node.link import EntryId, Incoming, Outgoing, OutgoingFrame, Refused
from runfold.node.settings import NodeSettings
from runfold.node.stream_writer import StreamWriter
from runfold.protocol.streams import StopRequest

pytestmark = pytest.mark.journey
W = b"w" * 16


def frame(n: int = 1, size: int = 10, partition: int = 0) -> OutgoingFrame:
    return OutgoingFrame(partition, W, n, n, b"f" * size, 77)


@contextlib.contextmanager
def redis_that_answers(answer: bytes | None) -> Iterator[str]:
    """A server that greets politely and gives `answer` to every command after; None: it never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets = [listener]

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                open_sockets.append(client)
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        stream = client.makefile("rb")
        with contextlib.suppress(OSError, ValueError):
            while line := stream.readline():
                words = []
                for _ in range(int(line[1:])):
                    words.append(stream.read(int(stream.readline()[1:]) + 2)[:-2].upper())
                if words[0] in (b"CLIENT", b"HELLO", b"SELECT", b"AUTH", b"PING"):
                    client.sendall(b"+OK\r\n")
                elif answer is not None:
                    client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        thread.join(5)


@pytest.mark.parametrize("word", [*sorted(REDIS_REACTIONS), "ERR", "NEWERROR"])
def test_every_error_of_redis_is_refused_or_a_lost_link_and_never_a_success(word: str):
    expected = REDIS_REACTIONS.get(word, Reaction.RETRY)
    with redis_that_answers(f"-{word} 3999 127.0.0.1:6381\r\n".encode()) as url:
        link = StreamWriter(url)
        found: Any
        try:
            [found] = link.exchange(Outgoing(frames=[frame()])).frames
        except LinkError as error:  # the driver closes the connection on some of them
            found = error
        link.close()
    assert isinstance(found, Refused | LinkError)
    assert found.reaction is expected
    assert str(found.message if isinstance(found, Refused) else found).startswith(word)


def test_a_server_that_accepts_and_never_answers_is_a_lost_link_within_seconds():
    with redis_that_answers(None) as url:
        link = StreamWriter(url)
        began = time.monotonic()
        with pytest.raises(LinkError) as caught:
            link.exchange(Outgoing(polls={0: [W]}))
        assert caught.value.reaction is Reaction.RECONNECT
        assert time.monotonic() - began < 30.0, "without a limit it would wait for ever"


@pytest.mark.parametrize(
    "answer", [b"+QUEUED\r\n", b"*-1\r\n", b":5\r\n", b"!!!\r\n", b"$5\r\n\xff\xff\xff-1\r\n"]
)
def test_an_answer_that_is_no_entry_id_is_a_lost_link(answer: bytes):
    with redis_that_answers(answer) as url, pytest.raises(LinkError):
        StreamWriter(url).exchange(Outgoing(frames=[frame()]))


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock", "http://h", "redis://h:port", "rediss://:0"]
)
def test_an_address_that_leads_nowhere_is_a_link_error(url: str):
    with pytest.raises(LinkError):
        StreamWriter(url, io_timeout_s=0.5)


class Coordinator(BaseHTTPRequestHandler):
    """The three routes; what it should say stands in `server.said`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, self.headers.get("authorization"), body))  # type: ignore[attr-defined]
        self._answer(*self.server.said[self.path])  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        self._answer(*self.server.said[self.path])  # type: ignore[attr-defined]

    def _answer(self, status: int, content: Any) -> None:
        packed = msgpack.packb(content)
        self.send_response(status)
        self.send_header("content-type", "application/msgpack")
        self.send_header("content-length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def coordinator() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Coordinator)
    server.asked, server.said = [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def exchanged(server: Any, outgoing: Outgoing) -> Incoming:
    link = HttpWriter(server.url, "key")
    try:
        return link.exchange(outgoing)
    finally:
        link.close()


def test_frames_and_acks_travel_over_http(coordinator: Any):
    coordinator.said = {
        "/api/v1/control": (200, {"accepted": 1}),
        "/api/v1/frames": (200, {"accepted": 2}),
        "/api/v1/acks": (200, {"srv": "ab" * 16, "cur": "5-1", "beat": 7, "acks": {W.hex(): 9}}),
    }
    incoming = exchanged(
        coordinator, Outgoing([(0, b"beat")], [frame(1, partition=3), frame(2)], polls={0: [W, b"x" * 16]})
    )
    assert incoming.controls == [None] and incoming.frames == [None, None]
    down = incoming.downlinks[0]
    assert (down.server_id, down.beat, down.acks) == (b"\xab" * 16, 7, {W: 9, b"x" * 16: None})
    assert down.cursor is None, "frames sent by HTTP have no entry ids to compare with"
    paths = [path for path, _, _ in coordinator.asked]
    assert paths == ["/api/v1/control", "/api/v1/frames", "/api/v1/acks"]
    assert {key for _, key, _ in coordinator.asked} == {"Bearer key"}
    assert msgpack.unpackb(coordinator.asked[1][2])[0] == [3, b"f" * 10, 77]


def test_stop_requests_travel_over_http(coordinator: Any):
    request = StopRequest("r1", "eve", 2.5, is_whole=True)
    coordinator.said = {
        "/api/v1/acks": (200, {"acks": {}, "stops": "m1", "stop": {W.hex(): request.to_map()}})
    }
    down = exchanged(coordinator, Outgoing(polls={0: []}, stops={0: [W, b"x" * 16]})).downlinks[0]
    assert (down.stops_mark, down.stops) == (b"m1", {W: request})
    question = msgpack.unpackb(coordinator.asked[0][2])
    assert question == {"partition": 0, "writers": [], "stops": [W.hex(), (b"x" * 16).hex()]}


def test_frames_that_the_coordinator_did_not_take_are_refused(coordinator: Any):
    coordinator.said = {"/api/v1/frames": (200, {"accepted": 1})}
    incoming = exchanged(coordinator, Outgoing(frames=[frame(1), frame(2)]))
    assert incoming.frames[0] is None
    assert isinstance(incoming.frames[1], Refused)
    assert incoming.frames[1].reaction is Reaction.BACK_PRESSURE


@pytest.mark.parametrize(
    ("status", "reaction"), [(503, Reaction.WAIT), (429, Reaction.BACK_PRESSURE), (401, Reaction.REFUSED)]
)
def test_a_status_refuses_the_frames_and_keeps_the_link(coordinator: Any, status: int, reaction: Reaction):
    coordinator.said = {"/api/v1/frames": (status, {})}
    [answer] = exchanged(coordinator, Outgoing(frames=[frame()])).frames
    assert isinstance(answer, Refused) and answer.reaction is reaction


@pytest.mark.parametrize(
    "answer",
    [[1, 2], {"acks": {"zz": 1}}, {"srv": 5}, {"beat": "x"}, {"stop": {"zz": {}}}, {"stop": {"00": {}}}],
)
def test_acks_of_another_shape_are_a_link_error(coordinator: Any, answer: Any):
    coordinator.said = {"/api/v1/acks": (200, answer)}
    with pytest.raises(LinkError):
        exchanged(coordinator, Outgoing(polls={0: [W]}))


def settings(tmp_path: Path, **given: Any) -> NodeSettings:
    return NodeSettings(runfold_dir=tmp_path, target="local", **given)


def test_the_server_is_what_was_set_else_what_is_handed_out_else_what_is_registered(
    tmp_path: Path, coordinator: Any
):
    with pytest.raises(NoServerError, match="runfold up"):
        resolve(settings(tmp_path))
    (tmp_path / "server.json").write_text(json.dumps({"redis_url": "redis://local", "server_id": "ab" * 16}))
    assert resolve(settings(tmp_path)).server_id == b"\xab" * 16
    coordinator.said = {"/api/v1/connect": (200, {"redis_url": "redis://given", "partitions": 3})}
    found = resolve(settings(tmp_path, url=coordinator.url))
    assert (found.redis_url, found.partitions, found.http_url) == ("redis://given", 3, coordinator.url)
    assert (
        resolve(settings(tmp_path, url=coordinator.url, redis_url="redis://set")).redis_url == "redis://set"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"redis_url": null}'])
def test_a_damaged_registration_is_no_server(tmp_path: Path, text: str):
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(NoServerError):
        resolve(settings(tmp_path))


def test_where_redis_cannot_be_reached_frames_travel_by_http(tmp_path: Path, coordinator: Any):
    coordinator.said = {"/api/v1/connect": (200, {"redis_url": "redis://127.0.0.1:1"})}
    now = [0.0]
    connector = Connector(settings(tmp_path, url=coordinator.url), clock=lambda: now[0])
    link, address = connector.open()
    assert link.name == "http"
    assert not connector.should_try_redis(link, address)
    now[0] = 31.0
    assert connector.should_try_redis(link, address)
    assert connector.reopen_redis(address) is None
    assert not connector.should_try_redis(link, address)
    link.close()


def test_while_the_coordinator_is_away_redis_is_tried_where_it_was(tmp_path: Path, coordinator: Any):
    with redis_that_answers(b"+OK\r\n") as url:
        coordinator.said = {"/api/v1/connect": (200, {"redis_url": url})}
        connector = Connector(settings(tmp_path, url=coordinator.url))
        connector.open()[0].close()
        coordinator.said = {"/api/v1/connect": (503, {})}
        link, _ = connector.open()
        assert link.name == "redis"
        link.close()


def test_a_server_that_comes_or_goes_on_this_node_is_noticed(tmp_path: Path):
    connector = Connector(settings(tmp_path))
    with pytest.raises(NoServerError):
        connector.open()
    assert not connector.registration_changed()
    (tmp_path / "server.json").write_text("{}")
    assert connector.registration_changed()


def test_the_crc_travels_as_four_bytes_little_endian():
    assert struct.pack("<I", 77) == b"M\0\0\0"
    assert EntryId.parse(b"7-3") > EntryId(7, 2)
