"""Runs are changed through the API: at once seen everywhere, merged with what processes say, errors with a field."""

from __future__ import annotations

import math
from typing import Any

import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold.api import Api, RequestError, RunNotFoundError
from runfold_coordinator.store.store import Store

PATH = "/api/v1/runs/e/p/r"


@pytest.fixture
def stored(store: Store) -> StoredRun:
    """A run that goes on: loss and acc logged, config lr, one tag."""
    run = StoredRun(store)
    said = Said(mode="grouped", config={"lr": 0.1, "deep": {"x": 1}}, name="calm", tags=("a",), notes="n")
    said.log({"loss": 1.0, "acc": 0.5})
    said.log({"loss": 0.5, "acc": 0.75})
    run.deliver(said)
    return run


def test_every_attribute_is_changed_and_read_back(stored: StoredRun, api: Api) -> None:
    run = api.run("e/p/r")
    run.name, run.notes, run.group, run.job_type = "new name", "**why**", "g", "train"
    run.tags.append("best")
    run.config["lr"] = 0.2
    run.config["deep"]["x"] = 2
    run.config["more"] = [1, "two", None]
    run.summary["score"] = 10**15
    run.summary["nested"] = {"a": math.inf}
    run.update()
    for found in (run, api.run("e/p/r"), api.runs("e/p")[0]):
        assert (found.name, found.display_name, found.notes, found.description) == (
            *("new name", "new name"),
            *("**why**", "**why**"),
        )
        assert (found.group, found.job_type, found.tags) == ("g", "train", ["a", "best"])
        assert found.config == {"lr": 0.2, "deep": {"x": 2}, "more": [1, "two", None]}
        assert found.summary["score"] == 10**15
        assert found.summary["nested"]["a"] == math.inf
        assert found.summary["loss"] == 0.5
    assert [member.id for member in api.group("e/p/g").runs()] == ["r"]


def test_filters_orders_and_lists_see_edits_at_once(stored: StoredRun, store: Store, api: Api) -> None:
    StoredRun(store, "other").deliver(Said(mode="grouped", run_id="other", started_s=5, config={"lr": 5}))
    run = api.run("e/p/r")
    run.config["lr"] = 7
    run.summary["score"] = 3
    run.name = "shown"
    run.tags = ["x"]
    run.update()
    for filters in (
        {"config.lr": {"$gt": 6}},
        {"config.lr.value": 7},
        {"summary_metrics.score": 3},
        {"tags": "x"},
        {"display_name": {"$regex": "^sho"}},
    ):
        assert [found.id for found in api.runs("e/p", filters)] == ["r"], filters
    assert [found.id for found in api.runs("e/p", order="-config.lr")] == ["r", "other"]
    assert [found.id for found in api.runs("e/p", order="+config.lr")] == ["other", "r"]


def test_only_what_was_changed_is_sent(stored: StoredRun, api: Api) -> None:
    one, two = api.run("e/p/r"), api.run("e/p/r")
    one.config["a"], one.tags = 1, [*one.tags, "one"]
    two.config["b"], two.tags = 2, [*two.tags, "two"]
    one.update()
    two.update()
    found = api.run("e/p/r")
    assert found.config == {"lr": 0.1, "deep": {"x": 1}, "a": 1, "b": 2}
    assert found.tags == ["a", "one", "two"]
    version = found.version
    found.update()
    assert (found.config["a"], found.tags[0]) == (1, "a")
    found.update()
    assert api.run("e/p/r").version == version


def test_config_keys_and_summary_keys_are_deleted(stored: StoredRun, api: Api) -> None:
    run = api.run("e/p/r")
    del run.config["lr"]
    del run.summary["acc"]
    run.summary.extra = 1
    run.update()
    found = api.run("e/p/r")
    assert "lr" not in found.config
    assert "acc" not in found.summary
    assert "acc" not in found.summary_metrics
    assert found.summary.extra == 1
    del found.summary["extra"]
    found.summary.update({"y": 2})
    again = api.run("e/p/r")
    assert "extra" not in again.summary
    assert again.summary["y"] == 2


def test_a_deleted_summary_key_comes_back_with_its_next_value(stored: StoredRun, api: Api) -> None:
    run = api.run("e/p/r")
    del run.summary["acc"]
    run.summary.update()
    more = Said(mode="grouped", config={"lr": 0.1, "deep": {"x": 1}}, name="calm", tags=("a",), notes="n")
    more.log({"loss": 1.0, "acc": 0.5})
    more.log({"loss": 0.5, "acc": 0.75})
    more.log({"loss": 0.25})
    stored.deliver(more)
    assert "acc" not in api.run("e/p/r").summary
    assert api.run("e/p/r").summary["loss"] == 0.25


def test_what_lies_in_a_summary_part_is_set(stored: StoredRun, api: Api) -> None:
    run = api.run("e/p/r")
    run.summary["part"] = {"a": 1, "b": {"c": 2}}
    run.summary.update()
    run.summary["part"]["b"]["c"] = 3
    run.summary.part.d = 4
    del run.summary["part"]["a"]
    run.summary.update()
    assert api.run("e/p/r").summary["part"] == {"b": {"c": 3}, "d": 4}


