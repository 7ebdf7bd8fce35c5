"""The first failure of a group whose runs are the ranks of one job, or have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runfold.protocol import evidence as e
from runfold.protocol.evidence import Evidence
from runfold_coordinator.api.documents import group_document
from runfold_coordinator.readers.group_failure import GroupFailure, find_group_failure
from runfold_coordinator.store.store import Store
from support.frames import START_NS, Bench, Speaker
from support.stores import new_database

JOB = {"source": "torchrun", "job_id": "torchelastic:j", "launcher_pid": 7}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = Store.open(new_database(tmp_path / "runfold.db"))
    yield Bench(store)
    store.close()


def add(
    bench: Bench, name: str, status: int | None, t_s: float = 1.0, *, is_stopped: bool = False, **facts: Any
) -> None:
    speaker = Speaker(name.encode().ljust(16, b"-"), f"local/demo/{name}")
    bench.feed(speaker.hello(group="g", host="h", **facts))
    if is_stopped:
        asked = Evidence(speaker.writer, e.STOP, START_NS, {"by": "ann", "whole": True})
        sent = Evidence(speaker.writer, e.STOP_SIGNAL, START_NS, {"signum": 15})
        with bench.store.writing.transaction() as tx:
            bench.board.add_evidence(tx, [asked, sent])
    if status is not None:
        seen = Evidence(speaker.writer, e.WAIT, START_NS + int(t_s * 1e9), {"status": status, "by": "pidfd"})
        bench.board.tick([seen])


def look(bench: Bench) -> tuple[GroupFailure, dict[str, Any]]:
    runs = bench.store.list_group("local", "demo", "g")
    found = find_group_failure(bench.store, runs)
    return found, group_document("local", "demo", "g", runs, found)


def test_a_rank_that_its_launcher_ends_is_no_failure_of_the_group(bench: Bench) -> None:
    add(bench, "r0", 15, 3.0, rank=0, launcher=JOB)
    add(bench, "r1", 11, 2.5, rank=1, launcher=JOB)
    add(bench, "r2", 9, 33.0, rank=2, launcher=JOB)
    found, document = look(bench)
    assert found.first is not None
    assert (found.first["rank"], found.first["run"], found.first["state"]) == (1, "r1", "crashed")
    assert [(part["rank"], part["run"]) for part in found.first["induced"]] == [(0, "r0"), (2, "r2")]
    assert found.first["induced"][0]["reason"] == "killed by SIGTERM after rank 1 crashed"
    assert (document["state"], document["states"]) == ("crashed", {"killed": 2, "crashed": 1})
    assert document["first_failure"] == found.first


def test_folds_are_nobodys_consequence(bench: Bench) -> None:
    add(bench, "f0", 11, 1.0, fold=0)
    add(bench, "f1", 15, 2.0, fold=1)
    add(bench, "f2", 3 << 8, 3.0, fold=2)
    found, document = look(bench)
    assert found.first is not None and found.first["run"] == "f0" and found.first["induced"] == []
    assert document["state"] == "failed"


def test_a_fold_that_was_run_again_and_finished_has_not_failed(bench: Bench) -> None:
    add(bench, "f0", 11, 1.0, fold=0)
    add(bench, "f0b", 0, 2.0, fold=0, started_unix_ns=START_NS + 1)
    found, document = look(bench)
    assert found == GroupFailure()
    assert (document["state"], document["first_failure"]) == ("finished", None)


def test_jobs_of_different_launchers_do_not_explain_each_other(bench: Bench) -> None:
    add(bench, "a", 11, 1.0, rank=0, launcher={"source": "slurm", "job_id": "1"})
    add(bench, "b", 15, 2.0, rank=0, launcher={"source": "slurm", "job_id": "2"})
    add(bench, "c", None, rank=0, launcher={"source": "slurm", "job_id": "3"})
    found, document = look(bench)
    assert found.induced_run_pks == frozenset() and document["state"] == "running"


def test_ranks_that_their_launcher_ended_after_a_stop_are_nobodys_failure(bench: Bench) -> None:
    add(bench, "r0", 15, 2.5, rank=0, launcher=JOB)
    add(bench, "r1", 15, 2.0, rank=1, launcher=JOB, is_stopped=True)
    add(bench, "r2", 9, 33.0, rank=2, launcher=JOB)
    reasons = {run.run_id: run.reason for run in bench.store.list_group("local", "demo", "g")}
    assert reasons["r1"] == "stopped by ann: killed by SIGTERM"
    found, document = look(bench)
    assert found.first is None and len(found.induced_run_pks) == 2
    assert (document["state"], document["first_failure"]) == ("killed", None)
    # One of another job has failed by itself.
    add(bench, "r3", 3 << 8, 4.0, rank=3)
    assert look(bench)[0].first is not None
