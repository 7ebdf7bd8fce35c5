"""docs/api.md lists every route, and no other; every field of processes and nodes."""

from __future__ import annotations

import re
from pathlib import Path

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake, backend_over
from coordinator.readers.stored_node import StoredNode, own, place_writer, tell_devices
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.api.app import create_app
from runfold_coordinator.api.filters import _COMPARISONS
from runfold_coordinator.api.run_fields import _FIELDS
from runfold_coordinator.store.store import Store

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


def test_every_route_is_documented_and_every_documented_route_exists(
    store: Store, intake: HeardIntake
) -> None:
    paths = create_app(backend_over(store, intake)).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    documented = set(
        re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /api/v1/[^`]*)`", DOCS.read_text(), re.MULTILINE)
    )
    assert documented == served


def test_every_operator_and_field_is_documented() -> None:
    text = DOCS.read_text()
    for word in [*_COMPARISONS, *_FIELDS]:
        assert f"`{word}`" in text, word


def test_every_field_of_processes_and_nodes_is_documented(store: Store, client: AsgiClient) -> None:
    run, me = StoredRun(store, "r1"), Said(0, mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    place_writer(store, me)
    tell_devices(store, me, ["A"])
    node = StoredNode(store, "n1")
    node.describe([{"uuid": "A", "index": 0, "name": "Stub"}])
    node.sample(at_s=0)({"memory_percent": 1.0, **own(me)})
    node.deliver()
    text = DOCS.read_text().split("## Processes and nodes")[1].split("\n## ")[0]
    [writer] = client.get("/api/v1/runs/e/p/r1/writers").json()["writers"]
    live = client.get("/api/v1/runs/e/p/r1/live").json()
    [found] = client.get("/api/v1/nodes").json()["nodes"]
    documents = [
        writer,
        writer["gpus"][0],
        live,
        *live["writers"],
        *live["nodes"],
        found,
        found["writers"][0],
    ]
    documents += live["writers"][0]["gpus"]
    served = {name for document in documents for name in document}
    assert {name for name in served if f"`{name}`" not in text} == set()
    documented = set(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    named = {name for cell in documented for name in re.findall(r"`(\w+)`", cell)}
    assert named <= served
