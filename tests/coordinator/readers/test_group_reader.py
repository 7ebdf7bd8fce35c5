"""Groups from a real store: histories over runs against numpy, tables over folds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coordinator.readers.stored_run import Said, StoredRun
from coordinator.readers.test_series_reader import columns
from runfold_coordinator.readers import group_reader
from runfold_coordinator.readers.group_reader import GroupReader, leaves_of

SUMMARIES = {f"run{i}": {"acc": i / 10, "loss": {"min": float(i)}, "_step": 3, "text": "x"} for i in range(9)}


class Fixed:
    def summary(self, run) -> dict[str, Any]:
        return SUMMARIES[run.run_id]


def reader(store) -> GroupReader:
    return GroupReader(store, Fixed())


def folds(store, count=4, steps=20, **identity: Any) -> tuple[list[StoredRun], np.ndarray]:
    matrix = np.random.default_rng(3).normal(size=(count, steps))
    runs = []
    for i in range(count):
        run = StoredRun(store, f"run{i}", group="cv")
        said = Said(
            mode="grouped",
            run_id=f"run{i}",
            started_s=i,
            config={"lr": 0.1 if i < 2 else 0.2, "seed": i},
            **identity,
        )
        for step, value in enumerate(matrix[i].tolist()):
            said.log({"loss": value, "epoch": step // 4})
        said.exit()
        run.deliver(said)
        runs.append(run)
    return runs, matrix


@pytest.mark.parametrize("cells", [30, 10_000])
def test_the_mean_over_runs_and_its_spread_equal_numpy(store, monkeypatch, cells):
    monkeypatch.setattr(group_reader, "MAX_WINDOW_CELLS", cells)
    runs, matrix = folds(store)
    got = columns(reader(store).history([run.row for run in runs], stats=True))
    assert got["_step"] == list(range(20))
    assert got["loss"] == matrix.mean(axis=0).tolist()
    assert got["loss:std"] == matrix.std(axis=0, ddof=1).tolist()
    assert got["loss:argmin"] == [f"run{i}" for i in matrix.argmin(axis=0)]
    assert got["epoch"] == [step // 4 for step in range(20)]
    few = columns(reader(store).history([run.row for run in runs], keys=["loss"], samples=10))
    assert len(few["_step"]) <= 10 and set(few) == {"_step", "loss"}


@pytest.mark.parametrize("cells", [30, 10_000])
def test_runs_align_on_a_metric_by_its_last_value(store, monkeypatch, cells):
    monkeypatch.setattr(group_reader, "MAX_WINDOW_CELLS", cells)
    runs, matrix = folds(store)
    got = columns(reader(store).history([run.row for run in runs], keys=["loss"], x_axis="epoch"))
    assert got["epoch"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert got["loss"] == matrix[:, 3::4].mean(axis=0).tolist()


def test_a_run_of_many_ranks_is_reduced_before_it_counts(store):
    runs = []
    for i in range(2):
        run = StoredRun(store, f"run{i}", group="g")
        for rank in range(3):
            said = Said(rank, run_id=f"run{i}", started_s=10 * i + rank)
            said.log({"loss": float(10 * i + rank)})
            run.deliver(said)
        runs.append(run)
    got = columns(reader(store).history([run.row for run in runs], keys=["loss"], stats=True))
    assert got["loss"] == [6.0] and got["loss:count"] == [2] and got["loss:std"] == [math.sqrt(50)]
    assert got["loss:argmax"] == ["run1"]


def test_a_fold_that_ran_again_counts_once(store):
    runs = []
    for i, (fold, code) in enumerate([(0, 1), (0, 0), (1, 0), (1, None)]):
        run = StoredRun(store, f"run{i}", group="cv")
        said = Said(mode="grouped", run_id=f"run{i}", started_s=i, fold=fold)
        said.log({"loss": float(i)})
        if code is not None:
            said.exit(code)
        run.deliver(said)
        runs.append(run)
    rows = [run.row for run in runs]
    assert columns(reader(store).history(rows, keys=["loss"], stats=True))["loss:count"] == [2]
    assert columns(reader(store).history(rows, keys=["loss"]))["loss"] == [1.5]
    table = {row["key"]: row for row in reader(store).table(rows)}
    assert table["acc"]["n"] == 2 and table["acc"]["mean"] == pytest.approx(0.15)
    assert set(table) == {"acc", "loss.min"}
    assert [row["run_id"] for row in reader(store).summary(rows)] == ["run0", "run1", "run2", "run3"]


def test_tables_by_config_and_summaries_by_run(store):
    runs, _ = folds(store)
    rows = [run.row for run in runs]
    table = reader(store).table(rows, ["lr"])
    assert [(row["lr"], row["key"], row["n"]) for row in table] == [
        (0.1, "acc", 2),
        (0.1, "loss.min", 2),
        (0.2, "acc", 2),
        (0.2, "loss.min", 2),
    ]
    assert [(row["lr"], row["key"]) for row in reader(store).table(rows, ["-seed"])] == [
        (r["lr"], r["key"]) for r in table
    ]
    assert set(table[0]) == {"lr", "key", "mean", "std", "min", "max", "median", "n", "ci95_low", "ci95_high"}
    assert reader(store).summary(rows)[1] == {
        "run_id": "run1",
        "name": None,
        "fold": None,
        "state": "finished",
        "acc": 0.1,
        "loss.min": 1.0,
        "text": "x",
    }


def test_empty_groups_and_unknown_keys(store):
    assert reader(store).history([]).length == 0
    assert reader(store).table([]) == []
    runs, _ = folds(store, count=1)
    assert reader(store).history([runs[0].row], keys=["nothing"]).length == 0
    assert reader(store).history([runs[0].row], keys=["loss"], x_axis="nothing").length == 0


def test_leaves_of_a_summary():
    assert leaves_of({"a": {"b": 1, "c": {}}, "_wandb": {"runtime": 1}, "x": 2}) == {
        "a.b": 1,
        "a.c": {},
        "x": 2,
    }
