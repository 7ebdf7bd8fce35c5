"""What a batch of rows means for runs that branch: versions of forks, the last step, what may be purged."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from runfold.protocol.branching import Branch
from runfold.protocol.frames import Frame
from runfold.protocol.records import RecordKind, SummaryRecord
from runfold_coordinator.edits.deletion import Deletion
from runfold_coordinator.readers.history_reader import HistoryReader
from runfold_coordinator.store.branch_tables import branches
from runfold_coordinator.store.model import RunRow
from support.frames import START_NS, Bench, Speaker

KEEP_S = 30 * 86400.0


@pytest.fixture
def bench(each_bench: Bench) -> Bench:
    return each_bench


def speaker(run: str, number: int) -> Speaker:
    return Speaker(bytes([number]) * 16, f"local/demo/{run}")


def hello(process: Speaker, at: int, kind: str = "", run: str = "", step: int = -1) -> Frame:
    branch = Branch(kind, run, step) if kind else None
    return process.hello(started_unix_ns=START_NS + at, branch=branch, start_step=step + 1)


def row(bench: Bench, run: str, **more: Any) -> RunRow:
    found = bench.store.find_run("local", "demo", run, **more)
    assert found is not None
    return found


def steps(bench: Bench, run: str) -> list[int]:
    return [found["_step"] for found in HistoryReader(bench.store).scan(row(bench, run)).rows]


def test_late_rows_of_a_base_give_its_forks_and_theirs_a_new_version(bench: Bench) -> None:
    base, fork, twice = speaker("base", 1), speaker("fork", 2), speaker("twice", 3)
    bench.feed(hello(twice, 30, "fork", "fork", 6), hello(fork, 20, "fork", "base", 3))
    before = row(bench, "fork").version, row(bench, "twice").version
    bench.feed(hello(base, 10), base.rows({"loss": [1.0, 2.0]}))
    late = row(bench, "fork").version, row(bench, "twice").version
    assert late[0] > before[0] and late[1] > before[1]
    assert steps(bench, "twice") == [0, 1]
    # What lies above the step is none of the fork's business.
    bench.feed(base.rows({"loss": [3.0, 4.0]}, steps=[4, 5]))
    assert (row(bench, "fork").version, row(bench, "twice").version) == late
    bench.feed(base.rows({"loss": [9.0]}, steps=[3]))
    assert row(bench, "fork").version > late[0]
    later = row(bench, "twice").version
    bench.feed(base.others((RecordKind.SUMMARY, SummaryRecord((("set", ("s",), 1),)).pack())))
    assert row(bench, "twice").version > later
    assert steps(bench, "fork") == [0, 1, 3]


def test_a_fork_that_has_logged_nothing_is_as_far_as_its_base_was(bench: Bench) -> None:
    base, fork, twice = speaker("base", 1), speaker("fork", 2), speaker("twice", 3)
    late, sparse = speaker("late", 4), speaker("sparse", 5)
    bench.feed(hello(late, 15, "fork", "base", 1))
    assert row(bench, "late").last_step == -1
    bench.feed(hello(base, 10), base.rows({"loss": [1.0, 2.0, 3.0, 4.0]}, steps=[0, 1, 2, 10]))
    assert row(bench, "late").last_step == 1
    bench.feed(hello(fork, 20, "fork", "base", 2))
    bench.feed(hello(twice, 30, "fork", "fork", 20), hello(sparse, 30, "fork", "base", 7))
    assert [row(bench, run).last_step for run in ("fork", "twice", "sparse")] == [2, 2, 2]
    bench.feed(twice.others((RecordKind.SUMMARY, SummaryRecord((("set", ("s",), 1),)).pack())))
    assert row(bench, "twice").last_step == 2
    bench.feed(fork.rows({"loss": [9.0]}, steps=[3]), twice.rows({"loss": [9.0]}, steps=[21]))
    assert [row(bench, run).last_step for run in ("fork", "twice", "base")] == [3, 21, 10]


def test_the_last_step_of_a_rewound_run_is_one_that_counts(bench: Bench) -> None:
    old, new = speaker("run", 1), speaker("run", 2)
    bench.feed(hello(old, 10), old.rows({"loss": [1.0, 2.0, 3.0]}, steps=[0, 100, 200]))
    assert row(bench, "run").last_step == 200
    bench.feed(hello(new, 20, "rewind", "run", 150))
    assert row(bench, "run").last_step == 100
    bench.feed(old.rows({"loss": [4.0]}, steps=[300]))  # the old branch goes on, and stays old
    assert row(bench, "run").last_step == 100
    bench.feed(new.rows({"loss": [5.0]}, steps=[151]))
    assert row(bench, "run").last_step == 151
    assert [point["kind"] for point in row(bench, "run").branches] == ["rewind"]
    assert steps(bench, "run") == [0, 100, 151]


def test_a_base_is_kept_as_long_as_its_forks(bench: Bench) -> None:
    base, fork = speaker("base", 1), speaker("fork", 2)
    bench.feed(hello(base, 10), base.rows({"loss": [1.0, 2.0, 3.0]}))
    bench.feed(hello(fork, 20, "fork", "base", 1), fork.rows({"loss": [9.0]}, steps=[2]))
    deletion = Deletion(bench.store, bench.clock)
    deletion.delete(row(bench, "base"), by="ann")
    bench.clock.now_s += KEEP_S + 1
    assert not deletion.purge_some()
    assert steps(bench, "fork") == [0, 1, 2]
    assert bench.store.find_run("local", "demo", "base") is None
    deletion.delete(row(bench, "fork"), by="ann")
    bench.clock.now_s += KEEP_S + 1
    while deletion.purge_some():
        pass
    assert bench.store.deleted_runs() == []
    assert bench.store.fetch(sa.select(branches)) == []


def test_a_fork_of_a_run_that_is_gone_shows_what_it_logged(bench: Bench) -> None:
    fork, wild = speaker("fork", 2), speaker("wild", 3)
    bench.feed(hello(wild, 20, "fork", "a/b//c", 1))
    bench.feed(hello(fork, 20, "fork", "nobody", 1), fork.rows({"loss": [9.0]}, steps=[2]))
    assert steps(bench, "fork") == [2]
    assert row(bench, "fork").fork is not None


def test_a_branch_that_does_not_decode_is_a_dead_letter_and_harms_nobody(bench: Bench) -> None:
    from runfold.protocol.identity import Identity
    from runfold.protocol.values import pack_value

    process = speaker("run", 1)
    said = Identity(entity="local", project="demo", run_id="run", started_unix_ns=START_NS).to_map()
    for branch in ({"kind": 7}, [1], "x", {"kind": "fork"}, {"kind": "fork", "run": "b", "step": 2**70}):
        other = speaker("run", 10 + len(str(branch)))
        bench.feed(other.others((RecordKind.WRITER, pack_value({**said, "branch": branch}))))
    wild = {
        "kind": "teleport",
        "run": "b",
        "step": -(2**63),
        "runtime_s": float("nan"),
        "after_unix_ns": 2**63 - 1,
    }
    bench.feed(process.others((RecordKind.WRITER, pack_value({**said, "branch": wild}))))
    bench.feed(process.rows({"loss": [1.0]}, steps=[0]))
    found = row(bench, "run")
    assert bench.store.accounting(found.run_pk).dead_letters == 5
    assert steps(bench, "run") == [0] and found.branches == ()
