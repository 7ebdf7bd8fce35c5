"""Artifacts over HTTP: what docs/api.md says of requests, answers and refusals."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.api.conftest import HeardIntake, backend_over
from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.manifest import Entry, Manifest
from runfold_coordinator.api.app import create_app
from runfold_coordinator.blobs.blobs import Blobs
from runfold_coordinator.store.store import Store
from support.manifest_entries import entry_of, file_entry

DOCS = Path(__file__).parents[3] / "docs" / "api.md"
ROOT = "/api/v1/artifacts"

Commit = Callable[..., httpx.Response]


@pytest.fixture
def served(store: Store, intake: HeardIntake) -> tuple[AsgiClient, Blobs]:
    backend = backend_over(store, intake)
    return AsgiClient(create_app(backend)), backend.blobs


@pytest.fixture
def client(served: tuple[AsgiClient, Blobs]) -> AsgiClient:
    return served[0]


@pytest.fixture
def commit(served: tuple[AsgiClient, Blobs]) -> Commit:
    client, blobs = served

    def make(files: dict[str, bytes | Entry], **more: Any) -> httpx.Response:
        entries = {
            name: content if isinstance(content, Entry) else _stored(blobs, content)
            for name, content in files.items()
        }
        manifest = Manifest(entries)
        body = {
            "client_id": secrets.token_hex(16),
            "entity": "e",
            "project": "p",
            "name": "model",
            "type": "model",
            "manifest": blobs.put(manifest.pack()),
            "digest": manifest.digest,
        }
        return client.post(ROOT, json=body | more)

    return make


def _stored(blobs: Blobs, content: bytes) -> Entry:
    blobs.put(content)
    return file_entry(content)


def artifact(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["artifact"]
    return found


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["field"]


def test_a_version_by_every_route(client: AsgiClient, commit: Commit, store: Store) -> None:
    run, me = StoredRun(store, "r1"), Said(0, mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    said = {"run": "e/p/r1", "entity": None, "project": None, "writer": "ab" * 16, "said_unix_s": 1.7e9}
    answered = commit({"a": b"1", "b/c": b"22"}, aliases=["best", "v9"], tags=["t"], ttl_s=1e6, **said)
    assert answered.json()["is_new"] is True
    made = artifact(answered)
    assert (made["version"], made["ignored_aliases"], made["said_unix_s"]) == ("v0", ["v9"], 1.7e9)
    assert made["logged_by"]["run_id"] == "r1"
    one = f"{ROOT}/{made['id']}"
    asked = {"entity": "e", "project": "p", "name": "model", "version": "best"}
    for url, parameters in ((one, {}), (f"{ROOT}/find", asked)):
        found = artifact(client.get(url, params=parameters))
        assert (found["id"], found["aliases"]) == (made["id"], ["best", "latest"])
    assert artifact(client.get(f"{ROOT}/by-client/{made['client_id']}"))["state"] == "committed"
    files = client.get(f"{one}/files", params={"prefix": "b/"}).json()
    assert [each["name"] for each in files["files"]] == ["b/c"]
    linked = artifact(client.post(f"{one}/links", json={"target": "model-registry/Det", "aliases": ["prod"]}))
    assert (linked["is_link"], linked["aliases"]) == (True, ["latest", "prod"])
    [shown] = client.get(f"{one}/links").json()["artifacts"]
    assert shown == linked
    changes = {"description": "d", "metadata": {"x": [1]}, "add_tags": ["u"], "ttl_s": None}
    changed = artifact(client.request("PATCH", one, json=changes))
    assert (changed["metadata"], changed["tags"], changed["ttl_s"]) == ({"x": [1]}, ["t", "u"], None)
    there = {"add_aliases": ["x"], "collection": linked["collection_id"]}
    assert artifact(client.request("PATCH", one, json=there))["aliases"] == ["latest", "prod", "x"]
    of_run = "/api/v1/runs/e/p/r1/artifacts"
    used = {"relation": "used", "artifact": made["id"], "use_as": "base"}
    assert artifact(client.post(of_run, json=used))["id"] == made["id"]
    logged = {"relation": "logged", "artifact": made["id"], "aliases": ["again"]}
    assert "again" in artifact(client.post(of_run, json=logged))["aliases"]
    assert client.get(of_run, params={"relation": "used"}).json()["artifacts"][0]["use_as"] == "base"
    assert client.get(of_run).json()["pending"] == 0
    assert client.get(f"{one}/used-by").json()["runs"][0]["run_id"] == "r1"
    assert client.request("DELETE", f"{one}/links/{linked['collection_id']}").json() == {"deleted": True}
    assert refusal(client.request("DELETE", one)) == (409, "artifact_has_aliases", "force")
    assert client.request("DELETE", one, params={"force": "true"}).json() == {"deleted": True}
    assert refusal(client.get(one)) == (404, "artifact_not_found", "artifact")


def test_collections_by_every_route(client: AsgiClient, commit: Commit) -> None:
    made = artifact(commit({"a": b"1"}))
    artifact(commit({"a": b"2"}, tags=["t"]))
    place = {"entity": "e", "project": "p"}
    assert client.get(f"{ROOT}/types", params=place).json() == {
        "types": [{"name": "model", "collection_count": 1}]
    }
    one = f"{ROOT}/collections/{made['collection_id']}"
    found = client.get(one).json()["collection"]
    assert (found["version_count"], found["latest"], found["kind"]) == (2, "v1", "logged")
    listed = client.get(f"{ROOT}/collections", params={**place, "pattern": "mo%", "type": "model"}).json()
    assert listed == {"collections": [found], "next_cursor": None}
    versions = client.get(f"{one}/versions", params={"limit": 1, "order": "asc"}).json()
    assert (versions["total"], versions["artifacts"][0]["version"]) == (2, "v0")
    more = {"limit": 1, "order": "asc", "cursor": versions["next_cursor"]}
    assert client.get(f"{one}/versions", params=more).json()["artifacts"][0]["version"] == "v1"
    tagged = client.get(f"{one}/versions", params={"tags": ["t"]}).json()
    assert tagged["total"] == 1
    changed = client.request("PATCH", one, json={"name": "m2", "description": "d", "tags": ["c"], "ttl_s": 9})
    assert (changed.json()["collection"]["name"], changed.json()["collection"]["ttl_s"]) == ("m2", 9)
    assert refusal(client.request("PATCH", one, json={"name": ""})) == (422, "bad_name", "name")
    assert client.request("DELETE", one).json() == {"deleted": True}
    assert refusal(client.get(one)) == (404, "collection_not_found", "collection")
    assert refusal(client.get(f"{one}/versions")) == (404, "collection_not_found", "collection")


def test_what_is_missing_is_named_so_that_it_can_be_sent(commit: Commit) -> None:
    absent = {f"{number}": entry_of(f"{number:064x}") for number in range(1500)}
    answered = commit(absent)
    assert refusal(answered) == (409, "blobs_missing", "manifest")
    assert answered.json()["missing_count"] == 1500
    assert len(answered.json()["missing"]) == 1000
    assert answered.json()["missing"][0] == f"{0:064x}"


REFUSALS: list[tuple[dict[str, Any], tuple[int, str, str]]] = [
    ({"run": "e/p/none"}, (404, "run_not_found", "run")),
    ({"run": "none"}, (400, "bad_request", "run")),
    ({"entity": None}, (400, "bad_request", "run")),
    ({"name": "a/b"}, (422, "bad_name", "name")),
    ({"name": "model:v1"}, (422, "bad_name", "name")),
    ({"aliases": ["a:b"]}, (422, "bad_name", "aliases")),
    ({"tags": ["a/b"]}, (422, "bad_name", "tags")),
    ({"manifest": "../../etc/passwd"}, (422, "bad_digest", "manifest")),
    ({"digest": "AB" * 32}, (422, "bad_digest", "digest")),
    ({"digest": "ab" * 16}, (422, "digest_mismatch", "digest")),
    ({"ttl_s": "soon"}, (422, "bad_ttl", "ttl_s")),
    ({"links": [{"target": "a/b/c/d"}]}, (422, "bad_target", "target")),
    ({"metadata": {"x": "y" * 1_100_000}}, (422, "bad_metadata", "metadata")),
    ({"metadata": [1]}, (400, "bad_request", "metadata")),
    ({"client_id": "x"}, (400, "bad_request", "client_id")),
    ({"client_id": "a" * 32 + "\n"}, (400, "bad_request", "client_id")),
    ({"surprise": 1}, (400, "bad_request", "surprise")),
    ({"said_unix_s": -1}, (400, "bad_request", "said_unix_s")),
    ({"aliases": ["a"] * 1001}, (400, "bad_request", "aliases")),
    ({"description": "x" * 70_000}, (400, "bad_request", "description")),
]


def test_what_can_not_be_is_refused(commit: Commit) -> None:
    for said, expected in REFUSALS:
        assert refusal(commit({"a": b"1"}, **said)) == expected, said


def test_types_are_fixed_and_the_failure_is_kept_for_the_run(
    client: AsgiClient, commit: Commit, store: Store
) -> None:
    run, me = StoredRun(store, "r1"), Said(0, mode="grouped", run_id="r1")
    me.log({"loss": 1.0})
    run.deliver(me)
    artifact(commit({"a": b"1"}))
    client_id = secrets.token_hex(16)
    refused = commit({"a": b"2"}, type="dataset", run="e/p/r1", client_id=client_id)
    assert refusal(refused) == (422, "type_mismatch", "type")
    assert "'model'" in refused.json()["error"]["message"]
    other = secrets.token_hex(16)
    failed = f"{ROOT}/by-client/{other}/failed"
    assert refusal(client.post(failed, json={"error": "x", "run": "e/p/r2"})) == (404, "run_not_found", "run")
    assert artifact(client.post(failed, json={"error": "gone", "run": "e/p/r1"}))["error"] == "gone"
    page = client.get("/api/v1/runs/e/p/r1/artifacts", params={"include_pending": "true"}).json()
    assert {each["client_id"]: each["state"] for each in page["artifacts"]} == {
        client_id: "failed",
        other: "failed",
    }


def test_metadata_keeps_what_json_has_no_word_for(client: AsgiClient, commit: Commit) -> None:
    made = artifact(commit({"a": b"1"}))
    changed = client.request(
        "PATCH",
        f"{ROOT}/{made['id']}",
        content='{"metadata": {"x": NaN, "y": -Infinity}}',
        headers={"Content-Type": "application/json"},
    )
    assert artifact(changed)["metadata"] == {"x": "NaN", "y": "-Infinity"}


def test_cursors_of_other_lists_are_refused(client: AsgiClient, commit: Commit, store: Store) -> None:
    made = artifact(commit({"a": b"1"}))
    for url in (
        f"{ROOT}/{made['id']}/used-by",
        f"{ROOT}/collections/{made['collection_id']}/versions",
    ):
        for cursor in ("x", "[1]", '["a", 1, ""]', "null"):
            assert refusal(client.get(url, params={"cursor": cursor})) == (400, "bad_request", "cursor")


def test_every_field_of_artifacts_is_documented(client: AsgiClient, commit: Commit) -> None:
    text = DOCS.read_text().split("## Artifacts over HTTP")[1].split("\n## ")[0]
    made = artifact(commit({"a": b"1"}))
    found = client.get(f"{ROOT}/collections/{made['collection_id']}").json()["collection"]
    documented = set(re.findall(r"`(\w+)`", text))
    assert (set(made) | set(found)) - documented == set()


def test_what_no_database_can_look_for_is_refused(client: AsgiClient, commit: Commit, store: Store) -> None:
    StoredRun(store, "r1").deliver(Said(0, mode="grouped", run_id="r1"))
    found = artifact(commit({"a": b"1"}))
    one, collection = f"{ROOT}/{found['id']}", f"{ROOT}/collections/{found['collection_id']}"
    for path, cursor in (
        (f"{collection}/versions", "9" * 30),
        (f"{collection}/versions", "-1"),
        (f"{one}/used-by", f'[1.0,{"9" * 30},""]'),
        ("/api/v1/runs/e/p/r1/artifacts", f'[1.0,{"9" * 30},""]'),
    ):
        assert refusal(client.get(path, params={"cursor": cursor})) == (400, "bad_request", "cursor"), path
    assert client.get(f"{one}/used-by", params={"cursor": '[1.0,1,"\\ud800"]'}).status_code == 200
    for use_as in ("a\0b", "\ud800"):
        said = {"relation": "used", "artifact": found["id"], "use_as": use_as}
        body = {"content": json.dumps(said), "headers": {"content-type": "application/json"}}
        artifact(client.request("POST", "/api/v1/runs/e/p/r1/artifacts", **body))
    listed = client.get(f"{ROOT}/collections", params={"entity": "e", "project": "p", "pattern": "a\\"})
    assert refusal(listed) == (400, "bad_request", "pattern")


def test_patterns_of_collections_heed_the_case(client: AsgiClient, commit: Commit) -> None:
    commit({"a": b"1"}, name="Model_1")
    commit({"a": b"1"}, name="model-2")

    def names(pattern: str) -> list[str]:
        answered = client.get(
            f"{ROOT}/collections", params={"entity": "e", "project": "p", "pattern": pattern}
        )
        return [each["name"] for each in answered.json()["collections"]]

    assert (names("model%"), names("%odel%"), names("%\\_%")) == (
        ["model-2"],
        ["Model_1", "model-2"],
        ["Model_1"],
    )
