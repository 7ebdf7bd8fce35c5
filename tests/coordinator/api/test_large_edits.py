"""Edits of thousands of keys cost what thousands of keys cost, not their square: ingest waits for an edit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold_coordinator.edits.changes import MAX_TAGS
from runfold_coordinator.edits.said import Edit, squeeze
from runfold_coordinator.store.store import Store

PATH = "/api/v1/runs/e/p/r"


def cpu_s(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def patch(client: AsgiClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.request("PATCH", PATH, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_ten_thousand_places_said_anew_are_taken_out_at_once() -> None:
    summary = tuple(("set", ("a", f"k{n}"), n) for n in range(10_000))
    config = {f"c{n}": n for n in range(10_000)}
    earlier = Edit(1, pk=1, summary=summary, config=config, fields={"name": "x", "notes": "y"})
    later = Edit(2, summary=(*summary[1:], ("set", ("b",), 1)), config={"c1": 2}, fields={"name": "z"})
    assert cpu_s(lambda: squeeze([earlier], later)) < 2.0  # it was 10 s and more
    ((left,), gone) = squeeze([earlier], later)
    assert (left.summary, left.fields, len(left.config), gone) == (summary[:1], {"notes": "y"}, 9999, [])
    assert squeeze([Edit(1, pk=7, summary=summary)], Edit(2, summary=(("del", ("a",)),))) == ([], [7])


def test_a_summary_of_thousands_of_edited_keys_is_read_in_no_time(client: AsgiClient, store: Store) -> None:
    run, said = StoredRun(store), Said(mode="grouped")
    said.log({f"k{n}": 1.0 for n in range(3000)})
    run.deliver(said)
    deep = [["set", ["a", f"s{n}"], {"x": n}] for n in range(3000)]
    patch(client, {"summary": deep})
    found = patch(client, {"summary": [["set", ["a", "s0", "x"], 7], ["set", "k0", 2], ["del", "k1"]]})
    assert len(found["summary"]["a"]) == 3000
    assert (found["summary"]["a"]["s0"], found["summary"]["k0"]) == ({"x": 7}, 2)
    assert "k1" not in found["summary"]
    assert cpu_s(lambda: patch(client, {"summary": [["del", f"k{n}"] for n in range(3000)]})) < 2.0
    assert cpu_s(lambda: patch(client, {})) < 2.0


def test_deleted_keys_that_nobody_logs_any_more_are_not_looked_for(
    client: AsgiClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = StoredRun(store), Said(mode="grouped", started_s=9e8)  # its clock: long after the edit
    said.log({f"k{n}": 1.0 for n in range(50)} | {"a.b\0": 1.0})
    run.deliver(said)
    patch(client, {"summary": [["del", f"k{n}"] for n in range(50)] + [["del", ["a.b\0"]]]})
    said.log({"k7": 2.0})
    said.log({"a.b\0": 3.0})
    run.deliver(said)
    asked: list[str] = []
    read_cells = Store.read_cells

    def counted(self: Store, run_pk: Any, key: str, **more: Any) -> Any:
        asked.append(key)
        return read_cells(self, run_pk, key, **more)

    monkeypatch.setattr(Store, "read_cells", counted)
    summary = patch(client, {})["summary"]
    assert {key for key in summary if not key.startswith("_")} == {"k7", "a.b\0"}
    assert len(asked) < 20


def test_tags_that_are_added_and_added_have_an_end(client: AsgiClient, store: Store) -> None:
    StoredRun(store).deliver(Said(mode="grouped", tags=("first",)))
    patch(client, {"add_tags": [f"t{n}" for n in range(MAX_TAGS - 1)]})
    response = client.request("PATCH", PATH, json={"add_tags": ["one more"]})
    assert (response.status_code, response.json()["error"]["limit"]) == (413, MAX_TAGS)
    found = patch(client, {"add_tags": ["one more"], "remove_tags": ["first"]})
    assert len(found["tags"]) == MAX_TAGS


def test_a_state_that_is_no_text_is_refused(client: AsgiClient, store: Store) -> None:
    StoredRun(store).deliver(Said(mode="grouped"))
    for state in ([], {}, ["failed"], 1):
        response = client.request("PATCH", PATH, json={"state": state})
        assert (response.status_code, response.json()["error"]["field"]) == (400, "state")
