"""The second way in: frames over HTTP are checked before anything is allocated for them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake
from runfold.protocol.streams import Heartbeat, WriterBeat

WRITER = bytes(range(16))


def post(client: AsgiClient, path: str, content: Any) -> Any:
    body = content if isinstance(content, bytes) else msgpack.packb(content)
    return client.post(f"/api/v1/{path}", content=body)


def test_health_and_connect_tell_where_to_send(client: AsgiClient) -> None:
    assert client.get("/api/v1/health").json()["status"] == "ok"
    packed = client.get("/api/v1/connect", headers={"accept": "application/msgpack"})
    assert msgpack.unpackb(packed.content) == {"redis_url": None, "server_id": "ab", "partitions": 1}


def test_frames_reach_their_partition_with_their_crc(client: AsgiClient, intake: HeardIntake) -> None:
    answer = post(client, "frames", [[0, b"one", 0x01020304], [3, b"two", b"\4\3\2\1"]])
    assert answer.json() == {"accepted": 2}
    assert intake.frames == [(0, b"one", b"\4\3\2\1"), (3, b"two", b"\4\3\2\1")]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", b"\x93", {}, 1, [1], [[0, b"x"]], [[0, b"x", 1, 1]], [[-1, b"x", 1]], [[True, b"x", 1]],
     [[0, "x", 1]], [[0, b"x", -1]], [[0, b"x", b"123"]], [[0, b"x", 2**32]], [[0, [], 1]], [[0, {}, 1]],
     [[0, b"x", None]], msgpack.packb([[0, b"x", 1]]) + b"x", [[[[[[]]]]]], b"\xdd\xff\xff\xff\xff",
     b"\x91" * 100_000, [[0, msgpack.ExtType(5, b"x"), 1]], [[2**40, b"x", 1]]],
)  # fmt: skip
def test_what_is_no_list_of_frames_is_refused_whole(
    client: AsgiClient, intake: HeardIntake, content: Any
) -> None:
    answer = post(client, "frames", content)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["message"]
    assert intake.frames == []


def test_a_body_of_empty_lists_costs_no_memory(client: AsgiClient) -> None:
    body = b"\xdd\x00\x00\x20\x00" + b"\x90" * 5_000_000
    tracemalloc.start()
    try:
        assert post(client, "frames", body).status_code == 400
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_too_many_and_too_large_are_told_with_the_limit(client: AsgiClient) -> None:
    many = post(client, "frames", [[0, b"", 0]] * 10_001)
    large = post(client, "frames", b"\0" * (20 * 1024 * 1024))
    for answer in (many, large):
        assert answer.status_code == 413
        assert answer.json()["error"]["limit"] > 0


def test_heartbeats_go_on_as_they_came(client: AsgiClient, intake: HeardIntake) -> None:
    beat = Heartbeat("n", "h", "b", 1.0, 5.0, (WriterBeat(WRITER, 4, True),)).pack()
    assert post(client, "control", beat).json() == {"accepted": 1}
    assert intake.controls == [beat]
    for content in (b"", b"\xc1", {"v": 2, "kind": "heartbeat"}, {"kind": "other"}, b"\x80" * 100_000):
        assert post(client, "control", content).status_code == 400
    assert intake.controls == [beat]


def test_acks_are_told_for_the_writers_asked(client: AsgiClient) -> None:
    answer = post(client, "acks", {"writers": [WRITER.hex()]})
    assert answer.json()["acks"] == {WRITER.hex(): 7}
    for content in (
        b"",
        {},
        {"writers": 1},
        {"writers": ["x"]},
        {"writers": [WRITER.hex() + "00"]},
        {"writers": [b"a"]},
    ):
        refused = post(client, "acks", content)
        assert refused.status_code == 400
        assert refused.json()["error"]["field"] == "writers"
