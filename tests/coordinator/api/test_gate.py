"""The gate admits and refuses by host, key, origin and size, whatever stands behind it."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request

from coordinator.api.asgi import AsgiClient
from runfold_coordinator.api import gate as gate_module
from runfold_coordinator.api.gate import Gate, GatePolicy, is_loopback

LOCAL = GatePolicy.for_address("127.0.0.1")
KEYED = GatePolicy.for_address("0.0.0.0", api_key="geheim-ü")


def client_for(policy: GatePolicy, base_url: str = "http://127.0.0.1:8000") -> AsgiClient:
    app = FastAPI()

    @app.get("/thing")
    def thing() -> dict[str, str]:
        return {"answer": "thing"}

    @app.get("/api/v1/health")
    def health() -> dict[str, str]:
        return {"answer": "well"}

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret detail")

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    app.add_middleware(Gate, policy=policy)
    return AsgiClient(app, base_url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000"])
def test_a_loopback_server_answers_to_loopback_names(host: str) -> None:
    assert client_for(LOCAL).get("/thing", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8000", "127.0.0.1.evil.test", "", "10.0.0.1", "[::", "a@b"]
)
def test_a_loopback_server_refuses_every_other_name(host: str) -> None:
    answer = client_for(LOCAL).get("/thing", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "wrong_host"
    assert answer.json()["error"]["field"] == "Host"


def test_a_public_address_without_a_key_is_refused() -> None:
    for host in ("0.0.0.0", "10.1.2.3", "::", "node-a.example"):
        with pytest.raises(ValueError, match="RUNFOLD_API_KEY"):
            GatePolicy.for_address(host)
        assert not is_loopback(host)
    assert is_loopback("::1")
    assert is_loopback("127.3.2.1")


def test_the_key_is_not_in_the_policys_repr() -> None:
    assert "geheim" not in repr(KEYED)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "no_key"),
        ("Bearer wrong", "wrong_key"),
        ("Bearer", "no_key"),
        ("Basic !!!", "no_key"),
        ("Basic " + base64.b64encode(b"api:wrong").decode(), "wrong_key"),
        ("Digest x", "no_key"),
    ],
)
def test_without_the_key_nothing_is_told_but_health(authorization: str | None, code: str) -> None:
    client = client_for(KEYED)
    headers = {} if authorization is None else {"authorization": authorization}
    for path in ("/thing", "/nowhere", "/broken"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == code
        assert answer.headers["www-authenticate"].startswith("Basic")
    assert client.get("/api/v1/health", headers=headers).status_code == 200


def test_the_key_opens_as_bearer_and_as_password() -> None:
    client = client_for(GatePolicy.for_address("0.0.0.0", api_key="geheim"), "http://node-a:8000")
    assert client.get("/thing", headers={"authorization": "Bearer geheim"}).status_code == 200
    assert client.get("/thing", auth=("api", "geheim")).status_code == 200


def test_every_answer_has_the_security_headers_even_a_crash() -> None:
    client = client_for(LOCAL)
    answers = [client.get("/thing"), client.get("/nowhere"), client.get("/broken")]
    answers.append(client.get("/thing", headers={"host": "evil.test"}))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"


def test_a_crash_tells_nothing_of_its_inside() -> None:
    answer = client_for(LOCAL).get("/broken")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://[", "sec-fetch-site": "same-origin"},
    ],
)
def test_writes_from_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    answer = client_for(LOCAL).post("/echo", content=b"x", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"


def test_writes_from_our_own_page_and_from_programs_pass() -> None:
    client = client_for(LOCAL)
    assert client.post("/echo", content=b"x").json() == {"bytes": 1}
    assert client.post("/echo", content=b"x", headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


async def _pieces() -> AsyncIterator[bytes]:
    yield b"x" * 6
    yield b"x" * 6


def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes() -> None:
    policy = GatePolicy.for_address("127.0.0.1", body_limits={"/echo": 10})
    client = client_for(policy)
    assert client.post("/echo", content=b"x" * 10).json() == {"bytes": 10}
    told = client.post("/echo", content=b"x" * 11)
    untold = client.post("/echo", content=_pieces())
    for answer in (told, untold):
        assert answer.status_code == 413
        assert answer.json()["error"]["limit"] == 10


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30])
def test_a_length_that_is_no_length_is_refused(length: str) -> None:
    answer = client_for(LOCAL).post("/echo", content=b"x", headers={"content-length": length})
    assert answer.status_code in (400, 413)


def test_compressed_bodies_are_refused() -> None:
    answer = client_for(LOCAL).post("/echo", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


async def _call(policy: GatePolicy, receive: Any, path: str = "/echo") -> list[dict[str, Any]]:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "scheme": "http", "server": ("127.0.0.1", 80), "client": None,
        "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    app.add_middleware(Gate, policy=policy)
    await app(scope, receive, send)
    return sent


def test_a_body_that_stalls_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(gate_module, "BODY_PIECE_TIMEOUT_S", 0.0)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    sent = asyncio.run(_call(LOCAL, receive))
    assert sent[0]["status"] == 408


def test_websockets_are_closed() -> None:
    import asyncio

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def go() -> None:
        await Gate(FastAPI(), LOCAL)({"type": "websocket", "path": "/"}, None, send)  # type: ignore[arg-type]

    asyncio.run(go())
    assert sent == [{"type": "websocket.close", "code": 1008}]
