"""Every parameter of every route, new ones too, given what it is not meant for: a refusal, never a fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.values import pack_value
from runfold_coordinator.api.app import OPENAPI_PATH
from runfold_coordinator.store.store import Store

ODD = ("-1", "9" * 30, "NaN", "", "\0\x1b[31m\n", "\ud800", "x" * 5000, "[")
THE_RUN = {"entity": "e", "project": "p", "run_id": "r1", "digest": "0f" * 32}


def odd_requests(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (method, address): one parameter is odd at a time."""
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            in_path = [p["name"] for p in parameters if p["in"] == "path"]
            needed = {p["name"]: "g" for p in parameters if p["in"] == "query" and p.get("required")}
            for parameter in parameters:
                # One function reads the path for all routes: there, two values are enough.
                for value in ODD if parameter["in"] == "query" else ODD[4:6]:
                    odd = {parameter["name"]: quote(value.encode("utf-8", "surrogatepass"), safe="")}
                    query = needed | (odd if parameter["in"] == "query" else {})
                    places = (
                        dict.fromkeys(in_path, "g")
                        | THE_RUN
                        | (odd if parameter["in"] == "path" and value else {})
                    )
                    text = "&".join(f"{name}={each}" for name, each in query.items())
                    yield method.upper(), f"{path.format(**places)}?{text}"


def test_an_odd_parameter_is_refused_by_its_name_or_harmless(store: Store, client: AsgiClient) -> None:
    run, me = StoredRun(store, "r1"), Said(0, mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    asked = {address: method for method, address in odd_requests(client.get(OPENAPI_PATH).json())}
    assert len(asked) > 400
    for address, method in asked.items():
        answer = client.request(method, address)
        assert answer.status_code < 500, address
        if answer.status_code == 400:
            assert answer.json()["error"]["field"], address


def test_odd_questions_for_acks_are_refused(client: AsgiClient) -> None:
    odd: list[Any] = [
        {"writers": [], "partition": float("inf")},
        {"writers": [], "partition": float("nan")},
        {"writers": [], "partition": "9" * 5000},
        {"writers": ["é"]},
        {"writers": 5},
        [],
        None,
    ]
    for asked in odd:
        answer = client.post("/api/v1/acks", content=pack_value(asked))
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "writers"), asked


def test_a_body_that_is_no_json_is_named(store: Store, client: AsgiClient) -> None:
    StoredRun(store, "r1")
    for body in (b"[" * 100_000, b"\xff", b'{"by":'):
        answer = client.post(
            "/api/v1/runs/e/p/r1/stop", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400 and answer.json()["error"]["field"] == "body", answer.text
