"""Deleted runs: hidden at once, unharmed while they are kept, brought back whole, purged without a rest."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold.protocol.identity import NODE_ENTITY
from runfold.protocol.records import AlertRecord, RecordKind
from runfold_coordinator.edits import deletion as module
from runfold_coordinator.edits.changes import Change, RunEdits, RunGoneError
from runfold_coordinator.edits.deletion import OF_RUN, QUIET_S, Deletion
from runfold_coordinator.store import branch_tables, tables
from runfold_coordinator.store.store import Store
from support.clocked_process import Process
from support.frames import Bench, Speaker, only_run

KEEP_S = 30 * 86400.0
#: Tables with a run_pk that the purge goes through by itself, and versions of artifacts, which outlive runs.
OTHERWISE = {"runs", "writers", "chunks", "alerts", "artifact_versions"}
#: Tables that belong to no run.
SHARED = {"meta", "counters", "partitions", "keys", "keysets", "keyset_keys", "projects"}


@pytest.fixture
def bench(each_bench: Bench) -> Bench:
    return each_bench


def say_everything(bench: Bench, process: Process) -> None:
    """Rows, records, a gap, evidence, an alert, an edit: something in every table that runs have."""
    process.hello(config={"a": 1})
    for step in range(20):
        process.log(step, loss=1.0, text="x" * 100)
    process.say(RecordKind.ALERT, AlertRecord("careful").pack())
    process.summary(("set", ("s",), 1))
    with bench.store.transaction() as tx:
        bench.board.add_evidence(tx, [Evidence(process.writer, e.EXIT, 1, {"code": 0, "how": "finish"}, "x")])
    run = bench.store.find_run("local", "demo", "run1")
    assert run is not None
    RunEdits(bench.store, bench.clock).edit(run, Change(config={"b": 2}), by="ann")


def counts(store: Store) -> dict[str, int]:
    return {
        table.name: store.fetch(sa.select(sa.func.count()).select_from(table))[0][0]
        for table in tables.metadata.sorted_tables
        if table.name not in SHARED
    }


def purge(deletion: Deletion) -> int:
    turns = 0
    while deletion.purge_some():
        turns += 1
        assert turns < 1000
    return turns


def test_every_table_of_runs_is_purged_or_kept_on_purpose() -> None:
    with_run = {table.name for table in tables.metadata.sorted_tables if "run_pk" in table.c}
    assert with_run == {table.name for table in OF_RUN} | OTHERWISE


def test_a_deleted_run_takes_what_its_process_says_and_comes_back_with_it(bench: Bench) -> None:
    process = Process(bench)
    say_everything(bench, process)
    deletion = Deletion(bench.store, bench.clock)
    deletion.delete(only_run(bench.store), by="ann")
    assert bench.store.list_runs() == []
    assert bench.store.list_projects() == []
    process.log(20, loss=2.0)
    bench.board.tick()
    assert bench.store.list_runs() == []
    (hidden,) = bench.store.deleted_runs()
    assert (hidden.row_count, hidden.deleted_by) == (21, "ann")
    with pytest.raises(RunGoneError):
        deletion.delete(hidden, by="bob")
    with pytest.raises(RunGoneError):
        RunEdits(bench.store, bench.clock).edit(hidden, Change(config={"x": 1}), by="bob")
    deletion.undelete(hidden)
    found = only_run(bench.store)
    assert (found.row_count, found.config, found.state) == (21, {"a": 1, "b": 2}, "finished")


def test_a_purge_leaves_nothing_of_the_run_and_all_of_the_others(bench: Bench, monkeypatch: Any) -> None:
    other = Speaker(b"o" * 16, run_path="local/demo/other")
    bench.feed(other.hello(), other.rows({"loss": [1.0, 2.0]}))
    before = counts(bench.store)
    say_everything(bench, Process(bench))
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)
    deletion = Deletion(bench.store, bench.clock)
    run = next(run for run in bench.store.list_runs() if run.run_id == "run1")
    deletion.delete(run, by="ann")
    bench.clock.now_s += KEEP_S - 1
    assert purge(deletion) == 0
    bench.clock.now_s += 2
    assert deletion.purge_some()  # and the coordinator is killed here
    assert purge(Deletion(bench.store, bench.clock)) > 3
    assert counts(bench.store) == before
    assert [run.run_id for run in bench.store.list_runs()] == ["other"]
    with pytest.raises(RunGoneError):
        deletion.undelete(run)


def test_a_run_of_which_a_part_was_purged_does_not_come_back(bench: Bench, monkeypatch: Any) -> None:
    process = Process(bench)
    say_everything(bench, process)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)
    deletion = Deletion(bench.store, bench.clock)
    deletion.delete(only_run(bench.store), by="ann")
    bench.clock.now_s += KEEP_S + 1
    (hidden,) = bench.store.deleted_runs()
    assert deletion.purge_some()  # its rows are gone, that of the run is not
    with pytest.raises(RunGoneError, match="being purged"):
        deletion.undelete(hidden)
    assert bench.store.list_runs() == []
    assert bench.store.deleted_runs() == []
    process.log(20, loss=2.0)  # a purge that waits again, as its process speaks, is not undone either
    assert purge(deletion) == 0
    with pytest.raises(RunGoneError, match="being purged"):
        deletion.undelete(hidden)
    bench.clock.now_s += QUIET_S + 1
    assert purge(deletion) > 0
    with pytest.raises(RunGoneError, match="has been purged"):
        deletion.undelete(hidden)


def test_a_run_that_is_heard_of_is_not_purged_yet(bench: Bench) -> None:
    process = Process(bench)
    process.hello()
    deletion = Deletion(bench.store, bench.clock)
    deletion.delete(only_run(bench.store), by="ann")
    bench.clock.now_s += KEEP_S + 1
    process.log(0, loss=1.0)
    assert purge(deletion) == 0
    bench.clock.now_s += QUIET_S + 1
    assert purge(deletion) > 0
    process.log(1, loss=2.0)  # a process that was silent for a month goes on: it is another run by now
    bench.board.tick()
    assert len(bench.store.list_runs()) <= 1
    assert bench.store.deleted_runs() == []


def test_a_project_made_by_hand_is_listed_without_runs(bench: Bench) -> None:
    edits = RunEdits(bench.store, bench.clock)
    for _ in range(2):
        edits.create_project("local", "empty")
    Process(bench).hello()
    assert bench.store.list_projects() == [("local", "demo", 1), ("local", "empty", 0)]
    assert bench.store.list_projects("other") == []


def test_a_run_stays_while_another_one_is_its_fork(bench: Bench) -> None:
    bench.feed(Speaker(b"f" * 16, run_path="local/demo/fork").hello())
    Process(bench).hello()
    fork = bench.store.find_run("local", "demo", "fork")
    assert fork is not None
    with bench.store.transaction() as tx:
        row = {"run_pk": fork.run_pk, "kind": "fork", "base_path": "local/demo/run1", "step": 5}
        tx.insert(branch_tables.branches, [row])
    deletion = Deletion(bench.store, bench.clock)
    base = bench.store.find_run("local", "demo", "run1")
    assert base is not None
    deletion.delete(base, by="ann")
    bench.clock.now_s += KEEP_S + 1
    assert purge(deletion) == 0
    deletion.delete(fork, by="ann")
    bench.clock.now_s += KEEP_S + 1
    assert purge(deletion) >= 2
    assert counts(bench.store)["runs"] == 0


def test_samples_of_nodes_are_removed_after_their_time(bench: Bench) -> None:
    say_everything(bench, Process(bench))
    before = counts(bench.store)
    agents = [Speaker(bytes([70 + at]) * 16, f"{NODE_ENTITY}/agents/{at}") for at in range(2)]
    for agent in agents:
        bench.feed(agent.hello(role="node", host="h", boot_id="b"), agent.rows({"node.cpu": [1.0] * 50}))
    both = counts(bench.store)
    forever = Deletion(bench.store, bench.clock, node_stats_days=0)
    deletion = Deletion(bench.store, bench.clock, node_stats_days=7)
    assert not deletion.purge_some()
    bench.clock.now_s += 6 * 86400.0
    bench.feed(agents[1].rows({"node.cpu": [2.0] * 50}))  # still sampling
    bench.clock.now_s += 2 * 86400.0
    assert not forever.purge_some()
    rounds = 0
    while deletion.purge_some():
        rounds += 1
    assert rounds > 1  # bounded pieces
    left = counts(bench.store)
    assert (left["runs"], left["writers"]) == (both["runs"] - 1, both["writers"] - 1)
    assert [run.run_id for run in bench.store.list_runs()] == ["run1"]
    bench.clock.now_s += 8 * 86400.0
    while deletion.purge_some():
        pass
    assert counts(bench.store) == before
    bench.feed(agents[1].rows({"node.cpu": [3.0]}))  # a spool that was away for so long harms nothing