def test_summary_values_are_what_log_takes(stored: StoredRun, api: Api) -> None:
    import numpy as np

    run = api.run("e/p/r")
    run.summary.update({"i": np.int64(3), "f": np.float32(0.5), "list": (1, 2), "flag": True, "text": "x"})
    found = api.run("e/p/r").summary
    assert [found[key] for key in ("i", "f", "list", "flag", "text")] == [3, 0.5, [1, 2], True, "x"]
    with pytest.raises(Exception, match="can't be set"):
        run.summary["odd"] = object()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"name": 5}, "name"),
        ({"name": ""}, "name"),
        ({"notes": ["x"]}, "notes"),
        ({"tags": "a"}, "tags"),
        ({"tags": ["a" * 65]}, "tags"),
        ({"add_tags": [1]}, "add_tags"),
        ({"group": {}}, "group"),
        ({"config": {"lr": 1}}, "config.lr"),
        ({"config": {"set": []}}, "config.set"),
        ({"config": {"delete": [1]}}, "config.delete"),
        ({"config": {"set": {"_wandb": 1}}}, "config"),
        ({"summary": {"x": 1}}, "summary"),
        ({"summary": [["set", "x"]]}, "summary"),
        ({"summary": [["drop", "x", 1]]}, "summary"),
        ({"state": "finished"}, "state"),
        ({"by": 1}, "by"),
        ([], "body"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(stored: StoredRun, client: AsgiClient, body: Any, field: str) -> None:
    answer = client.request("PATCH", PATH, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
    assert client.get(PATH).json()["version"] == 1


def test_too_much_at_once_is_refused(stored: StoredRun, client: AsgiClient) -> None:
    answer = client.request("PATCH", PATH, json={"config": {"set": {"x": "x" * 1_100_000}}})
    assert answer.status_code == 413
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    answer = client.request("PATCH", PATH, json={"config": {"set": {"x": deep}}})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "config.x")


def test_values_that_no_database_column_holds_are_kept(
    stored: StoredRun, client: AsgiClient, api: Api
) -> None:
    answer = client.request(
        "PATCH", PATH, json={"name": "a\0b", "tags": ["t\0"], "config": {"set": {"k\0": "v\0"}}}
    )
    assert answer.status_code == 200
    run = api.run("e/p/r")
    assert (run.name, run.tags) == ("a�b", ["t�"])
    assert run.config["k\0"] == "v\0"


def test_a_run_is_made_joined_and_made_again(client: AsgiClient, api: Api, store: Store) -> None:
    run = api.create_run(run_id="made", project="p", entity="e")
    assert (run.id, run.state, run.config, dict(run.summary)) == ("made", "running", {}, {})
    run.config["queue"], run.name = "fast", "planned"
    run.summary["planned"] = True
    run.update()
    again = type(run).create(api, "made", "p", "e", state="pending")
    assert (again.name, again.state, again.summary["planned"]) == ("planned", "running", True)
    waiting = type(run).create(api, project="p", entity="e", state="pending")
    assert waiting.state == "pending"
    assert waiting.update_state("failed")
    assert (waiting.state, api.run(f"e/p/{waiting.id}").reason.startswith("set to failed by")) == (
        "failed",
        True,
    )
    assert waiting.update_state("pending")
    with pytest.raises(RequestError, match="invalid state transition"):
        again.update_state("pending")
    for body in ({"entity": "e", "project": "p"}, {"entity": "e", "project": "p", "run_id": "a/b"}):
        answer = client.post("/api/v1/runs", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "run_id")


def test_a_deleted_run_is_nowhere_and_comes_back(stored: StoredRun, client: AsgiClient, api: Api) -> None:
    run = api.run("e/p/r")
    run.summary.update({"kept": 1})
    run.delete()
    run.delete()  # as after an answer that was lost
    with pytest.raises(RunNotFoundError, match="runfold undelete e/p/r"):
        api.run("e/p/r")
    assert len(api.runs("e/p")) == len(api.all_runs()) == 0
    assert [project["name"] for project in api.projects()] == []
    for rest in ("", "/config", "/summary", "/history", "/series", "/writers", "/live", "/console", "/stop"):
        assert client.get(PATH + rest).status_code == 404, rest
    assert client.request("PATCH", PATH, json={"name": "x"}).status_code == 404
    with pytest.raises(RequestError, match="was deleted"):
        type(run).create(api, "r", "p", "e")
    (deleted,) = api.deleted_runs("e/p")
    assert (deleted["id"], deleted["purged_after"] > deleted["deleted_at"]) == ("r", True)
    found = api.undelete("e/p/r")
    assert (found.id, api.run("e/p/r").summary["kept"], api.deleted_runs()) == ("r", 1, [])


def test_a_run_without_processes_is_read_by_every_route(client: AsgiClient, api: Api) -> None:
    run = api.create_run(run_id="empty", project="p", entity="e")
    for rest in (
        *(
            "",
            "/config",
            "/summary",
            "/definitions",
            "/writers",
            "/live",
            "/accounting",
            "/attempts",
            "/goodput",
        ),
        *(
            "/system",
            "/metadata",
            "/keys",
            "/history",
            "/series",
            "/series?stream=system",
            "/stop",
            "/alerts",
        ),
        *("/console", "/files"),
    ):
        answer = client.get(f"/api/v1/runs/e/p/empty{rest}")
        assert answer.status_code == 200, (rest, answer.text)
    assert client.get("/metrics").status_code == 200
    assert client.post("/api/v1/runs/e/p/empty/stop", json={}).status_code == 409
    assert (run.metadata, run.commit, run.user, run.sweep, run.lastHistoryStep) == (
        None,
        None,
        None,
        None,
        -1,
    )
    assert list(run.scan_history()) == []
    assert run.history(pandas=False) == []
