"""Pages of history from a real store: reduced rows, rows of each writer, bounds, cursors, attempts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from coordinator.readers.stored_run import START_NS, Said, StoredRun
from runfold_coordinator.readers import history_windows
from runfold_coordinator.readers.history_reader import HistoryReader


def scan(run: StoredRun, **arguments: Any) -> list[dict[str, Any]]:
    """All pages, joined."""
    reader, rows, cursor = HistoryReader(run.store), [], None
    for _ in range(10_000):
        page = reader.scan(run.row, cursor=cursor, **arguments)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows
        assert len(page.rows) <= arguments.get("limit", 1000)
    raise AssertionError("a scan that does not end")


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("_timestamp", "_runtime")} for row in rows]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("per_chunk", [1, 3, None])
def test_one_writer_gives_one_merged_row_a_step(store, limit, per_chunk):
    said = Said(mode="grouped")
    said.log({"loss": 3.0, "n": 1})
    said.log({"a": {"b": 1}, "a.b": 2}, commit=False)
    said.log({"loss": math.inf, "flag": True})
    said.log({"text": "x"}, step=7)
    said.log({"loss": 1.0}, step=5)
    said.log({}, step=9, commit=True)
    said.log({"loss": 0.5}, step=7)
    run = StoredRun(store)
    run.deliver(said, per_chunk=per_chunk)
    rows = scan(run, limit=limit)
    assert plain(rows) == [
        {"loss": 3.0, "n": 1, "_step": 0},
        {"a": {"b": 1}, "a.b": 2, "loss": math.inf, "flag": True, "_step": 1},
        {"loss": 1.0, "_step": 5},
        {"text": "x", "loss": 0.5, "_step": 7},
        {"_step": 9},
    ]
    assert [type(v) for v in (rows[0]["n"], rows[0]["loss"], rows[1]["flag"])] == [int, float, bool]
    assert rows[1]["_timestamp"] == float(START_NS + 4_000_000_000) / 1e9  # the last merged call, seq 4
    assert rows[1]["_runtime"] == 4.0
    assert rows[3]["_runtime"] == 8.0


def test_a_leaf_and_a_subtree_in_one_row_leave_the_later_one(store):
    said = Said(mode="grouped")
    said.log({"a": 1}, commit=False)
    said.log({"a": {"b": 2}})
    said.log({"a": {"b": 3}}, commit=False)
    said.log({"a": 4})
    run = StoredRun(store)
    run.deliver(said, per_chunk=1)
    assert plain(scan(run)) == [{"a": {"b": 2}, "_step": 0}, {"a": 4, "_step": 1}]


def test_keys_leave_only_rows_that_have_them_all_and_bounds_hold(store):
    said = Said(mode="grouped")
    for i in range(10):
        said.log({"loss": float(i), **({"acc": i} if i % 3 == 0 else {}), "m": {"k": i}, "m.k": -i})
    run = StoredRun(store)
    run.deliver(said, per_chunk=4)
    assert scan(run, keys=["loss", "acc"]) == [{"loss": float(i), "acc": i} for i in (0, 3, 6, 9)]
    assert scan(run, keys=["acc", "_step"], min_step=1, max_step=9, limit=1) == [
        {"acc": 3, "_step": 3},
        {"acc": 6, "_step": 6},
    ]
    assert scan(run, keys=["m.k"], max_step=2) == [{"m": {"k": 0}}, {"m": {"k": 1}}]  # nested first
    assert scan(run, keys=[r"m\.k"], max_step=2) == [{"m.k": 0}, {"m.k": -1}]
    assert scan(run, keys=["nothing", "loss"]) == []
    assert [row["_step"] for row in scan(run, keys=["_step"], min_step=8)] == [8, 9]
    assert scan(run, min_step=4, max_step=4) == []


def shared(store) -> tuple[StoredRun, list[Said]]:
    ranks = [Said(rank) for rank in range(3)]
    for rank, said in enumerate(ranks):
        said.define("tok", reduce="sum")
        for i in range(5):
            said.log({"loss": rank + i / 10, "tok": 10 * (rank + 1), "epoch": i // 2, "host": f"n{rank}"})
    ranks[2].log({"only": 1})
    run = StoredRun(store)
    for said in ranks:
        run.deliver(said, per_chunk=2)
    return run, ranks


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_a_shared_run_is_reduced_by_step_and_rule(store, limit):
    run, _ = shared(store)
    rows = plain(scan(run, limit=limit))
    assert rows[:5] == [
        {
            "loss": (0 + i / 10 + (1 + i / 10) + (2 + i / 10)) / 3,
            "tok": 60,
            "epoch": i // 2,
            "host": "n0",
            "_step": i,
        }
        for i in range(5)
    ]
    assert rows[5] == {"only": 1, "_step": 5}
    assert [type(rows[0][k]) for k in ("loss", "tok", "epoch")] == [float, int, int]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_rows_of_each_writer_are_as_logged(store, limit):
    run, ranks = shared(store)
    rows = scan(run, per_writer=True, limit=limit)
    assert [(r["_step"], r["_rank"]) for r in rows] == [(s, k) for s in range(5) for k in range(3)] + [(5, 2)]
    assert rows[1] == {
        "loss": 1.0,
        "tok": 20,
        "epoch": 0,
        "host": "n1",
        "_step": 0,
        "_rank": 1,
        "_label": None,
        "_attempt": 1,
        "_writer": ranks[1].writer_id,
        "_seq": 3,
        "_timestamp": float(START_NS + 3_000_000_000) / 1e9,
        "_runtime": 3.0,
    }
    only = scan(run, per_writer=True, limit=limit, keys=["only"])
    assert [(r["only"], r["_seq"]) for r in only] == [(1, 8)] and "loss" not in only[0]
    assert {r["_rank"] for r in scan(run, per_writer=True, rank=1)} == {1}
    assert plain(scan(run, rank=1))[0] == {"loss": 1.0, "tok": 20, "epoch": 0, "host": "n1", "_step": 0}


def test_commit_false_and_inserted_steps_show_as_logged_only_per_writer(store):
    said = Said(mode="grouped")
    said.define("loss", step_metric="epoch")
    said.log({"epoch": 4}, commit=False)
    said.log({"x": 1})
    said.log({"loss": 1.0})
    run = StoredRun(store)
    run.deliver(said)
    assert plain(scan(run)) == [{"epoch": 4, "x": 1, "_step": 0}, {"loss": 1.0, "epoch": 4, "_step": 1}]
    logged = [
        {k: v for k, v in row.items() if not k.startswith("_") or k == "_seq"}
        for row in scan(run, per_writer=True)
    ]
    assert logged == [{"epoch": 4, "_seq": 3}, {"x": 1, "_seq": 4}, {"loss": 1.0, "_seq": 5}]


def test_rows_that_a_later_attempt_has_overtaken_are_hidden_unless_asked_for(store):
    first, second = Said(0, restart_hint=0), Said(0, started_s=100, restart_hint=1)
    for step in range(6):
        first.log({"loss": 1.0}, step=step, commit=True)
    for step in range(3, 8):
        second.log({"loss": 2.0}, step=step, commit=True)
    run = StoredRun(store)
    run.deliver(first)
    run.deliver(second)
    assert [row["loss"] for row in scan(run)] == [1.0] * 3 + [2.0] * 5
    assert [row["_attempt"] for row in scan(run, per_writer=True)] == [1] * 3 + [2] * 5
    everything = scan(run, per_writer=True, superseded=True)
    assert len(everything) == 11
    assert [row["_step"] for row in everything if row.get("_superseded")] == [3, 4, 5]


def test_automatic_steps_of_a_later_attempt_go_on_after_the_last_one(store):
    first, second = Said(mode="grouped"), Said(mode="grouped", started_s=100)
    for _ in range(3):
        first.log({"loss": 1.0})
    for _ in range(2):
        second.log({"loss": 2.0})
    run = StoredRun(store)
    run.deliver(second)
    run.deliver(first)
    assert plain(scan(run, limit=2)) == [
        {"loss": 1.0, "_step": 0},
        {"loss": 1.0, "_step": 1},
        {"loss": 1.0, "_step": 2},
        {"loss": 2.0, "_step": 3},
        {"loss": 2.0, "_step": 4},
    ]
    assert plain(scan(run, min_step=2, max_step=4)) == [{"loss": 1.0, "_step": 2}, {"loss": 2.0, "_step": 3}]


def test_a_page_looks_at_a_bounded_number_of_rows(store, monkeypatch):
    monkeypatch.setattr(history_windows, "MAX_ROWS_IN_VAIN", 50)
    said = Said(mode="grouped")
    for i in range(400):
        said.log({"loss": 1.0, **({"rare": i} if i == 390 else {})})
    run = StoredRun(store)
    run.deliver(said, per_chunk=10)
    page = HistoryReader(store).scan(run.row, keys=["rare"], limit=10)
    assert page.rows == [] and page.next_cursor is not None
    assert scan(run, keys=["rare"], limit=10) == [{"rare": 390}]


def test_an_empty_run_and_a_bad_cursor(store):
    run = StoredRun(store)
    assert scan(run) == []
    assert scan(run, per_writer=True) == []
    with pytest.raises(ValueError, match="cursor"):
        HistoryReader(store).scan(run.row, cursor="x;y")
