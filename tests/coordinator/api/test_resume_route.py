"""GET .../resume: what a process is told before it goes on with a run; ranks of one job are told the same."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.api.asgi import AsgiClient
from coordinator.readers.stored_run import Said, StoredRun
from runfold.protocol.branching import Branch
from runfold_coordinator.edits.changes import Change
from runfold_coordinator.edits.changes import RunEdits as Edits
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.readers import resume_reader
from runfold_coordinator.store import tables as t
from runfold_coordinator.store.store import Store
from support.frames import FakeClock

PATH = "/api/v1/runs/e/p/r/resume"


def ask(client: AsgiClient, **asked: Any) -> dict[str, Any]:
    answer = client.get(PATH + "?" + "&".join(f"{name}={value}" for name, value in asked.items()))
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(rank: int | None = None, at_s: float = 0, count: int = 3, **more: Any) -> Said:
    process = Said(rank, mode="grouped" if rank is None else "shared", run_id="r", started_s=at_s, **more)
    for value in range(count):
        process.log({"loss": float(value)})
    return process


def test_a_run_that_nobody_knows_does_not_exist(client: AsgiClient) -> None:
    assert ask(client) == {"exists": False, "joined": False}
    assert client.get("/api/v1/runs/_nodes/p/r/resume").json() == {"exists": False, "joined": False}


def test_who_begins_is_told_of_a_deletion_only(store: Store, client: AsgiClient) -> None:
    assert ask(client, kind="begin") == {"exists": False, "joined": False}
    run = StoredRun(store, "r")
    run.deliver(said())
    assert ask(client, kind="begin") == {"exists": True, "joined": False}
    Deletion(store, FakeClock()).delete(run.row, by="ann")
    for kind in ("begin", "resume", "rewind", "fork"):
        assert ask(client, kind=kind) == {"exists": False, "joined": False, "deleted": True}


def test_who_comes_next_is_told_all_that_it_goes_on_with(store: Store, client: AsgiClient) -> None:
    run, first = StoredRun(store, "r"), said(config={"lr": 1}, tags=("a",), notes="n", name="mine")
    run.deliver(first)
    found = ask(client)
    assert (found["exists"], found["joined"], found["last_step"]) == (True, False, 2)
    assert (found["config"], found["tags"], found["notes"]) == ({"lr": 1}, ["a"], "n")
    assert (found["name"], found["state"], found["summary"]["loss"]) == ("mine", "running", 2.0)
    assert (found["runtime_s"], found["after_unix_ns"], found["left_out"]) == (4.0, first.started_ns, [])
    assert [one["host"] for one in found["live"]] == ["h"]
    assert "summary" not in ask(client, summary="false")
    first.exit()
    run.deliver(first)
    assert ask(client)["live"] == []


def test_a_step_to_go_back_to_has_its_own_time(store: Store, client: AsgiClient) -> None:
    StoredRun(store, "r").deliver(said(count=6))
    found = ask(client, kind="rewind", step=2)
    assert (found["last_step"], found["runtime_s"]) == (2, 4.0)
    assert "summary" not in ask(client, kind="fork", step=2)
    assert ask(client, kind="fork", step=100)["last_step"] == 5
    assert ask(client, kind="rewind", step=-1)["runtime_s"] == 0.0


def test_who_rewinds_is_told_the_summary_of_that_step(
    store: Store, client: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, first = StoredRun(store, "r"), said(count=4)
    first.set("early", 1)
    first.log({"loss": -1.0, "acc": 0.5})
    first.set("late", 2)
    first.exit()
    run.deliver(first)
    Edits(store, FakeClock()).edit(run.row, Change(summary=(("set", ("edited",), 3),)), by="ann")
    shown = ask(client, kind="rewind", step=3)["summary"]
    assert {key: shown[key] for key in shown if not key.startswith("_")} == {
        "loss": 3.0,
        "early": 1,
        "edited": 3,
    }
    assert shown["_step"] == 3
    assert ask(client, kind="rewind", step=4)["summary"]["acc"] == 0.5
    assert ask(client, kind="resume")["summary"]["late"] == 2  # and what is remembered is as it was
    monkeypatch.setattr(resume_reader, "MAX_FOLDED_CELLS", -1)
    found = ask(client, kind="rewind", step=3)
    assert "summary" not in found and found["left_out"] == ["summary"]


def test_ranks_of_one_launch_are_told_the_same(store: Store, client: AsgiClient) -> None:
    run = StoredRun(store, "r")
    me = {"mode": "shared", "launcher": "torchrun", "launcher_pid": 7, "launcher_start": 1.5, "host": "h"}
    assert not ask(client, rank=0, **me)["exists"]
    old = [said(rank, count=4 + rank) for rank in range(2)]
    run.deliver(old[0])
    # The first launch: rank 0 is there already, and lives.
    first = ask(client, rank=1, **me)
    assert (first["exists"], first["joined"]) == (False, True)
    run.deliver(old[1])
    told = ask(client, rank=0, **me)
    assert (told["exists"], told["last_step"]) == (True, 4)
    # Rank 0 of the second launch has begun and logged; rank 1 of it asks only now.
    again = said(0, 5000, 2, branch=Branch("resume", "r", 4), start_step=5)
    run.deliver(again)
    late = ask(client, rank=1, **me)
    assert (late["exists"], late["joined"], late["last_step"]) == (True, True, 4)
    assert late["after_unix_ns"] == told["after_unix_ns"]


def test_a_rank_more_than_before_belongs_to_the_next_launch_once_the_last_is_over(
    store: Store, client: AsgiClient
) -> None:
    run, old = StoredRun(store, "r"), said(0)
    run.deliver(old)
    assert ask(client, mode="shared", rank=3)["exists"] is False
    run.end_writer(old)
    assert ask(client, mode="shared", rank=3)["exists"] is True


def test_records_on_their_way_are_told(store: Store, client: AsgiClient) -> None:
    run, old = StoredRun(store, "r"), said()
    run.deliver(old)
    with store.transaction() as tx:
        tx.connection.execute(sa.update(t.writers).values(head_seq=50))
    assert ask(client)["pending"] == 0  # it lives: there will always be more
    run.end_writer(old)
    assert ask(client)["pending"] == 50 - len(old.records)


def test_what_is_too_large_is_left_out_and_named(
    store: Store, client: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume_reader, "MAX_PART_BYTES", 100)
    StoredRun(store, "r").deliver(said(config={"text": "x" * 200}))
    found = ask(client)
    assert found["left_out"] == ["config"] and "config" not in found and found["last_step"] == 2


def test_a_fork_is_as_far_as_its_base(store: Store, client: AsgiClient) -> None:
    base = StoredRun(store, "b")
    process = Said(mode="grouped", run_id="b", started_s=0)
    for value in range(5):
        process.log({"loss": float(value)})
    base.deliver(process)
    StoredRun(store, "r").deliver(said(None, 100, 0, branch=Branch("fork", "b", 2), start_step=3))
    found = ask(client)
    assert (found["last_step"], found["fork"]) == (2, {"run_id": "b", "step": 2})
    document = client.get("/api/v1/runs/e/p/r").json()
    assert document["forked_from"] == {"run_id": "b", "step": 2}
    assert [point["kind"] for point in document["branch_points"]] == ["fork"]
    assert [key["name"] for key in client.get("/api/v1/runs/e/p/r/keys").json()["keys"]] == ["loss"]


@pytest.mark.parametrize("asked", ["kind=teleport", "step=-2", "rank=-1", "launcher_start=nan", "mode=x"])
def test_nonsense_is_refused(store: Store, client: AsgiClient, asked: str) -> None:
    StoredRun(store, "r").deliver(said())
    assert client.get(f"{PATH}?{asked}").status_code in (400, 422)
