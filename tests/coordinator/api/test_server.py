"""The listener: known port before anybody is told, slow clients do not hold the others up, it ends when told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from runfold_coordinator.api.gate import Gate, GatePolicy
from runfold_coordinator.api.server import HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    app = FastAPI()

    @app.get("/thing")
    def thing() -> dict[str, int]:
        return {"answer": 1}

    app.add_middleware(Gate, policy=GatePolicy.for_address("127.0.0.1"))
    started = HttpServer(app, "127.0.0.1", 0).start()
    yield started
    started.close()
    started.close()


def test_it_serves_on_the_port_that_it_tells(server: HttpServer) -> None:
    assert server.port > 0
    answer = httpx.get(server.url + "/thing")
    assert answer.json() == {"answer": 1}
    assert "server" not in answer.headers


def test_a_taken_port_is_an_error_at_once(server: HttpServer) -> None:
    with pytest.raises(OSError, match=rf"127.0.0.1:{server.port}: .*in use; choose another --port"):
        HttpServer(FastAPI(), "127.0.0.1", server.port)
    with pytest.raises(OSError, match="no address"):
        HttpServer(FastAPI(), "no such host", 0)


def test_hundreds_of_slow_clients_do_not_hold_up_others(server: HttpServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        for each in slow:
            each.sendall(b"POST /thing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nx")
        took_s = []
        for _ in range(5):  # they never come to an end: who is held up by them is so each time
            began_s = time.perf_counter()
            assert httpx.get(server.url + "/thing", timeout=60).status_code == 200
            took_s.append(time.perf_counter() - began_s)
        assert min(took_s) < 1.0
    finally:
        for each in slow:
            each.close()


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000 + b"\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /thing HTTP/1.0\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused(server: HttpServer, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request_bytes)
        assert b" 400 " in connection.recv(4096).split(b"\r\n")[0]


def test_ipv6_and_any_addresses_have_urls_that_work() -> None:
    server = HttpServer(FastAPI(), "0.0.0.0", 0)
    assert server.url == f"http://127.0.0.1:{server.port}"
    server.close()
    if socket.has_ipv6:
        try:
            server = HttpServer(FastAPI(), "::1", 0)
        except OSError:
            return
        assert server.url == f"http://[::1]:{server.port}"
        server.close()
