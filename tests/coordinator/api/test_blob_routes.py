"""Blobs over HTTP: asked for, sent in pieces and in batches, read in parts."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake, backend_over
from runfold_coordinator.api import routes_blobs
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.gate import FILE_POLICY, GatePolicy
from runfold_coordinator.api.server import HttpServer
from runfold_coordinator.blobs.uploads import Uploads
from runfold_coordinator.store.store import Store
from support.processes import until

DATA = bytes(range(256)) * 10_000
DIGEST = hashlib.sha256(DATA).hexdigest()
BLOBS = "/api/v1/blobs"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(client: AsgiClient, data: bytes, *, offset: int = 0, size: int, digest: str = DIGEST) -> Any:
    return client.request(
        "PUT", f"{BLOBS}/{digest}/upload", params={"offset": offset, "size": size}, content=data
    )


@pytest.fixture
def stored(client: AsgiClient) -> AsgiClient:
    assert put(client, DATA, size=len(DATA)).json() == {"offset": len(DATA), "complete": True}
    return client


def test_an_upload_in_pieces(client: AsgiClient) -> None:
    assert client.post(f"{BLOBS}/missing", json={"digests": [DIGEST]}).json() == {"missing": [DIGEST]}
    assert client.get(f"{BLOBS}/{DIGEST}/upload").json() == {"offset": 0, "complete": False}
    size, at = len(DATA), 0
    for end in (1, 1_000_000, size):
        answer = put(client, DATA[at:end], offset=at, size=size)
        assert answer.json() == {"offset": end, "complete": end == size}
        at = end
    assert client.get(f"{BLOBS}/{DIGEST}/upload").json() == {"offset": size, "complete": True}
    assert client.post(f"{BLOBS}/missing", json={"digests": [DIGEST]}).json() == {"missing": []}
    assert put(client, DATA, size=size).json() == {"offset": size, "complete": True}


def test_who_sent_the_end_is_told_to_ask_again_where_it_takes_long(
    store: Store, intake: HeardIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_over(store, intake)
    client, slow = AsgiClient(create_app(backend)), threading.Event()
    take = backend.blobs.place.take
    monkeypatch.setattr(backend.blobs.place, "take", lambda *found: (slow.wait(30), take(*found)))
    monkeypatch.setattr(routes_blobs, "FINISH_WAIT_S", 0.05)
    size = len(DATA)
    for _ in range(2):
        assert put(client, DATA, size=size).json() == {"offset": size, "complete": False}
        assert put(client, b"", offset=size, size=size).json() == {"offset": size, "complete": False}
    assert client.get(f"{BLOBS}/{DIGEST}/upload").json() == {"offset": size, "complete": False}
    slow.set()
    monkeypatch.setattr(routes_blobs, "FINISH_WAIT_S", 30.0)
    assert put(client, b"", offset=size, size=size).json() == {"offset": size, "complete": True}


def test_what_came_before_the_client_went_stays(
    store: Store, intake: HeardIntake, caplog: pytest.LogCaptureFixture
) -> None:
    server = HttpServer(create_app(backend_over(store, intake)), "127.0.0.1", 0).start()
    try:
        head = f"PUT {BLOBS}/{DIGEST}/upload?offset=0&size={len(DATA)} HTTP/1.1\r\n"
        head += f"Host: 127.0.0.1\r\nContent-Length: {len(DATA)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(head.encode() + DATA[:100_000])
        path = f"{server.url}{BLOBS}/{DIGEST}/upload"
        until(lambda: httpx.get(path).json()["offset"] == 100_000)
        rest = httpx.put(path, params={"offset": 100_000, "size": len(DATA)}, content=DATA[100_000:])
        assert rest.json()["complete"]
    finally:
        server.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_true_offset_is_told(client: AsgiClient) -> None:
    put(client, DATA[:1000], size=len(DATA))
    answer = put(client, DATA, size=len(DATA))
    assert (answer.status_code, answer.json()["offset"], answer.json()["complete"]) == (409, 1000, False)
    assert answer.json()["error"]["code"] == "wrong_offset"
    assert put(client, DATA[1000:], offset=1000, size=len(DATA)).json()["complete"]


def test_what_is_not_what_it_says_is_refused_and_forgotten(client: AsgiClient) -> None:
    answer = put(client, b"?" + DATA[1:], size=len(DATA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "digest_mismatch")
    assert client.get(f"{BLOBS}/{DIGEST}/upload").json()["offset"] == 0
    assert put(client, DATA, size=10).status_code == 422
    assert client.get(f"{BLOBS}/{DIGEST}").status_code == 404


def test_a_full_disk_is_507_with_the_way_out(store: Store, intake: HeardIntake) -> None:
    backend = backend_over(store, intake)
    full = AsgiClient(
        create_app(backend_over(store, intake, uploads=Uploads(backend.blobs, keep_free_bytes=2**60)))
    )
    batch = full.post(f"{BLOBS}/batch", content=msgpack.packb([[digest_of(b"x"), b"x"]]))
    for answer in (put(full, DATA, size=len(DATA)), batch):
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert "free disk space" in answer.json()["error"]["hint"]
        assert answer.headers["retry-after"]


@pytest.mark.parametrize("digest", ["0f" * 31, "0F" * 32, "..%2f" * 12, "0" * 64 + "%00", "x" * 64])
def test_only_digests_are_names(client: AsgiClient, digest: str) -> None:
    for answer in (
        client.get(f"{BLOBS}/{digest}"),
        client.get(f"{BLOBS}/{digest}/upload"),
        put(client, b"", size=0, digest=digest),
        client.post(f"{BLOBS}/missing", json={"digests": [digest]}),
    ):
        assert answer.status_code in (400, 404)


def test_many_small_ones_at_once(client: AsgiClient) -> None:
    pieces = [(digest_of(data), data) for data in (b"", b"a", b"b" * 1000)]
    packed = msgpack.packb([list(pair) for pair in pieces])
    assert client.post(f"{BLOBS}/batch", content=packed).json() == {"stored": 3}
    assert client.post(f"{BLOBS}/batch", content=packed).json() == {"stored": 0}
    for digest, data in pieces:
        assert client.get(f"{BLOBS}/{digest}").content == data


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"\xc1", 400),
        (msgpack.packb({"a": b"b"}), 400),
        (msgpack.packb([[DIGEST]]), 400),
        (msgpack.packb([[DIGEST, "text"]]), 400),
        (msgpack.packb([["../../x", b"a"]]), 400),
        (msgpack.packb([[b"x" * 64, b"a"]]), 400),
        (msgpack.packb([[digest_of(b"a"), b"a"], [DIGEST, b"b"]]), 422),
        (msgpack.packb([]) + b"more", 400),
        (msgpack.packb([[digest_of(b"a"), b"a"]] * (routes_blobs.MAX_BATCH + 1)), 400),
        (b"\xdd\xff\xff\xff\xff", 400),
    ],
)
def test_what_is_no_batch_is_refused_whole(client: AsgiClient, body: bytes, status: int) -> None:
    answer = client.post(f"{BLOBS}/batch", content=body)
    assert answer.status_code == status
    assert client.get(f"{BLOBS}/{digest_of(b'a')}").status_code == 404


def test_limits_of_bodies_are_by_route(client: AsgiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [
        client.request("PUT", f"{BLOBS}/{DIGEST}/upload?offset=0&size=1", headers={"content-length": length})
        for length in (str(routes_blobs.MAX_PIECE_BYTES + 1), "9" * 30)
    ]
    refused += [client.post(f"{BLOBS}/batch", content=bytes(routes_blobs.MAX_BATCH_BYTES + 1))]
    assert {answer.status_code for answer in refused} == {413}
    too_many = client.post(f"{BLOBS}/missing", json={"digests": [DIGEST] * (routes_blobs.MAX_DIGESTS + 1)})
    assert (too_many.status_code, too_many.json()["error"]["limit"]) == (400, routes_blobs.MAX_DIGESTS)


def test_a_pattern_of_limits_stands_for_any_one_part() -> None:
    from runfold_coordinator.api.gate import MAX_BODY_BYTES, _limit_of

    limits = {"/a/{}/c": 7, "/a/b/c": 8}
    found = [_limit_of(limits, path) for path in ("/a/b/c", "/a/x/c", "/a/x/y/c", "/a/x/d", "/a//c")]
    assert found == [8, 7, MAX_BODY_BYTES, MAX_BODY_BYTES, 7]


def test_content_comes_whole_and_in_parts(stored: AsgiClient) -> None:
    whole = stored.get(f"{BLOBS}/{DIGEST}")
    assert whole.content == DATA
    assert whole.headers["etag"] == f'"{DIGEST}"'
    assert whole.headers["content-length"] == str(len(DATA))
    part = stored.get(f"{BLOBS}/{DIGEST}", headers={"range": "bytes=1048570-1048585"})
    assert (part.status_code, part.content) == (206, DATA[1048570:1048586])
    assert part.headers["content-range"] == f"bytes 1048570-1048585/{len(DATA)}"
    assert stored.get(f"{BLOBS}/{DIGEST}", headers={"range": "bytes=-5"}).content == DATA[-5:]
    beyond = stored.get(f"{BLOBS}/{DIGEST}", headers={"range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    known = stored.get(f"{BLOBS}/{DIGEST}", headers={"if-none-match": f'"{DIGEST}"'})
    assert (known.status_code, known.content) == (304, b"")
    head = stored.request("HEAD", f"{BLOBS}/{DIGEST}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))


def test_a_browser_saves_what_users_sent(stored: AsgiClient) -> None:
    answer = stored.get(f"{BLOBS}/{DIGEST}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == FILE_POLICY
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert stored.get("/api/v1/health").headers["content-security-policy"].startswith("default-src 'self'")


def test_a_damaged_blob_is_gone_until_it_is_sent_again(stored: AsgiClient, tmp_path: Path) -> None:
    (path,) = (tmp_path / "blobs").rglob(f"{DIGEST}-*")
    path.unlink()
    answer = stored.get(f"{BLOBS}/{DIGEST}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "blob_damaged")
    assert put(stored, DATA, size=len(DATA)).json()["complete"]
    assert stored.get(f"{BLOBS}/{DIGEST}").content == DATA


def test_nothing_is_told_without_the_key(store: Store, intake: HeardIntake) -> None:
    policy = GatePolicy.for_address("127.0.0.1", api_key="key")
    app = AsgiClient(create_app(backend_over(store, intake, gate=policy)))
    for method, path in (
        ("POST", "missing"),
        ("POST", "batch"),
        ("PUT", f"{DIGEST}/upload"),
        ("GET", f"{DIGEST}/upload"),
        ("GET", DIGEST),
        ("HEAD", DIGEST),
    ):
        assert app.request(method, f"{BLOBS}/{path}").status_code == 401
