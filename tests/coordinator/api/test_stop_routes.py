"""POST /stop: what is asked is checked, and a run that has ended says so."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.store.store import Store

PATH = "/api/v1/runs/e/p/r/stop"


@pytest.fixture
def run(store: Store) -> StoredRun:
    made = StoredRun(store)
    for rank in range(2):
        said = Said(rank)
        said.log({"loss": 1.0})
        made.deliver(said)
    return made


def post(client: AsgiClient, content: Any = None, **more: Any) -> Any:
    arguments = {} if content is None else {"json": content}
    return client.post(PATH, **arguments, **more)


def test_a_stop_is_taken_with_what_is_not_said_by_default(client: AsgiClient, run: StoredRun) -> None:
    said = post(client).json()
    assert (said["grace_s"], said["is_new"], said["by"]) == (30.0, True, "127.0.0.1")
    assert post(client, {}).json() == said | {"is_new": False}
    assert [writer["rank"] for writer in said["writers"]] == [0, 1]
    (found,) = client.get(PATH).json()["requests"]
    assert found["request"] == said["request"]
    assert found["by"] == said["by"]


def test_who_asked_is_their_word_and_their_address(client: AsgiClient, run: StoredRun) -> None:
    said = post(client, {"by": "eve\n\x1b[2J@laptop", "ranks": [1]}).json()
    assert said["by"] == "eve [2J@laptop (127.0.0.1)"
    assert [writer["rank"] for writer in said["writers"]] == [1]
    long = post(client, {"by": "x" * 10_000, "ranks": [0]}).json()["by"]
    assert len(long) <= 200
    assert long.endswith("(127.0.0.1)")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"grace_s": -1}, "grace_s"), ({"grace_s": 86_401}, "grace_s"), ({"grace_s": "30"}, "grace_s"),
        ({"grace_s": True}, "grace_s"), ({"grace_s": None}, "grace_s"), ({"ranks": []}, "ranks"),
        ({"ranks": [-1]}, "ranks"), ({"ranks": ["0"]}, "ranks"), ({"ranks": 1}, "ranks"), ({"ranks": [9]}, "ranks"),
        ({"ranks": [2**70]}, "ranks"), ({"by": 3}, "by"), ({"grace": 3}, "grace"), ([], "body"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(client: AsgiClient, run: StoredRun, body: Any, field: str) -> None:
    answer = post(client, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"].split(".")[0] == field
    assert client.get(PATH).json() == {"requests": []}


@pytest.mark.parametrize("content", [b"{", b'{"grace_s": NaN}', b'{"grace_s": 1e999}', b"[" * 100_000])
def test_a_body_that_is_no_json_of_ours_is_refused(
    client: AsgiClient, run: StoredRun, content: bytes
) -> None:
    answer = client.post(PATH, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert client.get(PATH).json() == {"requests": []}


def test_a_run_that_is_not_there_or_has_ended_says_so(client: AsgiClient, store: Store) -> None:
    assert client.post("/api/v1/runs/e/p/none/stop").status_code == 404
    StoredRun(store)
    answer = post(client)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "run_ended"
    assert "no process" in answer.json()["error"]["message"]


def test_pages_of_other_sites_stop_nothing(client: AsgiClient, run: StoredRun) -> None:
    assert post(client, {}, headers={"origin": "http://evil.test"}).status_code == 403
    assert client.get(PATH).json() == {"requests": []}
