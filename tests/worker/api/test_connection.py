"""The client's end of HTTP: patience with trouble, our errors for theirs, exact values."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import msgpack
import pytest

from runfold.api import GroupNotFoundError, NotFoundError, RequestError, RunNotFoundError, connection
from runfold.api.connection import Connection, server_url
from runfold.errors import AuthenticationError, CommError
from worker.api.canned import Answer, CannedServer, packed, refusal


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


def ask(answers: list[Answer], path: str = "/x", key: str | None = None) -> tuple[object, list[str]]:
    left = list(answers)
    with CannedServer(lambda _path, _headers: left.pop(0) if len(left) > 1 else left[0]) as server:
        client = Connection(server.url, key, 5.0)
        try:
            return client.get(path), server.asked
        finally:
            client.close()


def test_a_read_is_repeated_until_it_is_answered() -> None:
    gone: Answer = (0, {}, b"")
    busy = refusal(503, "unavailable", "later")
    value, asked = ask([gone, busy, (502, {}, b"<html>"), packed({"a": 1})])
    assert value == {"a": 1}
    assert len(asked) == 4


def test_trouble_that_stays_is_told_in_words() -> None:
    with pytest.raises(CommError, match="later"):
        ask([refusal(503, "unavailable", "later")])
    with pytest.raises(CommError, match=r"can't reach .* is `runfold up` running"):
        Connection("http://127.0.0.1:9", None, 1.0).get("/x")
    with pytest.raises(CommError, match="no address"):
        Connection("nonsense://x", None, 1.0).get("/x")


def test_a_server_that_is_too_slow_is_asked_twice_and_no_more() -> None:
    done = threading.Event()

    def answer(_path: str, _headers: dict[str, str]) -> Answer:
        done.wait(10)
        return packed(1)

    with CannedServer(answer) as server:
        client = Connection(server.url, None, 0.05)
        with pytest.raises(CommError, match=r"0\.05 s; Api\(timeout"):
            client.get("/x")
        done.set()
        assert len(server.asked) == 2
        client.close()


def test_no_server_at_all_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNFOLD_DIR", str(tmp_path))
    with pytest.raises(CommError, match="runfold up"):
        Connection(None, None, None).get("/x")


def test_the_server_is_found_in_the_environment_and_in_the_registration(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:5"}))
    assert server_url({"RUNFOLD_DIR": str(tmp_path)}) == "http://127.0.0.1:5"
    assert server_url({"RUNFOLD_DIR": str(tmp_path), "RUNFOLD_URL": "http://a"}) == "http://a"
    (tmp_path / "server.json").write_text("torn")
    assert server_url({"RUNFOLD_DIR": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(404, "run_not_found", "no run"), RunNotFoundError),
        (refusal(404, "group_not_found", "no group"), GroupNotFoundError),
        (refusal(404, "no_such_route", "?"), NotFoundError),
        (refusal(401, "wrong_key", "key?"), AuthenticationError),
        (refusal(400, "bad_request", "no", field="filters", hint="so"), RequestError),
        (refusal(500, "internal", "oh"), CommError),
        ((200, {"content-type": "text/html"}, b"<html>"), CommError),
        ((418, {}, b""), CommError),
        ((200, {"content-type": "application/msgpack"}, b"\xc1"), CommError),
    ],
)
def test_each_refusal_has_its_exception(answer: Answer, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        ask([answer])
    assert type(caught.value) is kind
    assert isinstance(caught.value, CommError)


def test_lookups_that_fail_are_value_errors_as_in_wandb() -> None:
    with pytest.raises(ValueError, match="no run"):
        ask([refusal(404, "run_not_found", "no run")])
    with pytest.raises(ValueError, match="so") as caught:
        ask([refusal(400, "bad_request", "no", field="filters", hint="so")])
    assert caught.value.field == "filters"  # type: ignore[attr-defined]


def test_the_key_travels_as_bearer() -> None:
    seen: list[str] = []

    def answer(_path: str, headers: dict[str, str]) -> Answer:
        seen.append(headers.get("authorization", ""))
        return packed(1)

    with CannedServer(answer) as server:
        client = Connection(server.url, "geheim", 5.0)
        client.get("/x")
        client.close()
    assert seen == ["Bearer geheim"]


def test_arrays_and_big_integers_come_back_exact() -> None:
    body = msgpack.packb(
        {
            "big": msgpack.ExtType(1, b"-" + b"9" * 30),
            "f8": msgpack.ExtType(16, b"\0\0\0\0\0\0\xf0?"),
            "i8": msgpack.ExtType(17, b"\xff" * 8),
            "u4": msgpack.ExtType(19, b"\1\0\0\0\2\0\0\0"),
            "bool": msgpack.ExtType(20, b"\0\1"),
        }
    )
    value, _ = ask([(200, {"content-type": "application/msgpack"}, body)])
    assert isinstance(value, dict)
    assert value["big"] == -(10**30 - 1)
    assert {name: list(value[name]) for name in ("f8", "i8", "u4", "bool")} == {
        "f8": [1.0],
        "i8": [-1],
        "u4": [1, 2],
        "bool": [False, True],
    }
    with pytest.raises(CommError, match="extension"):
        ask([(200, {"content-type": "application/msgpack"}, msgpack.packb(msgpack.ExtType(99, b"")))])


def test_parameters_are_quoted_and_absent_ones_left_out() -> None:
    with CannedServer(lambda _path, _headers: packed(None)) as server:
        client = Connection(server.url, None, 5.0)
        client.get("/x", {"keys": ["a&b", "ü"], "none": None, "yes": True, "n": 3})
        client.close()
    assert server.asked == ["/api/v1/x?keys=a%26b&keys=%C3%BC&yes=1&n=3"]


def test_a_query_that_no_server_reads_is_refused_with_the_limit() -> None:
    client = Connection("http://127.0.0.1:9", None, 1.0)
    with pytest.raises(RequestError, match="fewer") as caught:
        client.get("/x", {"limit": 1, "keys": [f"metric/{n:020d}" for n in range(3000)]})
    assert (caught.value.field, caught.value.limit) == ("keys", 60_000)


def test_a_connection_works_on_after_a_fork() -> None:
    with CannedServer(lambda _path, _headers: packed(1)) as server:
        client = Connection(server.url, None, 5.0)
        client.get("/x")
        parent = client._client
        client._client_pid = os.getpid() + 1  # as a forked child finds it
        assert client.get("/x") == 1
        assert client._client is not parent
        client.close()
        if parent is not None:
            parent.close()
